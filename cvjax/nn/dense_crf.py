"""Defines a dense CRF as a layer whose weights are learned (Zheng et al., CRF as RNN, 1502.03240)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32

from cvjax.ops.crf.dense_crf import dense_crf
from cvjax.ops.crf.kernels import DEEPLAB_V2, CRFKernels
from cvjax.shapes import Array


class DenseCRF(nn.Module):
    """Applies mean field inference to a net's logits, with learned weights and compatibility.

    Both kernels have a weight for each pair of labels. Parameters are `smooth` and `appearance` [C, C], which start as
    multiples of the identity, and `compatibility` [C, C], which starts as Potts. So the layer starts as the plain CRF
    of these kernels.

    Attributes:
      kernels: Widths of the kernels, and the weights that the layer starts from.
      iterations: Number of steps of inference; the paper trains with 5 and tests with 10.
      color_scale: Size of a unit of the images in each channel, in 1/255 of the colors' range; a shift of the images
        does not matter. The default is that of images normalized with ImageNet's deviations.
    """

    kernels: CRFKernels = DEEPLAB_V2
    iterations: int = 5
    color_scale: tuple[float, float, float] = (58.395, 57.12, 57.375)

    @nn.compact
    def __call__(
        self, logits: Float[Array, "batch height width labels"], images: Float[Array, "batch height width 3"]
    ) -> Float32[jax.Array, "batch height width labels"]:
        """Computes the logits of the marginals.

        Args:
          logits: Logits of the net, [B, H, W, C].
          images: Images [B, H, W, 3], floating point.

        Returns:
          float32 [B, H, W, C], logarithms of probabilities.
        """
        identity = jnp.eye(logits.shape[-1], dtype=jnp.float32)
        smooth = self.param("smooth", lambda _: self.kernels.smooth_weight * identity)
        appearance = self.param("appearance", lambda _: self.kernels.appearance_weight * identity)
        compatibility = self.param("compatibility", lambda _: 1.0 - identity)
        return dense_crf(
            -logits.astype(jnp.float32),
            images.astype(jnp.float32) * jnp.asarray(self.color_scale)[None, None, None],
            self.kernels,
            iterations=self.iterations,
            smooth_weights=smooth,
            appearance_weights=appearance,
            compatibility=compatibility,
            log=True,
        )
