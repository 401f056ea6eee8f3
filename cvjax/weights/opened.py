"""Opens a file of weights, whoever wrote it, as a model of ours with its options and preprocessing."""

import dataclasses
import os
from typing import Any, NamedTuple

import jax
import numpy as np

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import model_info
from cvjax.models.config import ModelConfig
from cvjax.models.info import Preprocessing
from cvjax.weights.convert import Variables, from_torch
from cvjax.weights.darknet import darknet_preprocessing, is_darknet, open_darknet
from cvjax.weights.files import read_state_dict
from cvjax.weights.own import from_own, is_own, read_note, to_own
from cvjax.weights.recognize import find_model


class OpenedWeights(NamedTuple):
    """Holds the weights of a file.

    Attributes:
      model: Name of the model that they are of.
      num_classes: Number of its classes.
      options: Further arguments of `create_model`.
      variables: {"params": ..., "batch_stats": ...}.
      preprocessing: What the weights expect of an image; None where nobody says.
      expects: The same before a first convolution that reads blue first was turned.
      class_names: Names of the classes, where the file says them.
      whose: Sentence that says whose they are, and what they fit.
      state_dict: Arrays as the file has them.
    """

    model: str
    num_classes: int
    options: dict[str, Any]
    variables: Variables
    preprocessing: Preprocessing | None
    expects: Preprocessing | None
    class_names: tuple[str, ...] | None
    whose: str
    state_dict: dict[str, np.ndarray]


def open_weights(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    layout: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    key: jax.Array | None = None,
    red_first: bool = False,
) -> OpenedWeights:
    """Reads a file of weights and finds out what they are of, by keys and shapes; a darknet file by its size.

    Args:
      path: File that `read_state_dict` reads, or darknet's .weights.
      name: Name of the model, where the file leaves it open.
      layout: Name of the layout, where the file leaves it open.
      num_classes, in_channels, key: Arguments of `from_torch`.
      red_first: Whether to turn around a first convolution that reads blue first, and with it the preprocessing.

    Raises:
      CheckpointError: The file cannot be read, or no model of ours fits; the message names the nearest.
      ConfigError: An unknown name or layout.
    """
    if is_darknet(path):
        _check_kept(path, "a darknet file", num_classes, in_channels)
        return _darknet(path, name)
    state_dict = read_state_dict(path)
    if is_own(state_dict):
        _check_kept(path, "under our own names", num_classes, in_channels)
        return _own(path, state_dict, name)
    try:
        fit = find_model(state_dict, name, layout)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    preprocessing, turned = fit.architecture.preprocessing or model_info(fit.model).preprocessing, state_dict
    expects = preprocessing
    first = state_dict.get(fit.architecture.input_key)
    if red_first and preprocessing is not None and preprocessing.bgr and first is not None:
        turned = {**state_dict, fit.architecture.input_key: first[:, ::-1]}
        preprocessing = dataclasses.replace(preprocessing, bgr=False)
    variables = from_torch(
        fit.model,
        turned,
        num_classes=num_classes,
        in_channels=in_channels,
        key=key,
        layout=fit.architecture.layout,
    )
    changed = {"num_classes": num_classes, "in_channels": in_channels}
    options = fit.options | {option: value for option, value in changed.items() if value is not None}
    count = options.pop("num_classes")
    note = read_note(path) or {}
    if note.get("preprocessing"):  # of a run of ours
        expects = preprocessing = _preprocessing(note["preprocessing"])
    known = tuple(note["class_names"]) if note.get("class_names") and num_classes is None else None
    return OpenedWeights(fit.model, count, options, variables, preprocessing, expects, known, str(fit), state_dict)


def _check_kept(path: str | os.PathLike[str], what: str, num_classes: int | None, in_channels: int | None) -> None:
    if num_classes is not None or in_channels is not None:
        raise ConfigError(f"{path} is {what} and keeps its classes and channels; --init takes it for others")


def _darknet(path: str | os.PathLike[str], name: str | None) -> OpenedWeights:
    model, classes, options, variables = open_darknet(path, name)
    seen = darknet_preprocessing(model)
    whose = f"{model} (num_classes={classes}), a darknet file"
    return OpenedWeights(model, classes, options, variables, seen, seen, None, whose, to_own(variables))


def _preprocessing(told: dict[str, Any]) -> Preprocessing:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return Preprocessing(**fields)


def _own(path: str | os.PathLike[str], state_dict: dict[str, np.ndarray], name: str | None) -> OpenedWeights:
    note = read_note(path)
    if note is None:
        raise CheckpointError(
            f"{path} is under our own names and does not say of which model; start a run of that model with --init"
        )
    config = ModelConfig.from_json(note["model"])
    if name not in (None, config.name):
        raise ConfigError(f"{path} says that it is of {config.name}, not of {name}; leave --as out")
    whose = f"{config.name}, under our own names"
    names = tuple(note["class_names"]) if note.get("class_names") else None
    told = note.get("preprocessing")
    variables = from_own(state_dict)
    preprocessing = _preprocessing(told) if told else model_info(config.name).preprocessing
    return OpenedWeights(
        config.name,
        note["num_classes"],
        dict(config.options),
        variables,
        preprocessing,
        preprocessing,
        names,
        whose,
        state_dict,
    )


def describe(
    model: str,
    options: dict[str, Any],
    num_classes: int,
    class_names: tuple[str, ...] | None,
    preprocessing: Preprocessing | None = None,
) -> dict[str, Any]:
    """Returns what a file says of the model beside its arrays, see `cvjax.weights.own.note`."""
    record: dict[str, Any] = {"model": {"name": model, "options": options}, "num_classes": num_classes}
    record |= {"class_names": list(class_names)} if class_names else {}
    return record | ({} if preprocessing is None else {"preprocessing": dataclasses.asdict(preprocessing)})
