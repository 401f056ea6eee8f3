"""Multiplies rows by a large matrix, as dense layers do, with a gradient for the rows that is fast on CPU.

That gradient reads the matrix across its rows. For few rows XLA for CPU takes twice as long as oneDNN, and seven times
for one (9216x4096; `benchmarks/products.py`). XLA's own product and gradient for the matrix are as fast as oneDNN's.
"""

from collections.abc import Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.ops.cpu import onednn
from cvjax.ops.primitives import bind, define_batching, define_bilinear, is_explicitly_sharded, platform_primitive
from cvjax.shapes import Array


def dense(
    x: Float[Array, "rows channels"], kernel: Float[Array, "channels features"]
) -> Float[jax.Array, "rows features"]:
    """Multiplies rows [N, C] by a matrix [C, F], of the same dtype, to [N, F]."""
    chex.assert_equal(x.dtype, kernel.dtype)
    chex.assert_equal(x.shape[1], kernel.shape[0])
    if is_explicitly_sharded(x, kernel):
        return x @ kernel
    return bind(_product, x, kernel, geometry=None)


def _forward(x: jax.Array, kernel: jax.Array, geometry: None) -> jax.Array:
    return x @ kernel


def _back(ct: jax.Array, kernel: jax.Array, geometry: None) -> jax.Array:
    """Computes the gradient for the rows: [N, F] and [C, F] to [N, C]."""
    return ct @ kernel.T


def _local_back(ct: jax.Array, kernel: jax.Array, geometry: None) -> jax.Array:
    return onednn.times_transposed(ct, kernel) if onednn.suits_transposed(ct, kernel) else ct @ kernel.T


_product = platform_primitive("dense", xla=_forward, cpu=_forward)
_gradient = platform_primitive("dense_gradient", xla=_back, cpu=_back, local_cpu=_local_back)
define_bilinear(
    _product,
    lambda ct, kernel, geometry: bind(_gradient, ct, kernel, geometry=geometry),
    lambda ct, x, geometry: x.T @ ct,
)
define_bilinear(
    _gradient,
    lambda x, kernel, geometry: bind(_product, x, kernel, geometry=geometry),
    lambda x, ct, geometry: x.T @ ct,
)


def _batched(
    size: int, first: jax.Array, second: jax.Array, *, mapped: Sequence[bool], geometry: None, transposed: bool
) -> tuple[jax.Array, int]:
    matrix = jnp.swapaxes(second, -1, -2) if transposed else second
    axes = tuple(0 if is_mapped else None for is_mapped in mapped)
    return jax.vmap(jnp.matmul, axes, axis_size=size)(first, matrix), 0


define_batching(_product, partial(_batched, transposed=False))
define_batching(_gradient, partial(_batched, transposed=True))
