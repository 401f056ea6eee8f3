"""The fields of a backbone that belong to the net around it."""

import dataclasses
from typing import Any

import flax.linen as nn

from cvjax.errors import ConfigError
from cvjax.nn import BatchNormOptions


def configure_backbone(backbone: Any, norm: BatchNormOptions, **fields: Any) -> Any:
    """Returns the backbone without a classifier, and with the values that its net gives to some of its fields.

    A net calls this in `__post_init__`. So `output_stride=8` or `norm={"momentum": 0.99}` is said once, to the net, and
    its layers and the backbone's agree, also in a copy of the net with other values. What the net does not decide is
    the backbone's own.

    Args:
      backbone: A Flax module with a method `features`, such as `ResNet(num_classes=0)`.
      norm: Options of the net's BatchNorms. The backbone's take momentum and `frozen` from it and keep their own
        epsilon; a backbone without BatchNorm takes nothing.
      **fields: Values by the backbone's field.

    Raises:
      ConfigError: Something else than a module with `features`, or one that lacks a field.
    """
    if not isinstance(backbone, nn.Module) or not hasattr(type(backbone), "features"):
        raise ConfigError(
            "backbone is a net with a method features, such as create_model('resnet50', num_classes=0), or a mapping "
            f"that changes fields of the one that there is, not {backbone!r}"
        )
    known = {field.name for field in dataclasses.fields(backbone)}
    lacking = [name for name in fields if name not in known]
    if lacking:
        raise ConfigError(
            f"{type(backbone).__name__} cannot be this net's backbone, as it has no option {', '.join(lacking)}"
        )
    if "norm" in known:
        fields["norm"] = dataclasses.replace(backbone.norm, momentum=norm.momentum, frozen=norm.frozen)
    return backbone.clone(num_classes=0, **fields)
