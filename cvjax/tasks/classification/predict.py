"""Computes class probabilities of images, as an evaluation is configured."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Float32

from cvjax.errors import ConfigError
from cvjax.ops.geometry import pair
from cvjax.runtime.compiler import Programs, compiled
from cvjax.shapes import Array
from cvjax.tasks.prediction.pieces import Piece, Rows, Views, predict_one

if TYPE_CHECKING:
    from cvjax.tasks.classification.task import Classification


def probabilities(
    model: nn.Module, variables: Any, images: jax.Array, ten_crops: tuple[int, int] | None = None
) -> jax.Array:
    """Returns class probabilities, float32 [B, C], of normalized images [B, H, W, 3]; see `classify`."""

    def logits_of(x: jax.Array) -> Any:  # what Flax says it returns includes what a mutable collection would add
        return model.apply(variables, x, train=False)

    return classify(logits_of, images, ten_crops=ten_crops)


def classify(
    logits_fn: Callable[[jax.Array], jax.Array],
    images: Float[Array, "batch height width channels"],
    *,
    ten_crops: tuple[int, int] | None = None,
) -> Float32[jax.Array, "batch classes"]:
    """Computes class probabilities of images, or their mean over ten crops of each image (AlexNet, section 4.1).

    Args:
      logits_fn: Pure function from images [B, h, w, 3] to logits [B, C], which is traced.
      images: Images [B, H, W, 3], float, normalized as the model expects.
      ten_crops: Height and width of crops at the four corners and in the middle, each also mirrored; None takes the
        whole image.

    Returns:
      Probabilities [B, C], float32; they sum to 1 over C.
    """
    chex.assert_rank(images, 4)

    def probabilities_of(x: jax.Array) -> jax.Array:
        logits = logits_fn(x)
        chex.assert_shape(logits, (x.shape[0], None))
        return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    if ten_crops is None:
        return probabilities_of(images)
    height, width = ten_crops
    below, beside = images.shape[1] - height, images.shape[2] - width
    chex.assert_scalar_non_negative(min(below, beside))
    corners = [(0, 0), (0, beside), (below, 0), (below, beside), (below // 2, beside // 2)]
    crops = [images[:, top : top + height, left : left + width] for top, left in corners]
    crops += [crop[:, :, ::-1] for crop in crops]
    # One after another: one copy of the model in the program, the memory of one pass.
    return jax.lax.map(probabilities_of, jnp.stack(crops)).mean(axis=0)


class ClassPredictor:
    """Predicts class probabilities of images of any size, see `cvjax.tasks.prediction.pieces.BatchPredictor`.

    Images are cropped and averaged as the evaluation is configured. The result is the mean over scales and mirror
    images; a scale of 1.2 brings the shorter side to 1.2 times its length before the crop.

    Args:
      task: Task of the run or checkpoint.
      model: Module of the run or checkpoint.
      variables: Variables of the model.
      views: Scales and mirror images.

    Raises:
      ConfigError: Tiles are asked for.
    """

    def __init__(
        self, task: "Classification", model: nn.Module, variables: dict[str, Any], views: Views | None = None
    ) -> None:
        views, crop = views or Views(), task.eval_crop()
        if views.tile is not None:
            raise ConfigError("--tile cuts images for segmentations and detections, and this is a classification")
        self._views, self._variables = views, jax.device_put(variables)
        side = crop.resize or max(crop.size)
        self._crops = {
            scale: crop if scale == 1 else dataclasses.replace(crop, resize=max(1, round(side * scale)))
            for scale in views.scales
        }
        self._shape = pair(crop.size)

        @compiled
        def probabilities(variables: dict[str, Any], images: jax.Array) -> jax.Array:
            return task.predict(model, variables, task.normalize(images))

        self._probabilities = Programs(probabilities)

    def pieces(self, size: tuple[int, int]) -> list[Piece]:
        """Returns a piece for each scale and mirror image, each of the whole image."""
        window = (0, 0, *size)
        flips = (False, True) if self._views.flip else (False,)
        return [Piece(self._shape, window, window, scale, flip) for scale in self._views.scales for flip in flips]

    def prepare(self, image: np.ndarray, piece: Piece) -> Rows:
        """Returns the crop that the net sees."""
        return {"image": self._crops[piece.scale](piece.cut(image), np.asarray(0, np.int32))[0]}

    def ahead(self, rows: Rows, runs: float) -> None:
        """Compiles the net for batches of these shapes."""
        self._probabilities.ahead(self._variables, rows["image"], runs=runs)

    def start(self, rows: Rows) -> jax.Array:
        """Starts the net on a batch of crops."""
        return self._probabilities(self._variables, rows["image"])

    def part(self, outputs: np.ndarray, rows: Rows, piece: Piece) -> np.ndarray:
        """Returns the probabilities, float32 [C]."""
        del rows, piece
        return outputs

    def join(self, size: tuple[int, int], pieces: Sequence[Piece], parts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the mean of the probabilities, float32 [C]."""
        del size, pieces
        return parts[0] if len(parts) == 1 else np.mean(parts, axis=0)


def make_classifier(
    task: "Classification", model: nn.Module, variables: dict[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from an image, uint8 [H, W, 3] of any size, to probabilities, float32 [C].

    See `ClassPredictor`.
    """
    return functools.partial(predict_one, ClassPredictor(task, model, variables))
