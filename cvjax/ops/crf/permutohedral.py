"""Filters points in several dimensions with a Gaussian, on the permutohedral lattice (Adams et al., 2010).

The value of every point is spread over the corners of the simplex that it lies in. The corners are blurred along each
axis of the lattice. Then every point reads the corners of its simplex again. That costs O(points x dimensions^2), where
the sum over all pairs costs O(points^2).

The usual implementation counts corners with a hash table that grows. Here all shapes are static. Corners are found by
sorting, one sort for each of their d + 1 classes. Corners that no point touches are room at the end of an array; on CPU
loops over blocks leave that room alone.
"""

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int32

from cvjax.shapes import Array

# Corners that a loop on CPU handles at a time: what they are filled with fits the caches.
_CORNERS = 8192
_NO_CODE = np.uint32(0xFFFFFFFF)


class Lattice(NamedTuple):
    """Says where N points lie in the lattice of d dimensions, with room for E = N (d + 1) corners.

    Attributes:
      corner: int32 [d + 1, N], the corners of each point's simplex, one of each class, in [0, count).
      weight: float32 [d + 1, N], barycentric coordinates; they sum to 1.
      after: int32 [d + 1, E], the next corner along each axis; E where there is none.
      before: int32 [d + 1, E], the previous corner along each axis; E where there is none.
      count: int32 [], the number of corners.
    """

    corner: Int32[jax.Array, "classes points"]
    weight: Float32[jax.Array, "classes points"]
    after: Int32[jax.Array, "classes corners"]
    before: Int32[jax.Array, "classes corners"]
    count: Int32[jax.Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]  # the field, not the tuple's method


