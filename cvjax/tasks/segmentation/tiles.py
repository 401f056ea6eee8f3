"""Runs nets without padding on mirrored borders and on tiles that fit together (U-Net, 1505.04597, figure 2)."""

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
    """Describes a net whose logits are smaller than its images, such as `UNetOriginal`.

    Attributes:
      margin: Number of pixels that the logits lack on every side.
      step: Product of the strides. Shifting an image by a multiple of this many pixels shifts the logits and does not
        change them otherwise.
    """

    @property
    def margin(self) -> int: ...

    @property
    def step(self) -> int: ...

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns height and width of the smallest image whose logits have at least the given size."""
        ...


def overlap_tile_logits(
    logits_fn: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    net: Unpadded,
    tile: tuple[int, int] | None = None,
) -> jax.Array:
    """Computes logits of images of any size, in one piece or in tiles, with the same result.

    Images are mirrored beyond their border, back and forth if they are smaller than the net's margin. The inputs of
    neighboring tiles overlap. Corners of tiles lie a multiple of the net's step apart, so the logits of two tiles are
    equal where they overlap. The tiles run one after another in a `lax.scan`, so the program holds one copy of the
    model and the memory of one tile.

    Args:
      logits_fn: Function from images [B, h, w, C] to logits [B, h - 2 margin, w - 2 margin, K].
      images: Images [B, H, W, C].
      net: Net without padding.
      tile: Height and width of the logits of one tile, rounded up to the next size that the net can give; None takes
        the image in one piece.

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
    """Returns the first pixels of tiles that cover a side without gaps, at multiples of the step.

    The last tile may reach beyond the side.
    """
    stride = size // step * step
    return [number * stride for number in range(1 + (math.ceil((side - size) / stride) if side > size else 0))]
