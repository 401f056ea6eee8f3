"""Dropout of elements and of whole residual branches, with masks that do not depend on the spread over devices."""

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
        return _drop(self, x, train, x.shape[1:])


class DropPath(nn.Module):
    """Stochastic depth (1603.09382): zeroes whole examples of a residual branch, scales the rest by 1 / (1 - rate).

    Put it on the branch, before the shortcut is added. Randomness and fields are those of `Dropout`.

    Attributes:
      rate: probability of zeroing an example, 0 <= rate < 1.
      axis_name: the device axis under pmap; None under jit.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[B, ...] -> [B, ...]; the identity unless `train`.

        Raises:
          ValueError: a rate outside [0, 1).
        """
        return _drop(self, x, train, (1,) * (x.ndim - 1))


def _drop(module: Dropout | DropPath, x: jax.Array, train: bool, shape: tuple[int, ...]) -> jax.Array:
    """Zeroes with one decision for each element of `shape`, which is broadcast over an example."""
    rate = module.rate
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{type(module).__name__}: the rate must be at least 0 and below 1, got {rate}")
    if not train or rate == 0.0:
        return x
    key = module.make_rng("dropout")
    rows = jnp.arange(x.shape[0])
    if module.axis_name is not None and not module.is_initializing():
        rows = rows + jax.lax.axis_index(module.axis_name) * x.shape[0]
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - rate, shape))(keys)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))