@jax.custom_batching.sequential_vmap
def build_lattice(points: Float[Array, "points dimensions"]) -> Lattice:
    """Builds the lattice of points; `permutohedral_filter` can then sum over them any number of times.

    Under `vmap` lattices are built one after the other. Corners are told apart by a code of 32 bits. If the points
    spread so far that more bits are needed (2^32 cells in their bounding box), codes wrap around. Then about M^2 / 2^33
    of M corners share a code with another corner, and add to its values.

    Args:
      points: Points [N, d], in units of the Gaussian's standard deviation. No gradient flows to them.

    Returns:
      The lattice, for a Gaussian of standard deviation 1.
    """
    chex.assert_rank(points, 2)
    count, dimensions = points.shape
    entries = count * (dimensions + 1)
    # Points last all the way: few and short axes are what TPUs pad to 128.
    quotient, rank, weight = _enclosing_simplex(jax.lax.stop_gradient(points.astype(jnp.float32)).T)
    codes, strides = _codes(quotient, rank)
    # One sort a class, of codes alone: XLA sorts without a second operand five times as fast on CPU.
    in_order = jnp.concatenate([jnp.sort(codes[k]) for k in range(dimensions + 1)])
    place = jnp.arange(entries, dtype=jnp.int32)
    first = (in_order != jnp.roll(in_order, 1)) | (place % count == 0)
    number = jax.lax.associative_scan(jnp.add, first.astype(jnp.int32)) - 1
    corners = number[-1] + 1
    bounds = jnp.concatenate([number[::count], corners[None]])
    target = jnp.where(first, number, entries)
    unique = jnp.full((entries,), _NO_CODE).at[target].set(in_order, mode="drop")
    rank_of = jnp.zeros((entries,), jnp.int32).at[target].set(place // count, mode="drop")
    classes = jnp.arange(dimensions + 1, dtype=jnp.int32)[:, None]
    corner = _find(unique, bounds, codes, classes)
    after, before = _neighbors(unique, rank_of, bounds, strides)
    return Lattice(corner, weight, after, before, corners)


@jax.custom_vjp
def permutohedral_filter(
    lattice: Lattice, values: Float[Array, "points channels"]
) -> Float32[jax.Array, "points channels"]:
    """Sums the values of all points, weighted by exp(-|distance|^2 / 2), approximately and up to a constant factor.

    The factor depends on the dimension alone and cancels where sums are divided by sums of weights. The function is
    linear in `values`. Gradients flow to the values, not to the lattice. Under `vmap` the examples follow one another.

    Args:
      lattice: Lattice of N points.
      values: Values [N, C].

    Returns:
      float32 [N, C].
    """
    return _filter(lattice, values.astype(jnp.float32), jnp.asarray(False))


def _forward(lattice: Lattice, values: jax.Array) -> tuple[jax.Array, tuple[Lattice, jax.Array]]:
    return permutohedral_filter(lattice, values), (lattice, jnp.zeros((), values.dtype))


def _backward(residuals: tuple[Lattice, jax.Array], gradient: jax.Array) -> tuple[None, jax.Array]:
    lattice, like = residuals
    # Spreading and reading are transposes of each other; the blurs along the axes are symmetric, but do not commute
    # where corners are missing, so they go in the opposite order.
    return None, _filter(lattice, gradient, jnp.asarray(True)).astype(like.dtype)


permutohedral_filter.defvjp(_forward, _backward)


def _enclosing_simplex(points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Finds the simplex of the lattice that each of the points [d, N] lies in.

    Returns:
      quotient: int32 [d + 1, N], the nearest corner whose coordinates are multiples of d + 1, divided by d + 1.
      rank: int32 [d + 1, N], the order of the coordinates by how far the point lies beyond that corner, the farthest
        first.
      weight: [d + 1, N], barycentric coordinates in the simplex, of its corner of class 0, 1, ... d.
    """
    dimensions = points.shape[0]
    sides = dimensions + 1
    elevation = jnp.asarray(_elevation(dimensions).T, points.dtype)
    raised = jnp.matmul(elevation, points, precision=jax.lax.Precision.HIGHEST)
    nearest = jnp.round(raised / sides)
    beyond = raised - nearest * sides
    rank = []
    # Equal coordinates are ranked by their position, so that ranks are a permutation.
    for i in range(sides):
        ahead = [beyond[j] >= beyond[i] if j < i else beyond[j] > beyond[i] for j in range(sides) if j != i]
        rank.append(reduce(operator.add, (a.astype(jnp.int32) for a in ahead)))
    # The rounded corner's coordinates may not sum to zero; then it is not of the lattice, and its neighbor is.
    rank = jnp.stack(rank) + nearest.sum(0, keepdims=True).astype(jnp.int32)
    step = (rank < 0).astype(jnp.int32) - (rank > dimensions).astype(jnp.int32)
    rank = rank + sides * step
    nearest = nearest + step.astype(nearest.dtype)
    beyond = (raised - nearest * sides) / sides
    falling = [jnp.where(rank == dimensions - k, beyond, 0.0).sum(0) for k in range(sides)]
    weight = [falling[k] - falling[k - 1] for k in range(1, sides)]
    return nearest.astype(jnp.int32), rank, jnp.stack([1.0 + falling[0] - falling[-1], *weight])


def _elevation(dimensions: int) -> np.ndarray:
    """Returns the map from R^d onto the plane of R^(d + 1) whose coordinates sum to zero, float64 [d, d + 1].

    It is scaled so that the lattice's blur has a standard deviation of 1.
    """
    basis = np.zeros((dimensions, dimensions + 1))
    for i in range(dimensions):
        basis[i, : i + 1] = 1.0
        basis[i, i + 1] = -(i + 1)
        basis[i] *= math.sqrt(2 / 3) * (dimensions + 1) / math.sqrt((i + 1) * (i + 2))
    return basis


def _codes(quotient: jax.Array, rank: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Numbers the corners of a class in mixed radix: uint32 [d + 1, N], and the radices' strides [d].

    A corner of class k has coordinates (d + 1) q + k. The last coordinate follows from the others, so it is in no code.
    """
    dimensions = quotient.shape[0] - 1
    low = quotient[:-1].min(1) - 2
    # The neighbors that are looked up lie within a step of the corners, which lie within one of the quotients.
    spans = (quotient[:-1].max(1) - low + 2).astype(jnp.uint32)
    strides = jnp.concatenate([jnp.ones((1,), jnp.uint32), jnp.cumprod(spans[:-1], dtype=jnp.uint32)])
    digits = (quotient[:-1] - low[:, None]).astype(jnp.uint32)
    codes = [
        ((digits - (rank[:-1] > dimensions - k).astype(jnp.uint32)) * strides[:, None]).sum(0, dtype=jnp.uint32)
        for k in range(dimensions + 1)
    ]
    return jnp.stack(codes), strides


def _neighbors(
    codes: jax.Array, ranks: jax.Array, bounds: jax.Array, strides: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the corners one step along every axis, and one step back: two arrays int32 [d + 1, E].

    A step along axis j takes class k to class k + 1. All coordinates grow by one, except that of the axis, which falls
    by d.

    Args:
      codes, ranks: Code and class of each corner, [E].
      bounds: First corner of each class, and the number of corners, [d + 2].
      strides: Strides of the codes, see `_codes`.
    """
    entries, sides = codes.shape[0], strides.shape[0] + 1
    along = jnp.append(strides, jnp.uint32(0))[:, None]  # the last coordinate is in no code
    around = strides.sum(dtype=jnp.uint32)

    def look_up(start: jax.Array, size: int) -> jax.Array:
        code = jax.lax.dynamic_slice_in_dim(codes, start, size)
        rank = jax.lax.dynamic_slice_in_dim(ranks, start, size)
        ahead = code[None] - along + jnp.where(rank == sides - 1, around, jnp.uint32(0))[None]
        return _find(codes, bounds, ahead, (rank + 1) % sides)

    missing = jnp.full((sides, entries), entries, jnp.int32)
    after = _over_corners(bounds[-1], look_up, missing, axis=1)
    # Rows past the last corner may hold anything where they were looked up, too.
    corner = jnp.arange(entries, dtype=jnp.int32)
    after = jnp.where((corner < bounds[-1])[None], after, entries)
    before = [row.at[there].set(corner, mode="drop") for row, there in zip(missing, after)]
    return after, jnp.stack(before)


def _find(codes: jax.Array, bounds: jax.Array, wanted: jax.Array, rank: jax.Array) -> jax.Array:
    """Finds the corners of class `rank` with the code `wanted`, by bisection.

    Returns:
      int32 in the shape of `wanted`; the length of `codes` where there is no such corner.
    """
    room = codes.shape[0]
    low = jnp.broadcast_to(bounds[rank], wanted.shape)
    end = jnp.broadcast_to(bounds[rank + 1], wanted.shape)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) // 2
        below = jnp.take(codes, middle, mode="clip") < wanted
        open_ = low < high
        return jnp.where(open_ & below, middle + 1, low), jnp.where(open_ & ~below, middle, high)

    steps = math.ceil(math.log2(room // (bounds.shape[0] - 1) + 1))
    low, _ = jax.lax.fori_loop(0, steps, halve, (low, end))
    found = (low < end) & (jnp.take(codes, low, mode="clip") == wanted)
    return jnp.where(found, low, room)


@jax.custom_batching.sequential_vmap
def _filter(lattice: Lattice, values: jax.Array, backwards: jax.Array) -> jax.Array:
    sides, points = lattice.corner.shape
    chex.assert_shape(values, (points, None))
    parts = (values[None] * lattice.weight[..., None]).reshape(sides * points, -1)
    corners = jnp.zeros_like(parts).at[lattice.corner.reshape(-1)].add(parts, mode="promise_in_bounds")
    spare = jnp.zeros_like(corners)

    def axis(i: jax.Array | int) -> jax.Array:
        return jnp.where(backwards, sides - 1 - i, i)

    # Two arrays in turns, as what lies behind the last corner need not be written again; two axes a pass, as an array
    # that trades places with another between passes would be copied.
    def two_axes(i: jax.Array, arrays: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        corners, spare = arrays
        spare = _blur(lattice, corners, spare, axis(2 * i))
        return _blur(lattice, spare, corners, axis(2 * i + 1)), spare

    corners, spare = jax.lax.fori_loop(0, sides // 2, two_axes, (corners, spare))
    if sides % 2:
        corners = _blur(lattice, corners, spare, axis(sides - 1))
    parts = (
        jnp.take(corners, lattice.corner[k], axis=0, mode="clip") * lattice.weight[k, :, None] for k in range(sides)
    )
    return reduce(operator.add, parts)


def _blur(lattice: Lattice, corners: jax.Array, out: jax.Array, axis: jax.Array) -> jax.Array:
    """Adds half of its two neighbors along an axis to each corner, [E, C], and writes the result into `out`."""

    def blurred(start: jax.Array, size: int) -> jax.Array:
        def neighbors(of: jax.Array) -> jax.Array:
            places = jax.lax.dynamic_slice(of, (axis, start), (1, size))[0]
            return jnp.take(corners, places, axis=0, mode="fill", fill_value=0)

        mine = jax.lax.dynamic_slice_in_dim(corners, start, size)
        return mine + 0.5 * (neighbors(lattice.after) + neighbors(lattice.before))

    return _over_corners(lattice.count, blurred, out)


def _over_corners(count: jax.Array, work: Callable[[jax.Array, int], jax.Array], out: jax.Array, axis: int = 0):
    """Replaces the first `count` places of `out` along an axis, and perhaps more, by `work(start, size)`.

    `work` gives the places of [start, start + size). On CPU it is called for blocks up to `count`. Accelerators do all
    places at once rather than wait for a loop.
    """
    size = out.shape[axis]
    block = min(size, _CORNERS)

    def in_blocks(count: jax.Array) -> jax.Array:
        def step(i: jax.Array, out: jax.Array) -> jax.Array:
            start = jnp.minimum(i * block, size - block)
            return jax.lax.dynamic_update_slice_in_dim(out, work(start, block), start, axis)

        return jax.lax.fori_loop(0, (count + block - 1) // block, step, out)

    def at_once(count: jax.Array) -> jax.Array:
        return work(jnp.zeros((), jnp.int32), size)

    return jax.lax.platform_dependent(count, cpu=in_blocks, default=at_once)
