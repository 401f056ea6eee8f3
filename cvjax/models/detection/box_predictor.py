"""The last layers of Faster R-CNN's second stage."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.nn import gaussian


class BoxPredictor(nn.Module):
    """Two dense layers side by side: the class of a region, background first, and deltas of its box for every class.

    Attributes:
      num_classes: without background.
      dtype: of the computation; what comes out is float32.
    """

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[R, C] -> logits [R, 1 + num_classes] and deltas [R, 1 + num_classes, 4], float32."""
        count = 1 + self.num_classes
        logits = nn.Dense(count, dtype=self.dtype, kernel_init=gaussian(0.01), name="classes")(x)
        deltas = nn.Dense(4 * count, dtype=self.dtype, kernel_init=gaussian(0.001), name="deltas")(x)
        return logits.astype(jnp.float32), deltas.astype(jnp.float32).reshape(-1, count, 4)
