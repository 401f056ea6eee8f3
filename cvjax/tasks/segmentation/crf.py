"""Applies a dense CRF to a net's probabilities, so that they follow the image's edges."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Integer, Real

from cvjax.ops.crf.dense_crf import dense_crf
from cvjax.shapes import Array
from cvjax.tasks.segmentation.crf_config import CRFConfig

_TINY = 1e-8  # a probability of 0 has no logarithm; below this the CRF's messages could not make up for it


def inside(size: Integer[Array, "batch 2"] | None, shape: tuple[int, ...]) -> Bool[jax.Array, "batch height width"]:
    """Returns which pixels of padded maps are not padding.

    Args:
      size: Height and width of the images in the maps' upper left corners, int [B, 2]; None if nothing is padded.
      shape: Shape of the maps, (B, H, W).

    Returns:
      bool [B, H, W].
    """
    if size is None:
        return jnp.ones(shape, bool)
    chex.assert_shape(size, (shape[0], 2))
    rows, columns = jnp.arange(shape[1])[None, :, None], jnp.arange(shape[2])[None, None]
    return (rows < size[:, 0, None, None]) & (columns < size[:, 1, None, None])


def apply_crf(
    probabilities: Float[Array, "batch height width classes"],
    images: Real[Array, "batch height width 3"],
    crf: CRFConfig,
    within: Bool[Array, "batch height width"] | None = None,
) -> Float[jax.Array, "batch height width classes"]:
    """Computes the marginals of a dense CRF with a net's probabilities as unary energies.

    The images of a batch are processed one after another. Where several devices share a batch under jit, XLA gathers
    the batch for that; with pmap every device keeps its own images.

    Args:
      probabilities: Probabilities [B, H, W, C], averaged over scales and mirror images.
      images: Images [B, H, W, 3] of the same size, in 0..255.
      crf: Kernels and number of iterations.
      within: Whether a pixel is not padding, bool [B, H, W]; None if nothing is padded.

    Returns:
      float32 [B, H, W, C].
    """
    if not crf.iterations:
        return probabilities
    return dense_crf(negative_log(probabilities), images, crf, iterations=crf.iterations, valid=within)


def negative_log(probabilities: Float[Array, "*pixels"]) -> Float32[jax.Array, "*pixels"]:
    """Computes unary energies of probabilities, float32 and finite."""
    return -jnp.log(jnp.maximum(probabilities.astype(jnp.float32), _TINY))
