"""The box predictor is the last layers of Faster R-CNN's second stage."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.nn import gaussian


class BoxPredictor(nn.Module):
    """Predicts the class of a region, background first, and deltas of its box for every class, by two dense layers.

    Attributes:
      num_classes: Number of classes without background.
      dtype: Type of the computation; results are float32.
    """

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Turns x [R, C] into logits [R, 1 + num_classes] and deltas [R, 1 + num_classes, 4], float32."""
        count = 1 + self.num_classes
        # The deviations are those of Fast R-CNN (1504.08083, section 2.3).
        logits = nn.Dense(count, dtype=self.dtype, kernel_init=gaussian(0.01), name="classes")(x)
        deltas = nn.Dense(4 * count, dtype=self.dtype, kernel_init=gaussian(0.001), name="deltas")(x)
        return logits.astype(jnp.float32), deltas.astype(jnp.float32).reshape(-1, count, 4)
