"""This module reads the command line of every experiment.

The command line is `[PRESET] [--config FILE] [--field value] [--group.field value]`.
"""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from cvjax.cli.shell.reading import read
from cvjax.datasets.registry import is_available, own_place
from cvjax.engine.command import take_flag
from cvjax.engine.config import RunConfig, config_from_json, mistyped
from cvjax.engine.guards.terminal import make_console
from cvjax.engine.version01 import upgrade
from cvjax.errors import ConfigError, UserError
from cvjax.files import default_data_dir
from cvjax.models.config import ModelConfig
from cvjax.models.schema import Field, attribute_sentences, model_fields
from cvjax.storage import as_path

Config = TypeVar("Config", bound=RunConfig)
Setting = TypeVar("Setting")

_JSON = "With --json FILE what the run came to is written there too; - is standard output."


def parse(
    presets: Mapping[str, Config],
    docstring: str | None,
    module: str,
    *,
    default: str = "quick",
    argv: Sequence[str] | None = None,
) -> Config:
    """Reads the command line of an experiment into a configuration.

    Without a preset and a dataset it takes the preset `default` if the dataset of that preset is prepared or found.
    Otherwise it takes the preset `quick` on the embedded scenes. The default folder is runs/EXPERIMENT/PRESET.

    Args:
      presets: Complete configurations by name, among them `quick`.
      docstring: Docstring of the experiment; its first line is shown by --help, or the experiment's name without one.
      module: Name of the experiment's module, such as "experiments.deeplab_voc".
      default: Preset to take where its dataset is at hand.
      argv: Arguments, those of the process by default.

    Where the docstring shows a preset with --init, and there is none, a line says so.

    Raises:
      ConfigError: No such preset, model or flag, a value that is none, or a file that holds no configuration.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    experiment = module.rpartition(".")[2]
    command, summary = f"train {experiment} [PRESET]", (docstring or experiment).splitlines()[0]
    text = f"{summary}\n\nPresets, one of which may come first: {', '.join(presets)}. {_JSON}"

    # tyro's overridable_config_cli makes presets subcommands, but the flags of a model follow from --model.name.
    def read(base: Config, name: str) -> Config:
        if not base.workdir:
            base = dataclasses.replace(base, workdir=f"runs/{experiment}/{name}")
        config = _with_own_data(_parse(_with_model(base, arguments), arguments, command, text))
        usual = usual_start(docstring, experiment, name)
        if usual is not None and config.init is None and not config.resume:
            _say(f"{name} starts from drawn weights, as there is no --init; the usual start is --init {usual}")
        return config

    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        if name not in presets:
            raise ConfigError(f"there is no preset {name!r}; presets are {', '.join(presets)}")
        return read(presets[name], name)
    arguments, path = take_flag(arguments, "--config")
    if path is not None:
        return read(read_config(type(presets["quick"]), path), "quick")
    if default == "quick":
        return read(presets["quick"], "quick")
    # `auto` stays only where the command line names none.
    config = read(dataclasses.replace(presets["quick"], data="auto"), "quick")
    if config.data != "auto":
        return config
    wanted = presets[default]
    splits = (wanted.input.train_split, wanted.input.eval_split)
    if is_available(wanted.data, splits, data_dir=config.data_dir, manual_dir=config.input.manual_dir):
        return read(wanted, default)
    root = config.data_dir or default_data_dir()
    _say(f"{wanted.data} is not prepared or found under {root}, so this trains on the embedded scenes (preset quick)")
    return dataclasses.replace(config, data="scenes")


def read_fields(base: Setting, argv: Sequence[str] | None, command: str, text: str) -> Setting:
    """Returns a dataclass whose fields are changed by flags; the help of each is what the docstrings of its bases say.

    Args:
      base: Value that holds the defaults.
      argv: Words of the command line, those of the process by default.
      command: Name of the command, as it stands behind `cvjax`.
      text: Sentences about the command.

    Raises:
      ConfigError: A flag that does not exist, or a value that is none.
    """
    shown = _with_help(type(base), base, {})
    return _restored(read(shown[0], argv, command, default=shown[1], description=text), base)


def _say(line: str) -> None:
    make_console(note=True).print(line, soft_wrap=True)


def usual_start(docstring: str | None, experiment: str, preset: str) -> str | None:
    """Returns what a preset starts from in the first such command of the experiment's docstring; None without one."""
    found = re.search(rf"\.{experiment} {preset} --init (\S+)", docstring or "")
    return found and found[1]


def read_config(kind: type[Config], path: str) -> Config:
    """Reads the configuration of an earlier run from its config.json.

    Raises:
      ConfigError: There is no such file, or it holds no configuration of such a run.
    """
    wanted = "give the config.json of a run of this experiment"
    try:
        found = json.loads(as_path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); {wanted}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is no JSON from line {error.lineno}, column {error.colno} on; {wanted}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON, nor any text; {wanted}") from error
    try:
        values = dict(upgrade(found)["run"])
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(kind)})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} holds no run; {wanted}") from error
    try:
        config = config_from_json(kind, values)
        wrong = mistyped(config)
        if wrong is not None:
            raise ConfigError(f"{wrong}; mend it there, or {wanted}")
        return config
    except UserError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{', '.join(unknown)}, which such a run does not have" if unknown else f"other values ({error})"
        raise ConfigError(f"{path} holds {what}; {wanted}") from error


