"""The registry is the table of all architectures: it lists them, tells what is published, and builds them."""

import dataclasses
import difflib
import fnmatch
import functools
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.releases import figure_of, release_of

# Each of these modules has a table `VARIANTS: Mapping[str, Variant]`. A new architecture adds its line here.
_ARCHITECTURES = (
    "cvjax.models.classification.alexnet",
    "cvjax.models.classification.darknet_yolov1",
    "cvjax.models.classification.densenet",
    "cvjax.models.classification.efficientnet",
    "cvjax.models.classification.googlenet",
    "cvjax.models.classification.nin",
    "cvjax.models.classification.resnet",
    "cvjax.models.classification.resnet_cifar",
    "cvjax.models.classification.resnet_v2",
    "cvjax.models.classification.senet",
    "cvjax.models.classification.vgg",
    "cvjax.models.classification.xception",
    "cvjax.models.classification.zfnet",
    "cvjax.models.detection.fast_rcnn",
    "cvjax.models.detection.faster_rcnn",
    "cvjax.models.detection.faster_rcnn_fpn",
    "cvjax.models.detection.rcnn",
    "cvjax.models.detection.sppnet",
    "cvjax.models.detection.yolov1",
    "cvjax.models.segmentation.deeplabv1",
    "cvjax.models.segmentation.deeplabv2",
    "cvjax.models.segmentation.deeplabv3",
    "cvjax.models.segmentation.deeplabv3plus",
    "cvjax.models.segmentation.fcn",
    "cvjax.models.segmentation.fcn_resnet",
    "cvjax.models.segmentation.hypercolumn",
    "cvjax.models.segmentation.unet",
    "cvjax.models.segmentation.unet_encoder",
    "cvjax.models.segmentation.unet_original",
)
_NOT_OPTIONS = frozenset({"parent", "name", "num_classes", "dtype"})


def list_models(task: str | None = None, pattern: str | None = None) -> list[str]:
    """Lists the names that `create_model` knows, sorted.

    Args:
      task: Task, one of "classification", "segmentation" and "detection"; None lists all.
      pattern: Shell-style pattern, such as "deeplab*_resnet50".

    Raises:
      ConfigError: A task that no model has.
    """
    table = _table()
    tasks = sorted({variant.info.task for variant in table.values()})
    if task is not None and task not in tasks:
        raise ConfigError(f"no model has the task {task!r}; the tasks are {', '.join(tasks)}")
    return sorted(
        name
        for name, variant in table.items()
        if (task is None or variant.info.task == task) and (pattern is None or fnmatch.fnmatchcase(name, pattern))
    )


def create_model(name: str, *, num_classes: int | None = None, dtype: Any = jnp.float32, **options: Any) -> nn.Module:
    """Builds a model; its parameters come later, from `model.init`.

    Args:
      name: One of `list_models()`.
      num_classes: Channels of the logits; a detector's leave out background. 0 makes a classifier return its pooled
        features. None is the number of classes of the published weights.
      dtype: Type of the computation; parameters and logits are float32 in any case.
      **options: Fields of the architecture, see `model_options(name)`. Where a field is itself a value with fields (the
        options of BatchNorm, a backbone), a mapping changes those that it names: `norm={"momentum": 0.99}`,
        `backbone={"width": 32}`. The name of a classifier stands for that net as a backbone.

    Returns:
      A Flax module with `init(key, images, train=False)` and `apply(variables, images, train=False)`. Images are [B, H,
      W, C], floating point and normalized.

    Raises:
      ConfigError: An unknown name (with the closest known ones) or an unknown option (with the known ones).
    """
    variant = _variant(name)
    defaults = model_options(name)
    merged = merge_options(defaults, options, name)
    changed = {option: value for option, value in merged.items() if option in variant.settings or option in options}
    classes = variant.info.params_classes if num_classes is None else num_classes
    return variant.module(num_classes=classes, dtype=dtype, **changed)


def merge_options(defaults: Mapping[str, Any], options: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Returns the defaults with some options changed; a mapping changes single fields of a value that has fields.

    Args:
      defaults: Values by name.
      options: Options to change, by name.
      owner: Name of the owner of these options, for messages.

    Raises:
      ConfigError: An option that `defaults` lacks, or an option of a backbone that the net decides for it.
    """
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise ConfigError(
            f"{owner} has no option {', '.join(map(repr, unknown))}; its options are {', '.join(defaults)}"
        )
    merged = dict(defaults)
    for option, value in options.items():
        if option == "backbone" and isinstance(value, Mapping):
            decided = sorted(set(value) & set(defaults) - {"norm"})
            if decided:
                raise ConfigError(f"{owner} decides {', '.join(decided)} of its backbone; give its own option instead")
        merged[option] = _changed(defaults[option], value, f"{option} of {owner}")
    return merged


def option_fields(value: Any) -> dict[str, Any]:
    """Returns the fields of an option that is a value with fields, such as a backbone or the options of BatchNorm.

    Any other option gives an empty mapping.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return {}
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name not in _NOT_OPTIONS}


def _changed(default: Any, value: Any, owner: str) -> Any:
    if isinstance(default, nn.Module) and isinstance(value, str):
        return create_model(value, num_classes=0)
    fields = option_fields(default)
    if not isinstance(value, Mapping) or not fields:
        return value
    changed = merge_options(fields, value, owner)
    return default.clone(**changed) if isinstance(default, nn.Module) else dataclasses.replace(default, **changed)


def model_options(name: str) -> dict[str, Any]:
    """Returns the options that `create_model(name, ...)` takes, with their defaults.

    Raises:
      ConfigError: An unknown name.
    """
    variant = _variant(name)
    return {
        field.name: variant.settings.get(field.name, _default(field))
        for field in dataclasses.fields(variant.module)
        if field.name not in _NOT_OPTIONS
    }


def _default(field: dataclasses.Field[Any]) -> Any:
    """Returns the default of a field; None where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def model_class(name: str) -> type[nn.Module]:
    """Returns the class of a model's module.

    Raises:
      ConfigError: An unknown name.
    """
    return _variant(name).module


def model_info(name: str) -> ModelInfo:
    """Returns the published facts about a model.

    Raises:
      ConfigError: An unknown name.
    """
    return _variant(name).info


def _variant(name: str) -> Variant:
    table = _table()
    if name not in table:
        close = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "cvjax.list_models() names them all"
        raise ConfigError(f"there is no model {name!r}; {hint}")
    return table[name]


@functools.cache
def _table() -> Mapping[str, Variant]:
    table: dict[str, Variant] = {}
    for module in _ARCHITECTURES:
        for variant in importlib.import_module(module).VARIANTS:
            if variant.info.name in table:
                raise RuntimeError(f"two models are called {variant.info.name}")
            name = variant.info.name
            info = dataclasses.replace(variant.info, release=release_of(name), figure=figure_of(name))
            table[name] = dataclasses.replace(variant, info=info)
    return MappingProxyType(table)
