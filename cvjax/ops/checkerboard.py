"""Measures how much of a map is a checkerboard: a pattern that repeats with the stride of an upsampling."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float32, Real

from cvjax.shapes import Array


def checkerboard_energy(
    maps: Real[Array, "batch height width channels"], period: int
) -> Float32[jax.Array, "batch channels"]:
    """Returns the fraction of a map's energy that lies in a pattern of a given period along both axes.

    The pixels of a map fall into period**2 phases, by their row and their column modulo the period. The measure is the
    variance of the phases' means, divided by the mean square of the map. By Parseval's theorem that is the energy at
    the frequencies that are multiples of 1 / period along both axes, without the mean's, as a fraction of the whole
    energy. Interpolation of a constant map leaves no energy there. A transposed convolution leaves some if its kernel
    is no multiple of its stride, since the number of taps that fall on a pixel then changes from phase to phase (Odena,
    Dumoulin and Olah, Deconvolution and Checkerboard Artifacts, 2016). The measure does not change with the map's
    scale.

    A slow change over the map leaks a little: a ramp over n periods leaks up to 1 / n**2 of its variance. To judge a
    decoder, look at the inside of its answer to a constant image, or at the mean over many images.

    Args:
      maps: Real maps, [B, H, W, C]. Their sides hold at least one period; pixels beyond the last whole one are left
        out.
      period: Period of the pattern, in pixels, at least 2: the stride of the upsampling.

    Returns:
      float32 [B, C] in [0, 1]; 0 for a constant map, and 1 for a map that is nothing but a pattern of zero mean.

    Raises:
      ValueError: The period is below 2, or longer than a side.
    """
    chex.assert_rank(maps, 4)
    batch, height, width, channels = maps.shape
    if period < 2 or min(height, width) < period:
        raise ValueError(f"the period is at least 2 and at most the map's sides, not {period} for {height}x{width}")
    rows, columns = height // period, width // period
    maps = maps[:, : rows * period, : columns * period].astype(jnp.float32)
    energy = jnp.square(maps).mean((1, 2))
    phases = maps.reshape(batch, rows, period, columns, period, channels).mean((1, 3))
    return phases.var((1, 2)) / jnp.where(energy > 0, energy, 1.0)
