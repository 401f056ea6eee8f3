"""Inspection looks inside a model without running it: shapes, parameters, multiply-adds and receptive fields."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.inspection.report import Inspection, LayerInfo, with_sums
from cvjax.inspection.trace import trace
from cvjax.inspection.walk import layers_and_blocks
from cvjax.models import create_model, model_info

__all__ = ["Inspection", "LayerInfo", "inspect_model"]


def inspect_model(
    model: str | nn.Module,
    *,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    **options: object,
) -> Inspection:
    """Lists the layers of a model's inference.

    The model is traced and never run. Even the largest takes only seconds and no memory.

    Args:
      model: One of `cvjax.list_models()`, or a Flax module. A module takes images [B, H, W, C] and perhaps `train`; C
        is its field `in_channels`, or 3 without this field.
      image_size: Side of a square, or (height, width), in pixels. The default is the size of `cvjax.model_info`.
      num_classes: Number of classes. The default is the number that the published count of parameters is given for.
      **options: Fields of the architecture, as for `cvjax.create_model`.

    Raises:
      ConfigError: An unknown model or option, or a size that the model does not take.
      TypeError: A module without `image_size`, or a module with `num_classes` or options, which it has already.
    """
    if isinstance(model, str):
        info = model_info(model)
        name, image_size = model, info.image_size if image_size is None else image_size
        classes = info.params_classes if num_classes is None else num_classes
        model = create_model(model, num_classes=classes, **options)
    else:
        name = model.name or type(model).__name__
        if image_size is None or num_classes is not None or options:
            raise TypeError("inspect_model of a module takes image_size and nothing else; the module has its options")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise ConfigError(f"images have at least 1x1 pixels, not {height}x{width}")
    images = jax.ShapeDtypeStruct((1, height, width, getattr(model, "in_channels", 3)), jnp.float32)
    traced = trace(model, images)
    layers, blocks = layers_and_blocks(traced, images)
    params = sum(leaf.size for leaf in jax.tree.leaves(traced.variables.get("params", {})))
    return Inspection(name, (height, width), params, tuple(layers), with_sums(blocks, layers))
