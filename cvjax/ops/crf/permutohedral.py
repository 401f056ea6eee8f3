"""Filters points in several dimensions with a Gaussian, on the permutohedral lattice (Adams et al., 2010).

The value of every point is spread over the corners of the simplex that it lies in. The corners are blurred along each
axis of the lattice. Then every point reads the corners of its simplex again. That costs O(points x dimensions^2), where
the sum over all pairs costs O(points^2).

The usual implementation counts corners with a hash table that grows. Here all shapes are static. Corners are found by
sorting, one sort for each of their d + 1 classes. Corners that no point touches are room at the end of an array;
`cvjax.ops.cpu.lattice` says how that room is left alone on CPU.
"""

import math
import operator
from functools import partial, reduce
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int32

from cvjax.ops.cpu import lattice as cpu
from cvjax.shapes import Array

# Corners that a loop on CPU handles at a time: what they are filled with fits the caches.
_CORNERS = 8192
_NO_CODE = np.uint32(0xFFFFFFFF)


class Lattice(NamedTuple):
    """Says where N points lie in the lattice of d dimensions, with room for one corner more than E = N (d + 1).

    Attributes:
      corner: int32 [d + 1, N], the corners of each point's simplex, one of each class, in [0, count).
      weight: float32 [d + 1, N], barycentric coordinates; they sum to 1.
      after: int32 [d + 1, E + 1], the next corner along each axis; E + 1 where there is none.
      before: int32 [d + 1, E + 1], the previous corner along each axis; E + 1 where there is none.
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
    # Points last all the way: few and short axes are what TPUs pad to 128.
    quotient, rank, weight = _enclosing_simplex(jax.lax.stop_gradient(points.astype(jnp.float32)).T)
    codes, strides = _codes(quotient, rank)
    corner, corners = jax.lax.platform_dependent(codes, cpu=_corners_by_place, default=_corners_by_code)
    after, before = _neighbors(corners, strides)
    return Lattice(corner, weight, after, before, corners.bounds[-1])


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
    return _filter(lattice, values.astype(jnp.float32))


def _forward(lattice: Lattice, values: jax.Array) -> tuple[jax.Array, tuple[Lattice, jax.Array]]:
    return permutohedral_filter(lattice, values), (lattice, jnp.zeros((), values.dtype))


def _backward(residuals: tuple[Lattice, jax.Array], gradient: jax.Array) -> tuple[None, jax.Array]:
    lattice, like = residuals
    # Spreading and reading are transposes of each other; the blurs along the axes are symmetric, but do not commute
    # where corners are missing, so they go in the opposite order.
    return None, _filter_backwards(lattice, gradient).astype(like.dtype)


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


class _Corners(NamedTuple):
    """Lists the corners of a lattice, class after class and in the order of their codes, in R = E + 1 places.

    Attributes:
      code: uint32 [R], codes.
      rank: int32 [R], classes.
      bounds: int32 [d + 2], first corner of each class, and the number of corners.
    """

    code: jax.Array
    rank: jax.Array
    bounds: jax.Array


def _corners_by_code(codes: jax.Array) -> tuple[jax.Array, _Corners]:
    """Finds corners by sorting codes [d + 1, N]; returns the number of each point's corner, [d + 1, N], and all."""
    _, corners = _numbered(jnp.sort(codes))
    classes = jnp.arange(len(codes), dtype=jnp.int32)[:, None]
    return _find(corners, codes, classes), corners


def _corners_by_place(codes: jax.Array) -> tuple[jax.Array, _Corners]:
    """Does what `_corners_by_code` does, with a sort that keeps the points' places, so that none is looked up."""
    in_order, places = zip(*map(cpu.sorted_with_places, codes))
    numbers, corners = _numbered(jnp.stack(in_order))
    corner = [jnp.zeros_like(n).at[place].set(n, unique_indices=True) for n, place in zip(numbers, places)]
    return jnp.stack(corner), corners


