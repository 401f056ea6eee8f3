"""Squeeze-and-excitation (Hu et al., 1709.01507)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.ops.pool import global_avg_pool


class SqueezeExcite(nn.Module):
    """Scales channels by an attention vector made from their means over the map.

    Parameters: `reduce` and `expand`, two dense layers. The vector [B, C] can be read out:
    `apply(..., mutable=["intermediates"])` returns it under `attention`.

    Attributes:
      reduction: the hidden layer has C // reduction units (at least 1), unless `hidden` says how many.
      hidden: units of the hidden layer.
      gate: makes the attention of the last layer's outputs.
      dtype: of the computation; None takes it from the input and the parameters.
    """

    reduction: int = 16
    hidden: int | None = None
    gate: Callable[[jax.Array], jax.Array] = nn.sigmoid
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        channels = x.shape[-1]
        hidden = max(1, channels // self.reduction) if self.hidden is None else self.hidden
        squeezed = nn.relu(nn.Dense(hidden, dtype=self.dtype, name="reduce")(global_avg_pool(x)))
        attention = self.gate(nn.Dense(channels, dtype=self.dtype, name="expand")(squeezed))
        self.sow("intermediates", "attention", attention)
        return x * attention[:, None, None, :].astype(x.dtype)
