"""`[PRESET] [--field value] [--group.field value]`, the shape of every experiment's command line."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import tyro

from cvjax.data.dataset import default_data_dir
from cvjax.errors import ConfigError

Config = TypeVar("Config")


def configure_run(
    presets: Mapping[str, Config],
    found: Callable[[pathlib.Path, Config], bool],
    *,
    instead: str,
    what: str,
    module: str,
    docstring: str,
    argv: Sequence[str] | None = None,
) -> Config:
    """The configuration of a command line; without preset and data set, the one that this machine has data for.

    Args:
      presets: complete configurations by name, among them `quick`, of the embedded scenes.
      found: (folder of prepared data sets, configuration) -> whether the data set of `instead` is at hand.
      instead: the preset to take where it is.
      what: that data set, for a message: "no VOC 2012 is prepared".
      module: of the experiment.
      docstring: of that module; its first line is shown by --help.
      argv: arguments, those of the process by default.

    Raises:
      ConfigError: no such preset.
    """

    def parse(bare: Config) -> Config:
        description = docstring.splitlines()[0]
        return parse_experiment(presets, bare=bare, prog=f"python -m {module}", description=description, argv=argv)

    config = parse(dataclasses.replace(presets["quick"], data="auto"))
    if config.data != "auto":
        return config
    where = pathlib.Path(config.data_dir).expanduser() if config.data_dir else default_data_dir()
    if found(where, config):
        return parse(presets[instead])
    print(f"{what} under {where}, so this trains on the embedded scenes (preset quick)")
    return dataclasses.replace(config, data="scenes")


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
