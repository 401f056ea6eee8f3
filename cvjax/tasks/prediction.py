"""From images to class probabilities, of pixels or of images, as a configuration says."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.engine.run import fill_colour
from cvjax.errors import ConfigError
from cvjax.runtime.compiler import compiler_options
from cvjax.tasks.classification.config import ClassificationData, ClassificationEval
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.classification.transforms import CentreCrop
from cvjax.tasks.inference import classify, predict_image, segment
from cvjax.tasks.segmentation.config import SegmentationEval
from cvjax.tasks.segmentation.crf import inside, refine
from cvjax.tasks.segmentation.task import Segmentation

_TILE = 2048
"""Longest side of what the model sees in one piece, after the largest scale, in pixels."""


def make_predict(model: nn.Module, config: SegmentationEval) -> Callable[[Any, jax.Array], jax.Array]:
    """(variables, normalised images [B, H, W, 3]) -> class probabilities [B, H, W, C], as configured.

    A model with a `margin` loses that many pixels on every side, and sees images with mirrored borders, see
    `cvjax.tasks.segmentation.tiles`.
    """
    unpadded = model if hasattr(model, "margin") else None

    def predict(variables: Any, images: jax.Array) -> jax.Array:
        return segment(
            lambda x: model.apply(variables, x, train=False),
            images,
            scales=config.scales,
            flip=config.flip,
            window=config.window,
            overlap=config.overlap,
            unpadded=unpadded,
        )

    return predict


def make_map_predictor(
    model: nn.Module, task: Segmentation, variables: dict[str, Any], config: SegmentationEval, multiple: int = 64
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 [H, W, 3] of any size to labels uint8 [H, W]; it compiles once per padded size.

    Args:
      model, task, variables: of the run or checkpoint.
      config: scales, flip, window and CRF.
      multiple: images are padded to sides that are multiples of it. Those of an unpadded net are not: it mirrors them
        at their own border.
    """
    if hasattr(model, "margin"):
        multiple = 1
    variables, predict = jax.device_put(variables), make_predict(model, config)

    options = compiler_options(jax.devices()[0].platform)

    @functools.partial(jax.jit, compiler_options=options)
    def classes(variables: dict[str, Any], images: jax.Array, size: jax.Array) -> jax.Array:
        probabilities = predict(variables, task.normalize(images))
        if config.crf is not None:
            probabilities = refine(probabilities, images, config.crf, inside(size, images.shape[:3]))
        return jnp.argmax(probabilities, axis=-1).astype(jnp.uint8)

    # A larger scale enlarges what the model sees, so the tiles shrink by as much.
    tile = max(512, int(_TILE / max(1.0, *config.scales)) // 64 * 64) if config.scales else _TILE

    def label(image: np.ndarray) -> np.ndarray:
        return predict_image(functools.partial(classes, variables), image, multiple=multiple, fill=task.mean, tile=tile)

    return label


def eval_crop(task: Classification, scoring: ClassificationEval, reading: ClassificationData) -> CentreCrop:
    """What of an image the host hands over: the crop, or for ten crops the square that they are cut from.

    Raises:
      ConfigError: ten crops, and no square that is larger than they are.
    """
    crop = scoring.crop or reading.crop
    fill = fill_colour(task)
    if scoring.crops == "centre":
        return CentreCrop(crop, scoring.resize, fill, reading.interpolation)
    if scoring.resize is None or scoring.resize < max(crop):
        raise ConfigError(
            f"ten crops of {crop[0]}x{crop[1]} pixels are cut from a larger square; give its side as --eval.resize"
        )
    return CentreCrop((scoring.resize, scoring.resize), None, fill, reading.interpolation)


def make_classify(
    model: nn.Module, scoring: ClassificationEval, reading: ClassificationData
) -> Callable[[Any, jax.Array], jax.Array]:
    """(variables, normalised images [B, H, W, 3] of `eval_crop`) -> class probabilities [B, C], as configured."""
    ten = (scoring.crop or reading.crop) if scoring.crops == "ten" else None

    def predict(variables: Any, images: jax.Array) -> jax.Array:
        return classify(lambda x: model.apply(variables, x, train=False), images, ten_crops=ten)

    return predict


def make_classifier(
    model: nn.Module,
    task: Classification,
    variables: dict[str, Any],
    scoring: ClassificationEval,
    reading: ClassificationData,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 [H, W, 3] of any size to probabilities float32 [C], as the evaluation computes them.

    Args:
      model, task, variables: of the run or checkpoint.
      scoring, reading: its configurations.
    """
    variables, predict = jax.device_put(variables), make_classify(model, scoring, reading)
    transform = eval_crop(task, scoring, reading)

    @functools.partial(jax.jit, compiler_options=compiler_options(jax.devices()[0].platform))
    def probabilities(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return predict(variables, task.normalize(images))

    def classify_image(image: np.ndarray) -> np.ndarray:
        return np.asarray(probabilities(variables, transform(image, np.int32(0))[0][None]))[0]

    return classify_image
