"""Keeps XLA for CPU from repeating work in each loop that reads its result.

XLA merges what it can into every loop that needs it. That spares memory traffic where little is computed, and repeats
the work of a whole window at each element where much is. `jax.lax.optimization_barrier` says that it should not, but
XLA for CPU drops barriers before it merges loops. It does not look into the branches of a condition.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def computed_apart(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Computes `function(*arrays)` in loops of its own, and writes the result once.

    Args:
      function: Function of the arrays, with one result.
      *arrays: Its arguments. The first is floating point and not empty.
    """
    example = jax.eval_shape(function, *arrays)
    bits = lax.bitcast_convert_type(first_element(arrays[0]).astype(jnp.float32), jnp.int32)
    always = (bits | 1) != 0  # as XLA does not find out
    return lax.cond(always, function, lambda *_: jnp.zeros(example.shape, example.dtype), *arrays)


def first_element(a: jax.Array) -> jax.Array:
    """Returns the first element of an array that is not empty, without touching the others."""
    return lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())
