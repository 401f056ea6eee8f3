"""Keeps XLA from merging what is computed again for a gradient with what was computed before.

Merged, the arrays of the forward pass stay until the gradient needs them, which is what computing them again is to
spare. `jax.lax.optimization_barrier` prevents that on GPU and TPU. XLA for CPU drops barriers before it merges.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jaxtyping import Float

from cvjax.ops.cpu.apart import computed_apart, middle_element
from cvjax.ops.primitives import bind, define_batching, platform_primitive
from cvjax.shapes import Array


def recomputed(x: Float[Array, "*shape"], ct: Float[Array, "..."]) -> Float[jax.Array, "*shape"]:
    """Returns x, as something that XLA does not know to be x and that cannot be there before `ct` is.

    It is for gradients that are written by hand: it has no derivative itself.

    Args:
      x: Array that something is computed of again.
      ct: Cotangent that is known only when the forward pass is over, not empty. Where it holds NaN, x may become NaN.
    """
    return bind(_recomputed, x, ct, geometry=None)


def written_once(x: Float[Array, "*shape"], known: Float[Array, "..."]) -> Float[jax.Array, "*shape"]:
    """Returns x, which XLA for CPU then writes once, where it would compute it again in each loop that reads it.

    It is for gradients that are written by hand: it has no derivative itself.

    Args:
      x: Array that something is about to be computed of.
      known: Array in memory at that time, not empty.
    """
    return bind(_written_once, x, known, geometry=None)


def _behind_barrier(x: jax.Array, ct: jax.Array, geometry: None) -> jax.Array:
    return lax.optimization_barrier((x, ct))[0]


def _plus_zero(x: jax.Array, ct: jax.Array, geometry: None) -> jax.Array:
    """Adds the smaller of 0 and the magnitude of one element, which is 0, as XLA does not find out."""
    if 0 in ct.shape:
        return x
    return x + jnp.minimum(jnp.abs(middle_element(ct)), 0).astype(x.dtype)


_recomputed = platform_primitive("recomputed", xla=_behind_barrier, cpu=_behind_barrier, local_cpu=_plus_zero)


def _apart(x: jax.Array, known: jax.Array, geometry: None) -> jax.Array:
    if 0 in known.shape:
        return x
    return computed_apart(lambda known, x: x, known, x)


_written_once = platform_primitive("written_once", xla=_behind_barrier, cpu=_behind_barrier, local_cpu=_apart)


def _batched(
    primitive: Primitive, size: int, x: jax.Array, other: jax.Array, *, mapped: Sequence[bool], geometry: None
) -> tuple[jax.Array, int]:
    x = x if mapped[0] else jnp.broadcast_to(x[None], (size, *x.shape))
    return bind(primitive, x, other, geometry=geometry), 0


for _primitive in (_recomputed, _written_once):
    define_batching(_primitive, partial(_batched, _primitive))
