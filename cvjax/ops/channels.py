"""Scales, shifts and sums maps by channel: what normalization over a batch does, and its gradients.

A normalization reads its maps for two sums, of a value and its square, and its gradient reads two arrays for two more.
On CPU XLA makes each sum in a loop of its own, from arrays that it has written for them. Here both sums are made in one
loop, together with what they are made of.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching
from jaxtyping import Float

from cvjax.ops.cpu.blocks import largest_divisor, sums_in_one_loop
from cvjax.ops.primitives import bind, is_explicitly_sharded, platform_primitive
from cvjax.shapes import Array

# Rows without a divisor of at least this are summed as XLA does.
_FEW_SUMMED = 4


class _Summed(NamedTuple):
    """Says what is summed: arrays of a shape, whose sums are then divided by a number."""

    shape: tuple[int, ...]
    divisor: int


def channel_sums(*arrays: Float[Array, "*places channels"]) -> Float[jax.Array, "arrays channels"]:
    """Sums each of several arrays [..., C], of one shape and dtype, over all axes but the last: [len(arrays), C]."""
    return _divided_sums(arrays, 1)


def channel_means(*arrays: Float[Array, "*places channels"]) -> Float[jax.Array, "arrays channels"]:
    """Averages what `channel_sums` sums; nan where there is nothing to average.

    On CPU each value is divided before it is summed. So what XLA makes of the result, a dozen kernels, knows no size of
    maps, and layers of as many channels share it.
    """
    return _divided_sums(arrays, math.prod(arrays[0].shape[:-1]))


def _divided_sums(arrays: Sequence[jax.Array], divisor: int) -> jax.Array:
    chex.assert_equal_shape(arrays)
    summed = _Summed(arrays[0].shape, divisor)
    if is_explicitly_sharded(*arrays):
        return _plain_sums(*arrays, geometry=summed)
    return bind(_sums, *arrays, geometry=summed)


def channel_affine(
    x: Float[Array, "*places channels"], factor: Float[Array, " channels"], offset: Float[Array, " channels"]
) -> Float[jax.Array, "*places channels"]:
    """Multiplies maps [..., C] by a factor for each channel and adds an offset [C], all of one dtype."""
    chex.assert_equal_shape((factor, offset))
    chex.assert_equal(x.shape[-1:], factor.shape)
    if is_explicitly_sharded(x, factor, offset):
        return _plain_affine(x, factor, offset)
    return bind(_affine, x, factor, offset, geometry=None)


def _plain_sums(*arrays: jax.Array, geometry: _Summed) -> jax.Array:
    return jnp.stack([a.sum(tuple(range(a.ndim - 1))) / geometry.divisor for a in arrays])


def _blocked_sums(*arrays: jax.Array, geometry: _Summed) -> jax.Array:
    """Sums a few rows at a time, of all arrays in one loop, and then what that leaves."""
    *places, channels = geometry.shape
    if 0 in geometry.shape or not all(isinstance(n, int) for n in geometry.shape):
        return _plain_sums(*arrays, geometry=geometry)
    # Within a row of the map, if it divides: the loop's indices are then those of the maps.
    few = largest_divisor(places[-1]) if places else 1
    shape = (*places[:-1], -1, few, channels)
    if few < _FEW_SUMMED:
        few = largest_divisor(math.prod(places))
        shape = (-1, few, channels)
    if few < _FEW_SUMMED:
        return _plain_sums(*arrays, geometry=geometry)
    # Divided first: XLA repeats a division of the sums in each loop that reads them.
    blocks = [(a * (1 / geometry.divisor)).reshape(shape) for a in arrays]
    parts = sums_in_one_loop(blocks, axis=len(shape) - 2)
    return jnp.stack([part.reshape(-1, channels).sum(axis=0) for part in parts])


_sums = platform_primitive("channel_sums", xla=_plain_sums, cpu=_plain_sums, local_cpu=_blocked_sums)


def _spread_sums(ct: jax.Array, *, geometry: _Summed) -> list[jax.Array]:
    return [jnp.broadcast_to(row, geometry.shape) for row in ct / geometry.divisor]


def _batched_sums(
    arrays: Sequence[jax.Array], axes: Sequence[int | None], *, geometry: _Summed
) -> tuple[jax.Array, int]:
    size = next(a.shape[axis] for a, axis in zip(arrays, axes) if axis is not None)
    each = [batching.bdim_at_front(a, axis, size) for a, axis in zip(arrays, axes)]
    return jax.vmap(partial(_plain_sums, geometry=geometry))(*each), 0


ad.deflinear(_sums, _spread_sums)


batching.primitive_batchers[_sums] = _batched_sums


def _plain_affine(x: jax.Array, factor: jax.Array, offset: jax.Array, geometry: None = None) -> jax.Array:
    places = tuple(range(x.ndim - 1))
    return x * jnp.expand_dims(factor, places) + jnp.expand_dims(offset, places)


_affine = platform_primitive("channel_affine", xla=_plain_affine, cpu=_plain_affine)


def _affine_jvp(primals: Any, tangents: Any, *, geometry: None) -> tuple[jax.Array, jax.Array]:
    x, factor, offset = primals
    of_x, *others = tangents
    tangent = _affine.bind(x, *map(ad.instantiate_zeros, others), geometry=None)
    if not isinstance(of_x, ad.Zero):
        tangent = tangent + of_x * jnp.expand_dims(factor, tuple(range(x.ndim - 1)))
    return _affine.bind(x, factor, offset, geometry=None), tangent


def _affine_transpose(ct: Any, x: Any, factor: Any, offset: Any, *, geometry: None) -> list[jax.Array | None]:
    """Returns the gradients for factor and offset, in which the function is linear together."""
    products, sums = channel_sums(ct * x, ct)
    return [None, products, sums]


def _batched_affine(arrays: Sequence[jax.Array], axes: Sequence[int | None], *, geometry: None):
    return jax.vmap(lambda x, factor, offset: _plain_affine(x, factor, offset), tuple(axes))(*arrays), 0


ad.primitive_jvps[_affine] = _affine_jvp
ad.primitive_transposes[_affine] = _affine_transpose
batching.primitive_batchers[_affine] = _batched_affine
