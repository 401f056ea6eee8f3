"""Drops elements and whole residual branches, with masks that do not depend on the spread over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from cvjax.nn.axis import first_row
from cvjax.shapes import Array


class Dropout(nn.Module):
    """Zeroes each element with probability `rate` and scales the rest by 1 / (1 - rate).

    An example's mask is drawn with a key folded from the `dropout` stream and the example's row in the global batch. So
    the same key and the same batch give the same masks under jit on any number of devices, and under pmap or shard_map
    where the devices' axis is bound (see `cvjax.nn.axis`).

    Attributes:
      rate: Probability of zeroing an element, 0 <= rate < 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], train: bool = False) -> Float[Array, "batch ..."]:
        """Drops elements of [B, ...] if `train`, and returns x unchanged otherwise.

        Raises:
          ValueError: The rate is outside [0, 1).
        """
        return _drop(self, x, train, x.shape[1:])


class DropPath(nn.Module):
    """Applies stochastic depth (1603.09382): zeroes whole examples of a residual branch with probability `rate`.

    The rest is scaled by 1 / (1 - rate). Put it on the branch, before the shortcut is added. Randomness and fields are
    those of `Dropout`.

    Attributes:
      rate: Probability of zeroing an example, 0 <= rate < 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], train: bool = False) -> Float[Array, "batch ..."]:
        """Drops examples of [B, ...] if `train`, and returns x unchanged otherwise.

        Raises:
          ValueError: The rate is outside [0, 1).
        """
        return _drop(self, x, train, (1,) * (x.ndim - 1))


def row_keys(module: nn.Module, stream: str, rows: int) -> Key[jax.Array, " rows"]:
    """Returns a key for every example of a batch, the same however the batch is spread over devices.

    Args:
      module: Module that asks for the keys.
      stream: Name of the stream that the keys are drawn from.
      rows: Number of examples on this device.

    Returns:
      Keys [rows], folded from the stream's key and the example's row in the global batch.
    """
    key, numbers = module.make_rng(stream), jnp.arange(rows)
    if not module.is_initializing():
        numbers = numbers + first_row(rows)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def _drop(module: Dropout | DropPath, x: jax.Array, train: bool, shape: tuple[int, ...]) -> jax.Array:
    """Drops with one decision for each element of `shape`, which is broadcast over an example."""
    rate = module.rate
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{type(module).__name__}: the rate must be at least 0 and below 1, got {rate}")
    if not train or rate == 0.0:
        return x
    keys = row_keys(module, "dropout", x.shape[0])
    keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - rate, shape))(keys)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))
