"""Divides work into blocks, sums over them, and sums several arrays over a block in one loop."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

# Numbers that are summed in one go, at most: so few that the compiler unrolls the sum and vectorizes over channels
# (depthwise 56x56x128: 2 ms, where one sum over the whole map takes 23; the two sums of a gradient of 25088 rows and
# 128 channels take 1.8 times as long with 32, three times with 56).
SUMMED = 16


def largest_divisor(n: int, limit: int = SUMMED) -> int:
    """Returns the largest divisor of n that is at most `limit`, and at least 1."""
    return max(divisor for divisor in range(1, max(min(n, limit), 1) + 1) if n % divisor == 0)


def sum_over_blocks(number: int, block: Callable[[jax.Array | int], jax.Array], zero: jax.Array) -> jax.Array:
    """Sums `block(i)` for i from 0 to `number` - 1, starting at `zero`; one block needs no loop."""
    return block(0) if number == 1 else lax.fori_loop(0, number, lambda i, total: total + block(i), zero)


def sums_in_one_loop(arrays: Sequence[jax.Array], axis: int) -> list[jax.Array]:
    """Sums several arrays of one shape along an axis, in one loop."""
    zeros = [jnp.zeros((), a.dtype) for a in arrays]
    return list(lax.reduce(list(arrays), zeros, lambda a, b: [p + q for p, q in zip(a, b)], (axis,)))
