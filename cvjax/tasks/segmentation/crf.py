"""Applies a dense CRF to a net's probabilities, so that they follow the image's edges."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32, Integer, Real

from cvjax.errors import ConfigError
from cvjax.ops.crf.dense_crf import DEEPLAB_V1, DEEPLAB_V2, CRFKernels, dense_crf
from cvjax.shapes import Array

_TINY = 1e-8  # a probability of 0 has no logarithm; below this the CRF's messages could not make up for it


@dataclasses.dataclass(frozen=True)
class CRFConfig(CRFKernels):
    """Configures a dense CRF.

    Attributes: those of `CRFKernels`, and
      iterations: Number of steps of mean field inference; 0 leaves probabilities as they are.
    """

    iterations: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 0:
            raise ConfigError(f"iterations of a CRF are {self.iterations}; give 0 or more, 10 is the papers' number")


CRFS = {
    "v1": CRFConfig(**dataclasses.asdict(DEEPLAB_V1)),
    "v2": CRFConfig(**dataclasses.asdict(DEEPLAB_V2)),
    "off": CRFConfig(iterations=0),
}
"""CRFs by name: those of DeepLab v1 and v2, and none."""
CRF_SYNTAX = f"{'|'.join(CRFS)}|SMOOTH_WEIGHT,SMOOTH_SIGMA,WEIGHT,SIGMA,COLOR_SIGMA[,ITERATIONS]"


def parse_crf(text: str) -> CRFConfig:
    """Parses a CRF from a command line: a name of `CRFS`, or 5 or 6 numbers in the order of the fields.

    Raises:
      ConfigError: The text is neither.
    """
    if text in CRFS:
        return CRFS[text]
    try:
        values = [float(part) for part in text.split(",")]
        if len(values) not in (5, 6):
            raise ValueError(f"{len(values)} numbers")
        smooth_weight, smooth_sigma, weight, sigma, color_sigma, *more = values
        iterations = int(more[0]) if more else CRFConfig.iterations
        return CRFConfig(smooth_weight, smooth_sigma, weight, sigma, color_sigma, iterations)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no CRF ({error}); give {CRF_SYNTAX}, as v2 or 3,1,4,67,3") from error


def format_crf(crf: CRFConfig) -> str:
    """Returns the text from which `parse_crf` makes the same CRF."""
    return next((name for name, known in CRFS.items() if known == crf), None) or ",".join(
        f"{value:g}" for value in dataclasses.astuple(crf)
    )


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
