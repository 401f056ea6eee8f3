"""From images to class probabilities and label maps, as a configuration says."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.ops.compiling import compiler_options
from cvjax.runs.config import EvalConfig
from cvjax.tasks.inference import predict_image, segment
from cvjax.tasks.segmentation import Segmentation

_TILE = 2048
"""Longest side of what the model sees in one piece, after the largest scale, in pixels."""


def make_predict(model: nn.Module, config: EvalConfig) -> Callable[[Any, jax.Array], jax.Array]:
    """(variables, normalised images [B, H, W, 3]) -> class probabilities [B, H, W, C], as configured."""

    def predict(variables: Any, images: jax.Array) -> jax.Array:
        return segment(
            lambda x: model.apply(variables, x, train=False),
            images,
            scales=config.scales,
            flip=config.flip,
            window=config.window,
            overlap=config.overlap,
        )

    return predict


def make_map_predictor(
    model: nn.Module, task: Segmentation, variables: dict[str, Any], config: EvalConfig, multiple: int = 64
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 [H, W, 3] of any size to labels uint8 [H, W]; it compiles once per padded size.

    Args:
      model, task, variables: of the run or checkpoint.
      config: scales, flip and window.
      multiple: images are padded to sides that are multiples of it.
    """
    variables, predict = jax.device_put(variables), make_predict(model, config)

    options = compiler_options(jax.devices()[0].platform)

    @functools.partial(jax.jit, compiler_options=options)
    def classes(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return jnp.argmax(predict(variables, task.normalize(images)), axis=-1).astype(jnp.uint8)

    # A larger scale enlarges what the model sees, so the tiles shrink by as much.
    tile = max(512, int(_TILE / max(1.0, *config.scales)) // 64 * 64) if config.scales else _TILE

    def label(image: np.ndarray) -> np.ndarray:
        return predict_image(
            lambda images: classes(variables, images), image, multiple=multiple, fill=task.mean, tile=tile
        )

    return label
