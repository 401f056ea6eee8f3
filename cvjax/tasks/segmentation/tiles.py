"""Inference of nets without padding: mirrored borders, and tiles that fit together (U-Net, 1505.04597, figure 2)."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import chex
import jax
import jax.numpy as jnp

from cvjax.ops.geometry import pair
from cvjax.ops.padding import mirror_pad


@runtime_checkable
class Unpadded(Protocol):
    """What a net says of itself whose logits are smaller than its images, such as `UNetOriginal`.

    Attributes:
      margin: pixels that the logits lack on every side.
      step: pixels by which an image may be shifted so that the logits are shifted, and not others: the product of the
        strides.
    """

    @property
    def margin(self) -> int: ...

    @property
    def step(self) -> int: ...

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest image whose logits are at least so high and wide."""
        ...


def overlap_tile_logits(
    logits_fn: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    net: Unpadded,
    tile: tuple[int, int] | None = None,
) -> jax.Array:
    """Logits of images of any size, in one piece or in tiles, with the same result.

    Beyond its border an image is its mirror image, back and forth if it is smaller than the net's margin. Neighboring
    tiles share their surroundings; where their logits overlap, as corners lie whole steps of the net apart, they are
    equal. The tiles run one after another in a `lax.scan`: one copy of the model, the memory of one tile.

    Args:
      logits_fn: images [B, h, w, C] to logits [B, h - 2 margin, w - 2 margin, K].
      images: [B, H, W, C].
      net: sizes that it takes and gives.
      tile: height and width of the logits of one tile, brought to the next size that the net can give; None sees the
        image in one piece.

    Returns:
      float32 [B, H, W, K].
    """
    chex.assert_rank(images, 4)
    height, width = images.shape[1:3]
    # A tile that is smaller than its neighbors' distance would leave gaps.
    wanted = (
        side if each >= side else max(each, net.step) for side, each in zip((height, width), tile or (height, width))
    )
    inputs = net.input_size(pair(wanted))
    sizes = tuple(side - 2 * net.margin for side in inputs)
    rows, columns = (_starts(side, size, net.step) for side, size in zip((height, width), sizes))
    covered = rows[-1] + sizes[0], columns[-1] + sizes[1]
    images = mirror_pad(
        images, pair((net.margin, net.margin + far - side) for far, side in zip(covered, (height, width)))
    )

    def logits_at(corner: jax.Array) -> jax.Array:
        start = (0, corner[0], corner[1], 0)
        logits = logits_fn(jax.lax.dynamic_slice(images, start, (images.shape[0], *inputs, images.shape[3])))
        chex.assert_shape(logits, (images.shape[0], *sizes, None))
        return logits.astype(jnp.float32)

    if len(rows) == len(columns) == 1:
        return logits_at(jnp.zeros(2, jnp.int32))[:, :height, :width]

    def add_tile(total: jax.Array, corner: jax.Array) -> tuple[jax.Array, None]:
        return jax.lax.dynamic_update_slice(total, logits_at(corner), (0, corner[0], corner[1], 0)), None

    classes = jax.eval_shape(logits_at, jax.ShapeDtypeStruct((2,), jnp.int32)).shape[-1]
    corners = jnp.asarray([(top, left) for top in rows for left in columns], jnp.int32)
    total, _ = jax.lax.scan(add_tile, jnp.zeros((images.shape[0], *covered, classes), jnp.float32), corners)
    return total[:, :height, :width]


def _starts(side: int, size: int, step: int) -> list[int]:
    """First pixels of tiles that cover a side without a gap, at multiples of the step; the last may go beyond it."""
    stride = size // step * step
    return [number * stride for number in range(1 + (math.ceil((side - size) / stride) if side > size else 0))]
