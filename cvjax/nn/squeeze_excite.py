"""Defines squeeze-and-excitation (Hu et al., 1709.01507)."""

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

    Parameters are those of two 1x1 convolutions, `reduce` and `expand`, as the nets that have weights for it hold them.
    The vector [B, C] can be read out: `apply(..., mutable=["intermediates"])` returns it under `attention`.

    Attributes:
      reduction: Divisor of the channels: the hidden layer has C // reduction, unless `hidden` is given.
      hidden: Number of channels of the hidden layer.
      activation: Activation of the hidden layer.
      gate: Function that makes the attention of the last layer's outputs.
      kernel_init: Initializer of both kernels.
      dtype: Type of the computation; None takes it from the input and the parameters.
      least: Least number of channels of the hidden layer, whatever `reduction` is.
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
        """Scales the channels of [B, H, W, C] and keeps the shape."""
        channels = x.shape[-1]
        hidden = max(self.least, channels // self.reduction) if self.hidden is None else self.hidden
        pointwise = partial(Conv, kernel_size=(1, 1), kernel_init=self.kernel_init, dtype=self.dtype)
        squeezed = self.activation(pointwise(hidden, name="reduce")(global_avg_pool(x, keepdims=True)))
        attention = self.gate(pointwise(channels, name="expand")(squeezed))
        self.sow("intermediates", "attention", attention[:, 0, 0])
        return x * attention.astype(x.dtype)
