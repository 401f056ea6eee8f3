"""Dropout whose masks do not depend on how the batch is spread over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Zeroes each element with probability `rate` and scales the rest by 1 / (1 - rate).

    An example's mask is drawn with a key folded from the `dropout` stream and the example's row in the
    global batch. So the same key and the same batch give the same masks under jit on any number of devices,
    and under pmap or shard_map as long as every device gets the same key and `axis_name` is set.

    Attributes:
      rate: probability of zeroing an element, 0 <= rate < 1.
      axis_name: the device axis under pmap; None under jit, where the batch is global already.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[B, ...] -> [B, ...]; the identity unless `train`.

        Raises:
          ValueError: a rate outside [0, 1).
        """
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"Dropout: the rate must be at least 0 and below 1, got {self.rate}")
        if not train or self.rate == 0.0:
            return x
        key = self.make_rng("dropout")
        rows = jnp.arange(x.shape[0])
        if self.axis_name is not None and not self.is_initializing():
            rows = rows + jax.lax.axis_index(self.axis_name) * x.shape[0]
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros_like(x))
