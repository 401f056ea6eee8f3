"""Pads maps by mirroring, for tiles that overlap."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Shaped

from cvjax.shapes import Array


def mirror_pad(
    x: Shaped[Array, "batch height width channels"], margin: int | tuple[tuple[int, int], tuple[int, int]]
) -> Shaped[jax.Array, "batch rows columns channels"]:
    """Continues maps beyond their border by mirroring, as U-Net's overlap-tile strategy does (1505.04597).

    The border pixel itself is not repeated. A margin wider than the map mirrors back and forth.

    Args:
      x: Maps [B, H, W, C].
      margin: Pixels on every side, or pairs of (before, after) for height and width.

    Returns:
      [B, H + margins, W + margins, C].

    Raises:
      ValueError: A margin is negative, or the maps have no pixels.
    """
    chex.assert_rank(x, 4)
    sides = ((margin, margin),) * 2 if isinstance(margin, int) else tuple(tuple(pair) for pair in margin)
    if min(min(pair) for pair in sides) < 0 or 0 in x.shape[1:3]:
        raise ValueError(f"mirror_pad needs pixels and margins of at least 0, got {x.shape[1:3]} and {margin}")
    return jnp.pad(x, ((0, 0), *sides, (0, 0)), mode="reflect")
