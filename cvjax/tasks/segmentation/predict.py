"""Computes class probabilities of pixels, as an evaluation is configured, and label maps of images of any size."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.runtime.compiler import Programs, compiled
from cvjax.tasks.prediction.choices import KeptProbabilities
from cvjax.tasks.prediction.pieces import Piece, Rows, Views, predict_one, tiles
from cvjax.tasks.segmentation.config import SegmentationEval
from cvjax.tasks.segmentation.crf import apply_crf, inside
from cvjax.tasks.segmentation.inference import segment
from cvjax.tasks.segmentation.tiles import Unpadded

if TYPE_CHECKING:
    from cvjax.tasks.segmentation.task import Segmentation

_TILE = 2048
"""Longest side that the model sees in one piece, after the largest scale, in pixels."""
_SHARED = 256


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


class LabelMap(NamedTuple):
    """Holds what a segmentation finds in an image.

    Attributes:
      labels: Class of each pixel, uint8 [H, W].
      probabilities: Probabilities [H, W, C] as `KeptProbabilities` says; None if they are not asked for.
    """

    labels: Any  # arrays of the device or of numpy
    probabilities: Any = None


class MapPredictor:
    """Predicts label maps of images of any size, see `cvjax.tasks.prediction.pieces.BatchPredictor`.

    Images are padded with the mean at the bottom and right until both sides are multiples of a number. A large image is
    cut into overlapping tiles, which bounds the memory; each label is taken from the tile where it lies further from
    the cut.

    Args:
      task: Task of the run or checkpoint; its evaluation's scales, flip, window and CRF are used.
      model: Module of the run or checkpoint.
      variables: Variables of the model.
      views: Tiles; those of the default are as large as memory mostly has room for.
      multiple: Divisor of the sides of padded images. Images of a net without padding are not padded, since the net
        mirrors them at their own border.
      kept: How probabilities are kept; None keeps labels alone.
    """

    def __init__(
        self,
        task: "Segmentation",
        model: nn.Module,
        variables: dict[str, Any],
        views: Views | None = None,
        *,
        multiple: int | None = None,
        kept: KeptProbabilities | None = None,
    ) -> None:
        views, config = views or Views(), task.config.eval
        self._multiple = 1 if hasattr(model, "margin") else multiple or 64
        self._fill = np.clip(np.rint(np.asarray(task.mean)), 0, 255).astype(np.uint8)
        # A larger scale enlarges what the model sees, so the tiles shrink by as much.
        largest = max(1.0, *config.scales) if config.scales else 1.0
        self._tile = views.tile or max(512, int(_TILE / largest) // 64 * 64)
        self._shared = views.shared if views.tile else _SHARED
        self._variables = jax.device_put(variables)

        @compiled
        def maps(variables: dict[str, Any], images: jax.Array, size: jax.Array) -> LabelMap:
            predicted = probabilities(model, variables, task.normalize(images), config)
            if config.crf is not None:
                predicted = apply_crf(predicted, images, config.crf, inside(size, images.shape[:3]))
            labels = jnp.argmax(predicted, axis=-1).astype(jnp.uint8)
            return LabelMap(labels, None if kept is None else _kept(predicted, kept))

        self._maps = Programs(maps)

    def pieces(self, size: tuple[int, int]) -> list[Piece]:
        """Returns the tiles of an image, or one piece for all of it."""
        found = []
        for window, kept in tiles(size, self._tile, self._shared):
            height, width = window[2] - window[0], window[3] - window[1]
            shape = (-(-height // self._multiple) * self._multiple, -(-width // self._multiple) * self._multiple)
            found.append(Piece(shape, window, kept))
        return found

    def prepare(self, image: np.ndarray, piece: Piece) -> Rows:
        """Returns a tile, padded with the mean, and its height and width without padding."""
        height, width = piece.size
        padded = np.empty((*piece.shape, 3), np.uint8)
        padded[:] = self._fill
        padded[:height, :width] = piece.cut(image)
        return {"image": padded, "size": np.array([height, width], np.int32)}

    def ahead(self, rows: Rows, runs: float) -> None:
        """Compiles the net for batches of these shapes."""
        self._maps.ahead(self._variables, rows["image"], rows["size"], runs=runs)

    def start(self, rows: Rows) -> LabelMap:
        """Starts the net on a batch of tiles."""
        return self._maps(self._variables, rows["image"], rows["size"])

    def part(self, outputs: LabelMap, rows: Rows, piece: Piece) -> LabelMap:
        """Returns what is kept of a tile's maps."""
        del rows
        top, left = piece.window[:2]
        up, before, down, behind = piece.kept
        return jax.tree.map(lambda values: values[up - top : down - top, before - left : behind - left], outputs)

    def join(self, size: tuple[int, int], pieces: Sequence[Piece], parts: Sequence[LabelMap]) -> LabelMap:
        """Returns the maps of an image from those of its tiles."""

        def joined(*values: np.ndarray) -> np.ndarray:
            whole = np.empty((*size, *values[0].shape[2:]), values[0].dtype)
            for piece, value in zip(pieces, values):
                up, before, down, behind = piece.kept
                whole[up:down, before:behind] = value
            return whole

        return jax.tree.map(joined, *parts)


def _kept(predicted: jax.Array, kept: KeptProbabilities) -> jax.Array:
    if kept == "float16":
        return predicted.astype(jnp.float16)
    return jnp.round(predicted * 255).astype(jnp.uint8)


def make_map_predictor(
    task: "Segmentation", model: nn.Module, variables: dict[str, Any], multiple: int = 64
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from an image, uint8 [H, W, 3] of any size, to labels uint8 [H, W]; see `MapPredictor`."""
    predictor = MapPredictor(task, model, variables, multiple=multiple)
    return lambda image: predict_one(predictor, image).labels
