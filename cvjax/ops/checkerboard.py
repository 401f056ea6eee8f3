"""How much of a map is a checkerboard: a pattern that repeats with the stride of an upsampling."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float32, Real

from cvjax.shapes import Array


def checkerboard_energy(
    maps: Real[Array, "batch height width channels"], period: int
) -> Float32[jax.Array, "batch channels"]:
    """The fraction of a map's energy that lies in a pattern of a given period along both axes.

    The pixels of a map fall into period**2 phases, by their row and their column modulo the period. The measure is the
    variance of the phases' means, divided by the mean square of the map. By Parseval's theorem that is the energy at
    the frequencies that are multiples of 1 / period along both axes, without the mean's, as a fraction of the whole
    energy. Interpolation leaves nothing there of a constant map, and transposed convolution whose kernel is no multiple
    of its stride does, since a number of taps that changes from phase to phase falls on each pixel (Odena, Dumoulin and
    Olah, Deconvolution and Checkerboard Artifacts, 2016). It does not change with the map's scale.

    What varies slowly over the map leaks a little: a ramp over n periods up to 1 / n**2 of its variance. To judge a
    decoder, look at the inside of its answer to a constant image, or at the mean over many images.

    Args:
      maps: [B, H, W, C], real; sides of at least one period, of which whole ones count.
      period: that of the pattern, in pixels: the stride of the upsampling; at least 2.

    Returns:
      float32 [B, C] in [0, 1]; 0 for a constant map, and 1 for one that is nothing but a pattern of zero mean.

    Raises:
      ValueError: a period below 2, or longer than a side.
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
