"""A backbone is handed over to a net: a classifier becomes the net's first part."""

import dataclasses
from typing import Any

import flax.linen as nn

from cvjax.nn import BatchNormOptions


def adopt(net: nn.Module, part: str = "backbone", **decided: Any) -> None:
    """Gives a part of a net the values of fields that the net decides; for a net's `__post_init__`.

    A backbone is handed over whole, as a module that is not bound yet. The net that takes it decides a few things for
    both: the output stride, the type of the computation, how BatchNorm behaves. All other fields stay as the backbone
    has them. A backbone keeps its own epsilon of BatchNorm, which belongs to its published weights.

    Args:
      net: Module that takes the part.
      part: Field of the net that holds it.
      **decided: Values by field of the part. Fields that the part lacks are left out.

    Raises:
      TypeError: The part is no module.
    """
    backbone = getattr(net, part)
    if not isinstance(backbone, nn.Module):
        raise TypeError(f"the {part} of {type(net).__name__} is a module such as ResNet(...), not {backbone!r}")
    if backbone.scope is not None:  # bound already, and so adopted before
        return
    names = {field.name for field in dataclasses.fields(backbone)}
    values = {name: value for name, value in decided.items() if name in names}
    if isinstance(values.get("norm"), BatchNormOptions):
        values["norm"] = dataclasses.replace(values["norm"], epsilon=backbone.norm.epsilon)
    if any(getattr(backbone, name) != value for name, value in values.items()):
        # Past Flax's frozen fields: the net is still being made here.
        object.__setattr__(net, part, backbone.clone(parent=None, **values))
