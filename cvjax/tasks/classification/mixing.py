"""Mixes the examples of a batch on the device, by mixup (1710.09412) and CutMix (1905.04899).

Rows 2k and 2k + 1 are partners, so that no row leaves its device, whatever the number of devices. The loader has
shuffled the examples. The random numbers of a pair depend only on the key and on the index of its first example.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Float, Integer

from cvjax.errors import ConfigError
from cvjax.shapes import Array

_QUANTILES = 4096


class Mix(NamedTuple):
    """Holds the random choices of every pair of rows.

    Attributes:
      share: Share of a row that stays its own, float32 [B / 2]; the rest comes from its partner.
      cut: Whether the pair swaps a rectangle (CutMix) instead of blending all pixels (mixup), bool [B / 2].
      top, bottom, left, right: Rectangle as fractions of height and width, float32 [B / 2].
    """

    share: jax.Array
    cut: jax.Array
    top: jax.Array
    bottom: jax.Array
    left: jax.Array
    right: jax.Array


def draw_mix(
    index: Integer[Array, " batch"], key: jax.Array, mixup: float, cutmix: float, size: tuple[int, int]
) -> Mix:
    """Draws how each pair of rows mixes.

    Where both mixup and CutMix are on, each pair takes one of them with equal probability.

    Args:
      index: Positions of the examples in the dataset, int [B].
      key: Random key of this step.
      mixup, cutmix: Parameters of the Beta distributions of the shares; 0 turns that kind off.
      size: Height and width of the images in pixels, to which the rectangles are aligned.

    Returns:
      The choices of every pair.

    Raises:
      ConfigError: The number of rows is odd.
    """
    chex.assert_rank(index, 1)
    if index.shape[0] % 2:
        raise ConfigError(
            f"mixup and cutmix mix pairs of neighbors, and this batch has {index.shape[0]} rows; make batch_size a"
            " multiple of twice the devices (and micro-batches)"
        )

    def draw(number: jax.Array) -> Mix:
        # Kind, share, and the rectangle's center.
        kind, share, *center = jax.random.uniform(jax.random.fold_in(key, number), (4,))
        cut = kind < (0.5 if mixup and cutmix else float(bool(cutmix)))
        kept = jnp.where(cut, _beta(cutmix or 1.0, share), _beta(mixup or 1.0, share))
        center, half = jnp.stack(center), jnp.sqrt(1.0 - kept) / 2
        extent = jnp.asarray(size, jnp.float32)
        low, high = (jnp.round(jnp.clip(center + side * half, 0.0, 1.0) * extent) / extent for side in (-1, 1))
        kept = jnp.where(cut, 1.0 - jnp.prod(high - low), kept)
        return Mix(kept, cut, low[0], high[0], low[1], high[1])

    return jax.vmap(draw)(index[::2])


def mix_images(
    images: Float[Array, "batch height width channels"], mix: Mix
) -> Float[jax.Array, "batch height width channels"]:
    """Returns images [B, H, W, C], each mixed with its partner."""
    chex.assert_rank(images, 4)
    height, width = images.shape[1:3]
    rows, columns = (jnp.arange(side).astype(jnp.float32)[None] + 0.5 for side in (height, width))
    row_inside = (rows > (mix.top * height)[:, None]) & (rows < (mix.bottom * height)[:, None])
    column_inside = (columns > (mix.left * width)[:, None]) & (columns < (mix.right * width)[:, None])
    kept = jnp.where(row_inside[:, :, None] & column_inside[:, None, :], 0.0, 1.0)
    kept = jnp.where(mix.cut[:, None, None], kept, mix.share[:, None, None])
    return _blend(images, kept[:, None, :, :, None])


def mix_targets(targets: Float[Array, "batch classes"], mix: Mix) -> Float[jax.Array, "batch classes"]:
    """Returns distributions over classes [B, C], mixed as their images are."""
    chex.assert_rank(targets, 2)
    return _blend(targets, mix.share[:, None, None])


def _beta(alpha: float, uniform: jax.Array) -> jax.Array:
    """Returns a sample from Beta(alpha, alpha), made from a uniform sample.

    It interpolates linearly in a table of quantiles: XLA takes longer to compile the rejection sampling of
    `jax.random.beta` than a small net.
    """
    table = jnp.asarray(scipy.special.betaincinv(alpha, alpha, np.linspace(0, 1, _QUANTILES + 1)), jnp.float32)
    place = uniform * _QUANTILES
    below = jnp.minimum(place.astype(jnp.int32), _QUANTILES - 1)
    return table[below] + (place - below.astype(jnp.float32)) * (table[below + 1] - table[below])


def _blend(values: jax.Array, kept: jax.Array) -> jax.Array:
    pairs = values.reshape(values.shape[0] // 2, 2, *values.shape[1:])
    return (pairs * kept + pairs[:, ::-1] * (1.0 - kept)).reshape(values.shape)
