"""A look inside a model without running it: shapes, parameters, multiply-adds and receptive fields of every layer."""

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

    The model is traced, never run: the largest takes seconds and no memory.

    Args:
      model: one of `cvjax.list_models()`, or a Flax module that takes images [B, H, W, C] (C is its field
        `in_channels`, 3 where it has none) and perhaps `train`.
      image_size: side of a square, or (height, width), in pixels; by default the one of `cvjax.model_info`.
      num_classes: by default as many as the published number of parameters is given for.
      **options: fields of the architecture, as for `cvjax.create_model`.

    Raises:
      ConfigError: an unknown model or option, or a size that the model does not take.
      TypeError: a module without `image_size`, or with `num_classes` or options, which it has already.
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