def _with_own_data(config: Config) -> Config:
    """Puts the path of one's own data, where it stands in the place of a data set's name, into `input.manual_dir`."""
    if config.data == "auto":
        return config
    name, place = own_place(config.data, config.input.manual_dir)
    if name == config.data:
        return config
    data = dataclasses.replace(config.input, manual_dir=None if place is None else os.fspath(place))
    return dataclasses.replace(config, data=name, input=data)


def _with_model(config: Config, arguments: Sequence[str]) -> Config:
    """Changes the architecture if the command line names one, and says which options of the preset it lacks."""
    rest, name = take_flag(arguments, "--model.name")
    while name is not None and "--model.name" in {word.partition("=")[0] for word in rest}:
        rest, name = take_flag(rest, "--model.name")  # the last one counts, as of any flag
    if name is None or name == config.model.name:
        return config
    model, dropped = config.model.with_name(name)
    if dropped:
        _say(f"{name} has no option {', '.join(dropped)}; left out")
    return dataclasses.replace(config, model=model)


def _parse(config: Config, arguments: Sequence[str], command: str, text: str) -> Config:
    """Lets flags override the fields of a configuration, among them those of its architecture."""
    fields = model_fields(config.model.name)
    shown = _with_help(type(config), config, {"model": _model_type(fields, config.model)})
    return _restored(read(shown[0], arguments, command, default=shown[1], description=text), config, fields)


def _model_type(fields: Sequence[Field], model: ModelConfig) -> tuple[type, Any]:
    """Makes a dataclass of a model's name and options, and the value of it for a configuration."""
    name = Field("name", str, model.name, "Name of the architecture, one of `cvjax.list_models()`.")
    return _schema("Model", [name, *fields], model.options)


def _schema(title: str, fields: Sequence[Field], changed: Mapping[str, Any]) -> tuple[type, Any]:
    shown = []
    for field in fields:
        kind, value = field.kind, changed.get(field.name, field.default)
        if isinstance(kind, list):
            kind, value = _schema(field.name.title(), kind, changed.get(field.name, {}))
        shown.append(Field(field.name, kind, value, field.sentence))
    return _as_dataclass(title, shown)


def _as_dataclass(title: str, fields: Sequence[Field]) -> tuple[type, Any]:
    """Makes a dataclass of fields with their help, and the value of it that holds their defaults."""
    rows = [
        (
            field.name,
            Annotated[field.kind, tyro.conf.arg(help=field.sentence)],
            dataclasses.field(default=field.default),
        )
        for field in fields
    ]
    made = dataclasses.make_dataclass(title, rows, frozen=True)
    return made, made(**{field.name: field.default for field in fields})


def _with_help(kind: type, value: Any, special: Mapping[str, tuple[type, Any]]) -> tuple[type, Any]:
    """Makes a copy of a configuration's dataclass that has the help of each field, and the value in it.

    tyro finds the sentences of a class that stand in a section of its own, but not those of its bases.
    """
    hints, sentences, shown = get_type_hints(kind, include_extras=True), attribute_sentences(kind), []
    for field in dataclasses.fields(kind):
        made, default = hints[field.name], getattr(value, field.name)
        if field.name in special:
            made, default = special[field.name]
        elif dataclasses.is_dataclass(made) and isinstance(made, type):
            made, default = _with_help(made, default, {})
        shown.append(Field(field.name, made, default, sentences.get(field.name, "")))
    return _as_dataclass(kind.__name__, shown)


def _restored(parsed: Any, config: Any, fields: Sequence[Field] | None = None) -> Any:
    """Returns a configuration of the original classes from the parsed value."""
    values = {}
    for field in dataclasses.fields(config):
        value, before = getattr(parsed, field.name), getattr(config, field.name)
        if isinstance(before, ModelConfig):
            values[field.name] = ModelConfig(before.name, **_changes(value, fields or [], before.options))
        elif dataclasses.is_dataclass(before) and type(value) is not type(before):
            values[field.name] = _restored(value, before)
        else:
            values[field.name] = value
    return type(config)(**values)


def _changes(parsed: Any, fields: Sequence[Field], before: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that differ from the architecture's defaults, and those that no flag can hold."""
    typed = {field.name for field in fields}
    changes = {name: value for name, value in before.items() if name not in typed}
    for field in fields:
        value = getattr(parsed, field.name)
        if isinstance(field.kind, list):
            given = before.get(field.name, {})
            nested = _changes(value, field.kind, given if isinstance(given, Mapping) else {})
            if nested:
                changes[field.name] = nested
        elif value != field.default:
            changes[field.name] = value
    return changes
