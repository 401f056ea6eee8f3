"""`[PRESET] [--field value] [--group.field value]`, the shape of every experiment's command line."""

import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

import tyro

from cvjax.errors import ConfigError

Config = TypeVar("Config")


def parse_experiment(
    presets: Mapping[str, Config],
    argv: Sequence[str] | None = None,
    *,
    default: str,
    prog: str,
    description: str,
) -> tuple[Config, bool]:
    """Reads a command line into a configuration.

    Args:
      presets: complete configurations by name; flags override their fields.
      argv: arguments, those of the process by default.
      default: the preset where the command names none.
      prog: the command, for --help.
      description: what it does, for --help.

    Returns:
      The configuration, and whether the command named a preset.

    Raises:
      ConfigError: no such preset. An unknown or mistyped flag prints its own message and exits with status 2.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments.pop(0) if named else default
    if name not in presets:
        raise ConfigError(f"there is no preset {name!r}; presets are {', '.join(presets)}")
    listing = f"{description}\n\nPresets, given as first argument: {', '.join(presets)}. Defaults below: {name}."
    preset = presets[name]
    config = tyro.cli(type(preset), default=preset, args=arguments, prog=f"{prog} [PRESET]", description=listing)
    return config, named
