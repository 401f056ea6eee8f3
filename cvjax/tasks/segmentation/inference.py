"""Predicts segmentations with several scales, mirror images and sliding windows, in pure functions under `jax.jit`."""

import functools
import math
import operator
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from cvjax.errors import ConfigError
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize
from cvjax.shapes import Array
from cvjax.tasks.prediction.pieces import window_starts
from cvjax.tasks.segmentation.tiles import Unpadded, overlap_tile_logits

LogitsFn = Callable[[jax.Array], jax.Array]


def sliding_logits(
    logits_fn: LogitsFn, images: Float[Array, "batch height width 3"], window: tuple[int, int], overlap: float = 1 / 3
) -> Float32[jax.Array, "batch height width classes"]:
    """Computes logits [B, H, W, C] from overlapping windows; where windows overlap, their logits are averaged.

    The windows run one after another in a `lax.scan`, so the program holds one copy of the model and the memory of one
    window. A window larger than the image is cut to the image's size.

    Args:
      logits_fn: Function from images [B, h, w, 3] to logits [B, h, w, C].
      images: Images [B, H, W, 3], float.
      window: Height and width of a window, in pixels.
      overlap: Fraction of a window that it shares with the next, see `window_starts`.
    """
    chex.assert_rank(images, 4)
    batch, height, width, channels = images.shape
    win_h, win_w = min(window[0], height), min(window[1], width)
    tops, lefts = window_starts(height, win_h, overlap), window_starts(width, win_w, overlap)
    if len(tops) == len(lefts) == 1:
        return _apply(logits_fn, images)
    counts = np.zeros((height, width, 1), np.float32)
    for top in tops:
        for left in lefts:
            counts[top : top + win_h, left : left + win_w] += 1

    def add_window(total: jax.Array, corner: jax.Array) -> tuple[jax.Array, None]:
        start = (0, corner[0], corner[1], 0)
        logits = _apply(logits_fn, jax.lax.dynamic_slice(images, start, (batch, win_h, win_w, channels)))
        here = jax.lax.dynamic_slice(total, start, logits.shape)
        return jax.lax.dynamic_update_slice(total, here + logits, start), None

    patch = jax.ShapeDtypeStruct((batch, win_h, win_w, channels), images.dtype)
    classes = jax.eval_shape(logits_fn, patch).shape[-1]
    corners = jnp.asarray([(top, left) for top in tops for left in lefts], jnp.int32)
    total, _ = jax.lax.scan(add_window, jnp.zeros((batch, height, width, classes), jnp.float32), corners)
    return total / counts[None]


def segment(
    logits_fn: LogitsFn,
    images: Float[Array, "batch height width 3"],
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: tuple[int, int] | None = None,
    overlap: float = 1 / 3,
    unpadded: Unpadded | None = None,
) -> Float32[jax.Array, "batch height width classes"]:
    """Computes class probabilities of images, averaged over scales and mirror images.

    For every scale it resizes the images, computes the logits (by sliding windows if configured), resizes these back,
    and applies softmax. The result is the mean of those probabilities, as in DeepLab v3 (1706.05587, section 4.1).

    Args:
      logits_fn: Pure function from images [B, h, w, 3] to logits [B, h, w, C], for any h and w, which is traced. With
        `unpadded` the logits are smaller.
      images: Images [B, H, W, 3], float, normalized as the model expects.
      scales: Factors on the images' size, at least one, each above 0; DeepLab uses 0.5, 0.75, ... 1.75.
      flip: Whether to use the mirror image of each scale too.
      window: Height and width of the sliding window, in pixels of the resized image; None takes the whole image.
      overlap: Fraction of a window that it shares with the next.
      unpadded: Net without padding, or None. Images are then mirrored beyond their border, and `window` is the size of
        a tile's logits. Tiles fit together, so `overlap` has no effect. See `cvjax.tasks.segmentation.tiles`.

    Returns:
      Probabilities [B, H, W, C], float32; they sum to 1 over C.

    Raises:
      ConfigError: `scales`, `window` or `overlap` is outside its range.
    """
    chex.assert_rank(images, 4)
    chex.assert_type(images, float)
    scales = tuple(scales)
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ConfigError(f"scales must be one or more positive numbers, not {scales}; 1.0 is the image's own size")
    if window is not None and min(window) < 1:
        raise ConfigError(f"window must be at least 1x1 pixel, not {window}")
    size = pair(images.shape[1:3])

    def logits_of(x: jax.Array) -> jax.Array:
        if unpadded is not None:
            return overlap_tile_logits(logits_fn, x, unpadded, window)
        return _apply(logits_fn, x) if window is None else sliding_logits(logits_fn, x, window, overlap)

    def probabilities_of(x: jax.Array) -> jax.Array:
        return jax.nn.softmax(_resize(logits_of(x), size), axis=-1)

    parts = []
    for scale in scales:
        # At least one pixel: a 1-pixel-wide picture has no half.
        scaled = _resize(images, pair(max(1, int(side * scale + 0.5)) for side in size))
        if flip:
            # One after another in a `lax.map`: one copy of the model in the program, the memory of one pass.
            plain, mirrored = jax.lax.map(probabilities_of, jnp.stack([scaled, scaled[:, :, ::-1]]))
            parts.append((plain + mirrored[:, :, ::-1]) / 2)
        else:
            parts.append(probabilities_of(scaled))
    return functools.reduce(operator.add, parts) / len(scales)


def _apply(logits_fn: LogitsFn, images: jax.Array) -> jax.Array:
    logits = logits_fn(images)
    chex.assert_shape(logits, (*images.shape[:3], None))
    return logits.astype(jnp.float32)


def _resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    return x if x.shape[1:3] == size else resize(x, size, method="bilinear", align_corners=False)