def _numbered(in_order: jax.Array) -> tuple[jax.Array, _Corners]:
    """Numbers equal codes alike: returns the numbers int32 [d + 1, N] of sorted codes [d + 1, N], and the corners."""
    sides, points = in_order.shape
    room = sides * points + 1
    in_order = in_order.reshape(-1)
    place = jnp.arange(sides * points, dtype=jnp.int32)
    first = (in_order != jnp.roll(in_order, 1)) | (place % points == 0)
    number = jax.lax.associative_scan(jnp.add, first.astype(jnp.int32)) - 1
    bounds = jnp.concatenate([number[::points], number[-1:] + 1])
    target = jnp.where(first, number, room)
    code = jnp.full((room,), _NO_CODE).at[target].set(in_order, mode="drop")
    rank = jnp.zeros((room,), jnp.int32).at[target].set(place // points, mode="drop")
    return number.reshape(sides, points), _Corners(code, rank, bounds)


def _neighbors(corners: _Corners, strides: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the corners one step along every axis, and one step back: two arrays int32 [d + 1, R].

    A step along axis j takes class k to class k + 1. All coordinates grow by one, except that of the axis, which falls
    by d. The strides are those of the codes, see `_codes`.
    """
    room, sides = corners.code.shape[0], strides.shape[0] + 1
    along = jnp.append(strides, jnp.uint32(0))[:, None]  # the last coordinate is in no code
    around = strides.sum(dtype=jnp.uint32)
    count = corners.bounds[-1]

    def look_up(start: jax.Array, size: int) -> jax.Array:
        code = jax.lax.dynamic_slice_in_dim(corners.code, start, size)
        rank = jax.lax.dynamic_slice_in_dim(corners.rank, start, size)
        ahead = code[None] - along + jnp.where(rank == sides - 1, around, jnp.uint32(0))[None]
        found = _find(corners, ahead, (rank + 1) % sides)
        return jnp.where((start + jnp.arange(size, dtype=jnp.int32) < count)[None], found, room)

    def in_blocks(count: jax.Array) -> jax.Array:
        block = min(room, _CORNERS)

        def step(i: jax.Array, out: jax.Array) -> jax.Array:
            start = jnp.minimum(i * block, room - block)
            return jax.lax.dynamic_update_slice_in_dim(out, look_up(start, block), start, 1)

        return jax.lax.fori_loop(0, (count + block - 1) // block, step, missing)

    def at_once(_: jax.Array) -> jax.Array:
        return look_up(jnp.zeros((), jnp.int32), room)

    missing = jnp.full((sides, room), room, jnp.int32)
    # Accelerators do all places at once rather than wait for a loop.
    after = jax.lax.platform_dependent(count, cpu=in_blocks, default=at_once)
    corner = jnp.arange(room, dtype=jnp.int32)
    before = [row.at[there].set(corner, mode="drop") for row, there in zip(missing, after)]
    return after, jnp.stack(before)


def _find(corners: _Corners, wanted: jax.Array, rank: jax.Array) -> jax.Array:
    """Finds the corners of class `rank` with the code `wanted`, by bisection.

    Returns:
      int32 in the shape of `wanted`; R where there is no such corner.
    """
    codes, _, bounds = corners
    room = codes.shape[0]
    low = jnp.broadcast_to(bounds[rank], wanted.shape)
    end = jnp.broadcast_to(bounds[rank + 1], wanted.shape)

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) // 2
        below = jnp.take(codes, middle, mode="clip") < wanted
        open_ = low < high
        return jnp.where(open_ & below, middle + 1, low), jnp.where(open_ & ~below, middle, high)

    steps = 32 - jax.lax.clz(jnp.max(bounds[1:] - bounds[:-1]))
    low, _ = jax.lax.fori_loop(0, steps, halve, (low, end))
    found = (low < end) & (jnp.take(codes, low, mode="clip") == wanted)
    return jnp.where(found, low, room)


def _filtered(lattice: Lattice, values: jax.Array, *, backwards: bool) -> jax.Array:
    chex.assert_shape(values, (lattice.corner.shape[1], None))
    in_rooms, at_once = (partial(f, backwards=backwards) for f in (cpu.lattice_filter, _filter_at_once))
    return jax.lax.platform_dependent(*lattice, values, cpu=in_rooms, default=at_once)


_filter = jax.custom_batching.sequential_vmap(partial(_filtered, backwards=False))
_filter_backwards = jax.custom_batching.sequential_vmap(partial(_filtered, backwards=True))


def _filter_at_once(
    corner: jax.Array,
    weight: jax.Array,
    after: jax.Array,
    before: jax.Array,
    count: jax.Array,
    values: jax.Array,
    *,
    backwards: bool,
) -> jax.Array:
    """Filters values [N, C] with room for all corners that there can be, see `Lattice`."""
    del count
    sides, room = after.shape
    parts = (values[None] * weight[..., None]).reshape(-1, values.shape[1])
    corners = jnp.zeros((room, values.shape[1]), values.dtype)
    corners = corners.at[corner.reshape(-1)].add(parts, mode="promise_in_bounds")

    def blur(corners: jax.Array, i: jax.Array | int) -> jax.Array:
        """Adds half of its two neighbors along the i-th axis to each corner."""
        axis = sides - 1 - i if backwards else i
        ahead, behind = (jnp.take(corners, of[axis], axis=0, mode="fill", fill_value=0) for of in (after, before))
        return corners + 0.5 * (ahead + behind)

    # Two axes a pass, as an array that trades places with another between passes would be copied.
    corners = jax.lax.fori_loop(0, sides // 2, lambda i, c: blur(blur(c, 2 * i), 2 * i + 1), corners)
    if sides % 2:
        corners = blur(corners, sides - 1)
    parts = (jnp.take(corners, corner[k], axis=0, mode="clip") * weight[k, :, None] for k in range(sides))
    return reduce(operator.add, parts)
