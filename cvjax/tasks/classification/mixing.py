"""mixup (1710.09412) and CutMix (1905.04899) of a batch, on the device.

Rows 2k and 2k + 1 are each other's partners, so that no row leaves the device it lies on, whatever their number;
the loader has shuffled the examples. What a pair draws follows from the key and from the index of its first example.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from cvjax.errors import ConfigError

_QUANTILES = 4096


class Mix(NamedTuple):
    """What every pair of rows drew.

    Attributes:
      share: float32 [B / 2], how much of a row stays itself; the rest is its partner's.
      cut: bool [B / 2], whether a rectangle is exchanged (CutMix) instead of all pixels blended (mixup).
      top, bottom, left, right: float32 [B / 2], the rectangle as fractions of height and width.
    """

    share: jax.Array
    cut: jax.Array
    top: jax.Array
    bottom: jax.Array
    left: jax.Array
    right: jax.Array


def draw_mix(index: jax.Array, key: jax.Array, mixup: float, cutmix: float, size: tuple[int, int]) -> Mix:
    """Draws how each pair of rows mixes; where both kinds are on, each pair takes one of them, evenly.

    Args:
      index: int [B], the examples' positions in the data set.
      key: of this step.
      mixup, cutmix: both parameters of the Beta distribution of the shares; 0 turns that kind off.
      size: height and width of the images, whose pixels a rectangle is aligned to.

    Raises:
      ConfigError: the rows do not make pairs.
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


def mix_images(images: jax.Array, mix: Mix) -> jax.Array:
    """Images [B, H, W, C], each mixed with its partner."""
    chex.assert_rank(images, 4)
    height, width = images.shape[1:3]
    rows, columns = (jnp.arange(side) + 0.5 for side in (height, width))
    row_inside = (rows > (mix.top * height)[:, None]) & (rows < (mix.bottom * height)[:, None])
    column_inside = (columns > (mix.left * width)[:, None]) & (columns < (mix.right * width)[:, None])
    kept = jnp.where(row_inside[:, :, None] & column_inside[:, None, :], 0.0, 1.0)
    kept = jnp.where(mix.cut[:, None, None], kept, mix.share[:, None, None])
    return _blend(images, kept[:, None, :, :, None])


def mix_targets(targets: jax.Array, mix: Mix) -> jax.Array:
    """Distributions over classes [B, C], mixed as their images are."""
    chex.assert_rank(targets, 2)
    return _blend(targets, mix.share[:, None, None])


def _beta(alpha: float, uniform: jax.Array) -> jax.Array:
    """A draw from Beta(alpha, alpha), from a uniform one.

    By a table of quantiles, linear between them: the rejection sampling of `jax.random.beta` takes XLA longer to
    compile than a small net.
    """
    table = jnp.asarray(scipy.special.betaincinv(alpha, alpha, np.linspace(0, 1, _QUANTILES + 1)), jnp.float32)
    place = uniform * _QUANTILES
    below = jnp.minimum(place.astype(jnp.int32), _QUANTILES - 1)
    return table[below] + (place - below) * (table[below + 1] - table[below])


def _blend(values: jax.Array, kept: jax.Array) -> jax.Array:
    pairs = values.reshape(values.shape[0] // 2, 2, *values.shape[1:])
    return (pairs * kept + pairs[:, ::-1] * (1.0 - kept)).reshape(values.shape)
