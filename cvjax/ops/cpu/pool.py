"""Computes pooling and its gradients for CPU, as elementwise operations on strided slices; see `cvjax.ops.pool`."""

import operator
from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from cvjax.ops.cpu.apart import computed_apart
from cvjax.ops.dtypes import wider
from cvjax.ops.geometry import Geometry, Pads, mosaic, pair, tap
from cvjax.shapes import Array


def maximum(
    x: Float[Array, "batch height width channels"], geometry: Geometry
) -> Float[jax.Array, "batch rows columns channels"]:
    """Returns the maximum over each window: [B, H, W, C] to [B, H', W', C]."""
    return _separable(_pad(x, geometry.padding, -jnp.inf), geometry, lax.max)


def total(
    x: Float[Array, "batch height width channels"], geometry: Geometry
) -> Float[jax.Array, "batch rows columns channels"]:
    """Returns the sum over each window, made in float32 or wider: [B, H, W, C] to [B, H', W', C]."""
    wide = wider(x.dtype, jnp.float32)
    return _separable(_pad(x.astype(wide), geometry.padding, 0), geometry, operator.add).astype(x.dtype)


def gather(
    x: Float[Array, "batch height width channels"], t: Float[Array, "batch height width channels"], geometry: Geometry
) -> Float[jax.Array, "batch rows columns channels"]:
    """Reads t at the places of the maxima of x: [B, H, W, C] twice to [B, H', W', C]."""
    winner, t = _winners(x, geometry), _pad(t, geometry.padding, 0)
    chosen = jnp.zeros((), t.dtype)
    for number, place in enumerate(geometry.places):
        chosen = jnp.where(winner == number, tap(t, place, geometry), chosen)
    return chosen


def scatter(
    x: Float[Array, "batch height width channels"],
    ct: Float[Array, "batch rows columns channels"],
    geometry: Geometry,
    *,
    apart: bool = False,
) -> Float[jax.Array, "batch height width channels"]:
    """Sums cotangents at the places of the maxima of x: [B, H, W, C] and [B, H', W', C] to [B, H, W, C].

    Args:
      x: Maps.
      ct: Cotangent of the maxima.
      geometry: Sizes, steps and padding of the windows.
      apart: Whether the program runs in this process alone, on one device: then in loops of its own.
    """
    winner = lax.optimization_barrier(_winners(x, geometry))  # made once, not once for each phase
    # Windows beside the map, so that every pixel of a phase sees the same number of them.
    (rows, columns), pads = geometry.strides, _windows_beside(geometry)

    def sums(ct: jax.Array, winner: jax.Array) -> jax.Array:
        winner, ct = _pad(winner, pads, -1), _pad(ct, pads, 0)
        parts = [[_phase(winner, ct, r, c, geometry) for c in range(columns)] for r in range(rows)]
        return _crop(mosaic(parts), geometry)

    return computed_apart(sums, ct, winner) if apart and 0 not in ct.shape else sums(ct, winner)


def spread(
    ct: Float[Array, "batch rows columns channels"], geometry: Geometry
) -> Float[jax.Array, "batch height width channels"]:
    """Gives every pixel the sum over the windows that cover it: [B, H', W', C] to [B, H, W, C]."""
    wide = wider(ct.dtype, jnp.float32)
    out = _pad(ct.astype(wide), _windows_beside(geometry), 0)
    for axis in (0, 1):
        step, taps = geometry.strides[axis], geometry.kernel_size[axis]
        reach = -(-taps // step)
        length = out.shape[axis + 1] - (reach - 1)
        phases = [
            reduce(operator.add, [_window(out, axis, reach - 1 - t, length) for t in range(len(range(r, taps, step)))])
            if r < taps
            else jnp.zeros_like(_window(out, axis, 0, length))
            for r in range(step)
        ]
        shape = (*out.shape[: axis + 1], length * step, *out.shape[axis + 2 :])
        out = jnp.stack(phases, axis + 2).reshape(shape)
    return _crop(out, geometry).astype(ct.dtype)


def _phase(winner: jax.Array, ct: jax.Array, r: int, c: int, geometry: Geometry) -> jax.Array:
    """Sums the cotangents that go to the pixels at (r, c) modulo the strides.

    A pixel gets those of the windows that cover it and whose maximum it is.
    """
    (kh, kw), (rows, columns) = geometry.kernel_size, geometry.strides
    above, before = -(-kh // rows) - 1, -(-kw // columns) - 1
    height, width = winner.shape[1] - above, winner.shape[2] - before
    summed = jnp.zeros((ct.shape[0], height, width, ct.shape[3]), ct.dtype)
    for t, i in enumerate(range(r, kh, rows)):
        for u, j in enumerate(range(c, kw, columns)):
            window = (slice(None), slice(above - t, above - t + height), slice(before - u, before - u + width))
            summed = summed + jnp.where(winner[window] == i * kw + j, ct[window], 0)
    return summed


def _winners(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Returns the number of the tap with the maximum, the first of equals: [B, H', W', C]."""
    x = _pad(x, geometry.padding, -jnp.inf)
    # Narrow, for the sake of memory traffic, where the number fits.
    dtype = jnp.int8 if len(geometry.places) < 128 else jnp.int32
    best, winner = tap(x, (0, 0), geometry), None
    winner = jnp.zeros(best.shape, dtype)
    for number, place in enumerate(geometry.places[1:], start=1):
        seen = tap(x, place, geometry)
        better = seen > best
        best, winner = jnp.where(better, seen, best), jnp.where(better, jnp.asarray(number, dtype), winner)
    return winner


def _separable(x: jax.Array, geometry: Geometry, combine: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """Combines rows first, then columns: kh + kw operations instead of kh * kw."""
    for axis in (0, 1):
        step, length = geometry.strides[axis], geometry.output_size[axis]
        taps = [_window(x, axis, i, length, step) for i in range(geometry.kernel_size[axis])]
        x = reduce(combine, taps)
    return x


def _window(x: jax.Array, axis: int, start: int, length: int, step: int = 1) -> jax.Array:
    return lax.slice_in_dim(x, start, start + (length - 1) * step + 1, step, axis + 1)


def _windows_beside(geometry: Geometry) -> Pads:
    """Returns, for each axis, the windows to add before and after the others.

    With them every pixel lies in its full number of windows.
    """
    pads = []
    for n, m, k, step, (low, _) in zip(
        geometry.input_size, geometry.output_size, geometry.kernel_size, geometry.strides, geometry.padding
    ):
        pads.append((-(-k // step) - 1, max(0, -(-(n + low) // step) - m)))
    return pair(pads)


def _crop(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Takes off the padding, and the pixels after the last window."""
    (top, _), (left, _) = geometry.padding
    height, width = geometry.input_size
    return x[:, top : top + height, left : left + width]


def _pad(x: jax.Array, pads: Pads, value: float, inside: tuple[int, int] = (0, 0)) -> jax.Array:
    if pads == ((0, 0), (0, 0)) and inside == (0, 0):
        return x
    edges = [(*pair, between) for pair, between in zip(pads, inside)]
    return lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
