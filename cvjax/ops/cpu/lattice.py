"""Sorts, blurs and reads the corners of a permutohedral lattice in loops that are fast on CPU.

How many corners a lattice has is known only when it is built, and arrays have static shapes. So the filter is compiled
for a few numbers of corners, its rooms, and the smallest one that suffices runs.
"""

import math
import operator
from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jaxtyping import Float32, Int32, UInt32

from cvjax.ops.cpu.apart import computed_apart
from cvjax.shapes import Array

# Parts of the corners that there can be, which are six for each point of a picture; a photograph has one or two. A room
# takes 0.7 s to compile. Programs for small pictures have one, and so has a single channel: normalization filters it
# once.
_ROOMS = (0.2, 0.4, 1.0)
_FEW_CORNERS = 1 << 16


def sorted_with_places(
    codes: UInt32[Array, " points"],
) -> tuple[UInt32[jax.Array, " points"], Int32[jax.Array, " points"]]:
    """Sorts codes [N], and returns them and where each of them stood."""
    # As single numbers of 64 bits: XLA sorts with a second operand four times as long.
    with jax.enable_x64(True):
        place = jnp.arange(codes.shape[0], dtype=jnp.uint64)
        both = jax.lax.sort((codes.astype(jnp.uint64) << jnp.uint64(32)) | place, is_stable=False)
        return (both >> jnp.uint64(32)).astype(jnp.uint32), both.astype(jnp.uint32).astype(jnp.int32)


def lattice_filter(
    corner: Int32[Array, "classes points"],
    weight: Float32[Array, "classes points"],
    after: Int32[Array, "classes room"],
    before: Int32[Array, "classes room"],
    count: Int32[Array, ""],
    values: Float32[Array, "points channels"],
    *,
    backwards: bool,
) -> Float32[jax.Array, "points channels"]:
    """Spreads values over the corners of a lattice, blurs them along its axes, and reads them again.

    Args:
      corner, weight, after, before, count: Fields of `cvjax.ops.crf.permutohedral.Lattice`.
      values: Values [N, C].
      backwards: Whether to blur along the last axis first, which is the transpose.
    """
    rooms = _rooms(after.shape[1], values.shape[1])
    axes = list(range(len(corner)))[:: -1 if backwards else 1]
    branches = [partial(_filter, room=room, axes=axes) for room in rooms]
    # A room has a row more than corners.
    fits = sum((count >= room).astype(jnp.int32) for room in rooms[:-1])
    return jax.lax.switch(fits, branches, corner, weight, after, before, values)


def _rooms(most: int, channels: int) -> list[int]:
    if most <= _FEW_CORNERS or channels == 1:
        return [most]
    return [math.ceil(most * part) for part in _ROOMS]


def _filter(
    corner: jax.Array,
    weight: jax.Array,
    after: jax.Array,
    before: jax.Array,
    values: jax.Array,
    *,
    room: int,
    axes: Sequence[int],
) -> jax.Array:
    """Filters with `room` rows for corners, of which at least the last is none and stays zero."""
    corners = jnp.zeros((room, values.shape[1]), values.dtype)
    for places, part in zip(corner, weight):
        corners = corners.at[places].add(values * part[:, None], mode="promise_in_bounds")
    for first, second in zip(axes[::2], axes[1::2]):
        beyond = computed_apart(
            partial(_neighbors_of_neighbors, first=first, second=second, room=room), weight, after, before
        )
        blur = partial(_blur_twice, first=first, second=second)
        corners = computed_apart(blur, corners, after, before, *beyond)
    if len(axes) % 2:
        corners = computed_apart(partial(_blur, axis=axes[-1]), corners, after, before)
    return reduce(operator.add, (_rows(corners, places) * part[:, None] for places, part in zip(corner, weight)))


def _blur_twice(
    corners: jax.Array, after: jax.Array, before: jax.Array, *beyond: jax.Array, first: int, second: int
) -> jax.Array:
    """Blurs along two axes in one pass, which reads nine corners for each.

    It reads and writes half of what two passes do. And LLVM makes vectors of the loop over channels, while it unrolls
    that of a single blur into scalar operations.

    Args:
      corners: Values of the corners [R, C].
      after, before: Neighbors of the corners.
      *beyond: The neighbors along the first axis of those along the second, as `_neighbors_of_neighbors` has them.
      first, second: Axes.
    """
    near = partial(_near, room=len(corners))
    once = corners + _half(corners, near(after[first]), near(before[first]))
    ahead = _rows(corners, near(after[second])) + _half(corners, *beyond[:2])
    behind = _rows(corners, near(before[second])) + _half(corners, *beyond[2:])
    return once + 0.5 * (ahead + behind)


def _blur(corners: jax.Array, after: jax.Array, before: jax.Array, *, axis: int) -> jax.Array:
    near = partial(_near, room=len(corners))
    return corners + _half(corners, near(after[axis]), near(before[axis]))


def _half(corners: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
    return 0.5 * (_rows(corners, one) + _rows(corners, other))


def _neighbors_of_neighbors(
    _: jax.Array, after: jax.Array, before: jax.Array, *, first: int, second: int, room: int
) -> tuple[jax.Array, ...]:
    """Returns the neighbors along the first axis of the neighbors along the second, four arrays [R]."""
    sides = (after, before)
    ahead, behind = (_near(side[second], room) for side in sides)
    return tuple(jnp.minimum(_rows(side[first], of), room - 1) for of in (ahead, behind) for side in sides)


def _near(neighbors: jax.Array, room: int) -> jax.Array:
    """Puts the row of zeros in place of the neighbors that there are none of."""
    return jnp.minimum(neighbors[:room], room - 1)


def _rows(of: jax.Array, places: jax.Array) -> jax.Array:
    return of.at[places].get(mode="promise_in_bounds")
