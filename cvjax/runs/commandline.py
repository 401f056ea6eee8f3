"""`[PRESET] [--field value] [--group.field value]`, the shape of every experiment's command line."""

import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

import tyro

from cvjax.errors import ConfigError

Config = TypeVar("Config")


def parse_experiment(
    presets: Mapping[str, Config],
    *,
    bare: Config,
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
) -> Config:
    """Reads a command line into a configuration.

    Args:
      presets: complete configurations by name; flags override their fields.
      bare: what flags override where the command names no preset.
      prog: the command, for --help.
      description: what it does, for --help.
      argv: arguments, those of the process by default.

    Raises:
      ConfigError: no such preset. An unknown or mistyped flag prints its own message and exits with status 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    preset = bare
    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        if name not in presets:
            raise ConfigError(f"there is no preset {name!r}; presets are {', '.join(presets)}")
        preset = presets[name]
    text = f"{description}\n\nPresets, one of which may come first: {', '.join(presets)}."
    return tyro.cli(type(preset), default=preset, args=arguments, prog=f"{prog} [PRESET]", description=text)
