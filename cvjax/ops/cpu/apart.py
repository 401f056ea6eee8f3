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
      *arrays: Its arguments. The first is floating point and not empty. Under `jax.shard_map` all vary over the same
        axes.
    """
    example = jax.eval_shape(function, *arrays)

    def never(*arrays: jax.Array) -> T:
        # Filled like an argument, as that has its manual axes under `shard_map`.
        return jax.tree.map(lambda a: lax.full_like(arrays[0], 0, a.dtype, a.shape), example)

    return lax.cond(always(arrays[0]), function, never, *arrays)


def always(a: jax.Array) -> jax.Array:
    """Returns True, which XLA does not find out, and does not have before it has the array."""
    bits = lax.bitcast_convert_type(middle_element(a).astype(jnp.float32), jnp.int32)
    return (bits | 1) != 0


def middle_element(a: jax.Array) -> jax.Array:
    """Returns the element in the middle of an array that is not empty, without touching the others.

    At the edges of a map may be padding, which XLA knows.
    """
    middle = [n // 2 for n in a.shape]
    return lax.slice(a, middle, [n + 1 for n in middle]).reshape(())
