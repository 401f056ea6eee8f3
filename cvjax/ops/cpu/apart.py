"""Keeps XLA for CPU from repeating work in each loop that reads its result.

XLA merges what it can into every loop that needs it. That spares memory traffic where little is computed, and repeats
the work of a whole window at each element where much is. `jax.lax.optimization_barrier` says that it should not, but
XLA for CPU drops barriers before it merges loops. It does not look into the branches of a condition.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar("T")


def computed_apart(function: Callable[..., T], *arrays: jax.Array) -> T:
    """Computes `function(*arrays)` in loops of its own, and writes the result once.

    Args:
      function: Function of the arrays; its result is an array or a tree of them.
      *arrays: Its arguments. The first is floating point and not empty.
    """
    bits = lax.bitcast_convert_type(first_element(arrays[0]).astype(jnp.float32), jnp.int32)
    always = (bits | 1) != 0  # as XLA does not find out
    example = jax.eval_shape(function, *arrays)

    def never(*_: jax.Array) -> T:
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), example)

    return lax.cond(always, function, never, *arrays)


def first_element(a: jax.Array) -> jax.Array:
    """Returns the first element of an array that is not empty, without touching the others."""
    return lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())
