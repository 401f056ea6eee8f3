"""Computes class probabilities of pixels, as an evaluation is configured, and label maps of images of any size."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.runtime.compiler import compiled
from cvjax.tasks.segmentation.config import SegmentationEval
from cvjax.tasks.segmentation.crf import apply_crf, inside
from cvjax.tasks.segmentation.inference import predict_image, segment
from cvjax.tasks.segmentation.tiles import Unpadded

if TYPE_CHECKING:
    from cvjax.tasks.segmentation.task import Segmentation

_TILE = 2048
"""Longest side that the model sees in one piece, after the largest scale, in pixels."""


def probabilities(model: nn.Module, variables: Any, images: jax.Array, config: SegmentationEval) -> jax.Array:
    """Computes class probabilities of images, averaged over the configured scales, mirror images and windows.

    A model with a `margin` loses that many pixels on every side. Its images are extended with mirrored borders, see
    `cvjax.tasks.segmentation.tiles`.

    Args:
      model: Module that computes logits.
      variables: Variables of the model.
      images: Normalized images [B, H, W, 3].
      config: Scales, flip and window.

    Returns:
      float32 [B, H, W, C].
    """

    def logits_of(x: jax.Array) -> Any:  # what Flax says it returns includes what a mutable collection would add
        return model.apply(variables, x, train=False)

    return segment(
        logits_of,
        images,
        scales=config.scales,
        flip=config.flip,
        window=config.window,
        overlap=config.overlap,
        unpadded=model if isinstance(model, Unpadded) else None,
    )


def make_map_predictor(
    task: "Segmentation", model: nn.Module, variables: dict[str, Any], multiple: int = 64
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from an image, uint8 [H, W, 3] of any size, to labels uint8 [H, W].

    The function compiles once per padded size.

    Args:
      task: Task of the run or checkpoint; its evaluation's scales, flip, window and CRF are used.
      model: Module of the run or checkpoint.
      variables: Variables of the model.
      multiple: Divisor of the sides of padded images. Images of a net without padding are not padded, since the net
        mirrors them at their own border.
    """
    if hasattr(model, "margin"):
        multiple = 1
    variables, config = jax.device_put(variables), task.config.eval

    @compiled
    def classes(variables: dict[str, Any], images: jax.Array, size: jax.Array) -> jax.Array:
        predicted = probabilities(model, variables, task.normalize(images), config)
        if config.crf is not None:
            predicted = apply_crf(predicted, images, config.crf, inside(size, images.shape[:3]))
        return jnp.argmax(predicted, axis=-1).astype(jnp.uint8)

    # A larger scale enlarges what the model sees, so the tiles shrink by as much.
    tile = max(512, int(_TILE / max(1.0, *config.scales)) // 64 * 64) if config.scales else _TILE

    def label(image: np.ndarray) -> np.ndarray:
        return predict_image(functools.partial(classes, variables), image, multiple=multiple, fill=task.mean, tile=tile)

    return label
