"""Squeeze-and-excitation (Hu et al., 1709.01507)."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.nn.conv import Conv
from cvjax.nn.initializers import Initializer, he_normal
from cvjax.ops.pool import global_avg_pool
from cvjax.shapes import Array


class SqueezeExcite(nn.Module):
    """Scales channels by an attention vector made from their means over the map.

    Parameters: `reduce` and `expand`, two 1x1 convolutions, as the nets that have weights for it hold them. The vector
    [B, C] can be read out: `apply(..., mutable=["intermediates"])` returns it under `attention`.

    Attributes:
      reduction: the hidden layer has C // reduction channels, unless `hidden` says how many.
      hidden: channels of the hidden layer.
      activation: of the hidden layer.
      gate: makes the attention of the last layer's outputs.
      kernel_init: initializer of both kernels.
      dtype: of the computation; None takes it from the input and the parameters.
      least: channels of the hidden layer that `reduction` never goes below.
    """

    reduction: int = 16
    hidden: int | None = None
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    gate: Callable[[jax.Array], jax.Array] = nn.sigmoid
    kernel_init: Initializer = he_normal()
    dtype: jnp.dtype | None = None
    least: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[jax.Array, "batch height width channels"]:
        """[B, H, W, C] -> [B, H, W, C]."""
        channels = x.shape[-1]
        hidden = max(self.least, channels // self.reduction) if self.hidden is None else self.hidden
        pointwise = partial(Conv, kernel_size=(1, 1), kernel_init=self.kernel_init, dtype=self.dtype)
        squeezed = self.activation(pointwise(hidden, name="reduce")(global_avg_pool(x, keepdims=True)))
        attention = self.gate(pointwise(channels, name="expand")(squeezed))
        self.sow("intermediates", "attention", attention[:, 0, 0])
        return x * attention.astype(x.dtype)
