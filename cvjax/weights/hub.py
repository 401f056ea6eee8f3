"""Loads published weights by name; they are fetched once, checked, and kept beside the data sets."""

import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from cvjax.errors import CheckpointError, ConfigError
from cvjax.files import download
from cvjax.imagenet import IMAGENET_MEAN, IMAGENET_STD
from cvjax.models import list_models, model_info
from cvjax.models.info import Preprocessing
from cvjax.storage import data_folder
from cvjax.weights.convert import Variables, from_torch
from cvjax.weights.files import check_readable, read_state_dict
from cvjax.weights.published import DEFAULTS, HUB, PUBLISHED
from cvjax.weights.published.repository import fetch_repository, unreachable
from cvjax.weights.recognize import find_model


class Pretrained(NamedTuple):
    """Holds weights, and the preprocessing of photographs that they expect (see `cvjax.weights.preprocess`)."""

    variables: Variables
    preprocessing: Preprocessing


class Fetched(NamedTuple):
    """Describes a file of published weights: its model, its path, the preprocessing, and the model's options."""

    model: str
    path: pathlib.Path
    preprocessing: Preprocessing
    options: Mapping[str, Any] = MappingProxyType({})


def load_pretrained(
    reference: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    aux: bool | None = None,
    key: jax.Array | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Pretrained:
    """Loads published weights as Flax variables, with their preprocessing; they are fetched the first time.

    Args:
      reference: Name of the weights. A model's name, such as "resnet50", takes the weights that its publisher
        recommends. A name that `list_pretrained()` shows is one too, such as "resnet50.imagenet1k_v1". So is a
        repository of timm's on Hugging Face's hub, such as "hf-hub:timm/resnet50.a1_in1k", with or without "@REVISION"
        (a branch, a tag or a commit) behind it, or any other with a config.json and a model.safetensors that fits a
        model of ours.
      num_classes, in_channels, aux, key: Arguments of `from_torch`.
      data_dir: Folder in whose subfolder `weights` the files are kept; None is $CVJAX_DATA_DIR, else `~/.cache/cvjax`.
      progress: Whether to show a bar while fetching.

    Returns:
      (variables, preprocessing), for a model built with the same `num_classes` and otherwise default options, or those
      that the weights need; `cvjax.load_pretrained` builds the model as well.

    Raises:
      ConfigError: The name is not known, or `from_torch` raises it.
      CheckpointError: The weights cannot be fetched or are damaged (the message says which file to fetch by hand, and
        where to put it), or `from_torch` raises it.
    """
    fetched = fetch_pretrained(reference, data_dir=data_dir, progress=progress)
    return load_fetched(fetched, num_classes=num_classes, in_channels=in_channels, aux=aux, key=key)


def load_fetched(
    fetched: Fetched,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    aux: bool | None = None,
    key: jax.Array | None = None,
) -> Pretrained:
    """Reads a fetched file as Flax variables; arguments, result and errors are those of `load_pretrained`."""
    variables = from_torch(
        fetched.model,
        read_state_dict(fetched.path),
        num_classes=num_classes,
        in_channels=in_channels,
        aux=aux,
        key=key,
    )
    return Pretrained(variables, fetched.preprocessing)


def read_weights(source: str, *, data_dir: str | os.PathLike[str] | None = None) -> dict[str, np.ndarray]:
    """Reads the state dict of published weights, or of a file.

    The arguments and errors are those of `load_pretrained` and `read_state_dict`.
    """
    return read_state_dict(fetch_pretrained(source, data_dir=data_dir).path if is_pretrained(source) else source)


def is_pretrained(reference: str) -> bool:
    """Returns whether `load_pretrained` knows a name; an unknown one may be a file."""
    return reference in PUBLISHED or reference in DEFAULTS or reference.startswith(HUB)


def fetch_pretrained(
    reference: str, *, data_dir: str | os.PathLike[str] | None = None, progress: bool = True
) -> Fetched:
    """Returns the file of published weights, fetched if it is not there yet.

    The arguments and errors are those of `load_pretrained`.
    """
    if not is_pretrained(reference):
        raise ConfigError(
            f"no weights are called {reference!r}; cvjax.weights.list_pretrained() names those that are, and "
            f"{HUB}timm/NAME takes any of timm's"
        )
    folder = data_folder(data_dir) / "weights"
    published = PUBLISHED.get(DEFAULTS.get(reference, reference))
    source = reference if published is None else published.source
    if published is None or source.startswith(HUB):
        return _fetch_from_hub(source.removeprefix(HUB), folder)
    assert published.preprocessing is not None  # only the hub's repositories say it themselves
    path = _fetch_url(source, folder, progress)
    return Fetched(published.model, path, published.preprocessing)


def _fetch_url(url: str, folder: pathlib.Path, progress: bool) -> pathlib.Path:
    target = folder / url.rpartition("/")[2]
    match = re.fullmatch(r".*-([0-9a-f]{8,})\.\w+", target.name)
    assert match is not None, target.name
    digits = match.group(1)

    def check(path: pathlib.Path) -> None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(digits):
            raise CheckpointError(
                f"{path}: its sha256 begins with {digest[: len(digits)]} and not with {digits}, so it is damaged or "
                f"another file; remove it and fetch it again from {url}"
            )

    if target.is_file():
        check(target)
        return target
    check_readable(target)  # before it is fetched in vain
    try:
        return download(url, target, check=check, progress=progress)
    except OSError as error:
        raise unreachable(target, url, getattr(error, "reason", None) or error) from error


def _fetch_from_hub(repository: str, folder: pathlib.Path) -> Fetched:
    config_path, path = fetch_repository(repository, folder)
    try:
        config = json.loads(config_path.read_text())
        described = config.get("pretrained_cfg", config)
        model, classes = config.get("architecture"), config.get("num_classes")
        preprocessing = _timm_preprocessing(described) if "architecture" in config else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{config_path} does not describe a net that cvjax can feed ({error}); for its weights alone, give "
            f"{path} to cvjax.load_pretrained"
        ) from error
    if model in list_models() and preprocessing is not None:
        options = {"num_classes": classes} if isinstance(classes, int) else {}
        return Fetched(model, path, preprocessing, options)
    try:  # somebody else's, such as segmentation_models_pytorch's, or an architecture that timm calls otherwise
        fit = find_model(read_state_dict(path))
    except CheckpointError as error:
        raise CheckpointError(f"{HUB}{repository} holds {model or 'a net'} that is none of ours: {error}") from error
    expected = preprocessing or fit.architecture.preprocessing or model_info(fit.model).preprocessing
    assert expected is not None  # `ModelInfo` fills it in
    return Fetched(fit.model, path, expected, fit.options)


def _timm_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing of `timm.data.create_transform` for evaluation, at the size of training."""
    _, height, width = config.get("input_size", (3, 224, 224))
    if height != width or config.get("crop_mode", "center") != "center":
        raise ValueError("images are not cropped to a centered square")
    return Preprocessing(
        size=height,
        resize=math.floor(height / config.get("crop_pct", 0.875)),
        mean=tuple(config.get("mean", IMAGENET_MEAN)),
        std=tuple(config.get("std", IMAGENET_STD)),
        interpolation=config.get("interpolation", "bicubic"),
    )
