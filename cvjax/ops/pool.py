"""Takes the maximum and the average over windows, with Flax's arguments, each direction lowered as suits the platform.

XLA's `reduce_window` is the right operation on GPU and TPU. On CPU its gradients are slow: `select_and_scatter` takes
12 times as long or more. So on CPU windows are strided slices of the maps, and gradients go phase by phase: the pixels
of one offset modulo the stride all see the same few windows.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import lax
from jax.interpreters import ad
from jaxtyping import Real, Shaped

from cvjax.ops.cpu import pool as cpu
from cvjax.ops.dtypes import wider
from cvjax.ops.geometry import Geometry, Pads, Pair, pair
from cvjax.ops.height import HEIGHT_AXIS, height_mesh
from cvjax.ops.primitives import bind, define_batching, is_explicitly_sharded, platform_primitive, transpose
from cvjax.shapes import Array

Window = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]


def max_pool(
    x: Shaped[Array, "*places channels"],
    window_shape: Window,
    strides: Window | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
) -> Shaped[jax.Array, "*pooled channels"]:
    """Returns the maximum over windows; padding counts as minus infinity, so it never wins.

    The arguments are those of `flax.linen.max_pool`, and so is the result. One number stands for a pair, too. Among
    equal pixels of a window the gradient goes to the first, in rows from the top, as XLA's does.

    Args:
      x: Maps [..., H, W, C], with any number of axes in front.
      window_shape: Height and width of the window, in pixels.
      strides: Steps between windows, in pixels; 1 by default.
      padding: "VALID", "SAME", pixels on every side, or pairs of (before, after) for height and width.
      ceil_mode: Whether a last window that sticks out counts, as in PyTorch, if it starts on the map or on the padding
        before it.

    Returns:
      [..., H', W', C] in the dtype of x, with H' = (H + pads - window) // stride + 1, or with that division rounded up.

    Raises:
      ValueError: Padding by pixels is more than half the window, which would make windows of padding alone, or
        `ceil_mode` is set with padding by name.
    """
    if _is_foreign(x, window_shape):
        return linen.max_pool(x, window_shape, strides, cast(str, padding))  # Flax takes what we take
    geometry, _ = _geometry(x, window_shape, strides, padding, ceil_mode, "max_pool")
    return _pool(_max, _xla_max, x, geometry)


def avg_pool(
    x: Shaped[Array, "*places channels"],
    window_shape: Window,
    strides: Window | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
    ceil_mode: bool = False,
) -> Shaped[jax.Array, "*pooled channels"]:
    """Returns the mean over windows.

    The arguments are those of `flax.linen.avg_pool`, and so is the result. One number stands for a pair, too.

    Args:
      x: Maps [..., H, W, C], with any number of axes in front.
      window_shape, strides, padding, ceil_mode: As for `max_pool`.
      count_include_pad: Whether padding counts as zeros among the pixels of a window; otherwise the mean is over the
        pixels on the map. Pixels beyond the padding (`ceil_mode`) never count.

    Returns:
      [..., H', W', C] in the dtype of x.

    Raises:
      ValueError: As for `max_pool`.
    """
    if _is_foreign(x, window_shape):
        return linen.avg_pool(x, window_shape, strides, cast(str, padding), count_include_pad)
    geometry, inner = _geometry(x, window_shape, strides, padding, ceil_mode, "avg_pool")
    total = _pool(_sum, _xla_sum, x, geometry)
    counted = inner if count_include_pad else ((0, 0), (0, 0))
    rows, columns = (_counts(geometry, axis, counted[axis]) for axis in (0, 1))
    counts = np.expand_dims(rows[:, None, None] * columns[:, None], tuple(range(total.ndim - 3)))
    return total / jnp.asarray(counts, total.dtype)


def global_avg_pool(
    x: Real[Array, "*batch height width channels"], keepdims: bool = False
) -> Real[Array, "*pooled channels"]:
    """Returns the mean over the map, [..., H, W, C] to [..., C], or to [..., 1, 1, C] with `keepdims`.

    The sum is made in float32 or wider.
    """
    wide = wider(x.dtype, jnp.float32)
    return x.mean(axis=(-3, -2), keepdims=keepdims, dtype=wide).astype(x.dtype)


def global_max_pool(
    x: Real[Array, "*batch height width channels"], keepdims: bool = False
) -> Real[Array, "*pooled channels"]:
    """Returns the maximum over the map, [..., H, W, C] to [..., C], or to [..., 1, 1, C] with `keepdims`."""
    return x.max(axis=(-3, -2), keepdims=keepdims)


def _pair(value: Window) -> Pair:
    return (value, value) if isinstance(value, int) else pair(value)


def _is_foreign(x: jax.Array, window: Window) -> bool:
    """Tells whether pooling is left to Flax: windows of one or three axes, and integers."""
    flat = isinstance(window, int) or len(window) == 2
    return not flat or not jnp.issubdtype(x.dtype, jnp.floating)


def _geometry(
    x: jax.Array, window: Window, strides: Window | None, padding: Padding, ceil_mode: bool, name: str
) -> tuple[Geometry, Pads]:
    """Returns the geometry, and the padding without the pixels that `ceil_mode` adds to it."""
    if x.ndim < 3:
        raise ValueError(f"{name} takes maps [..., H, W, C], got {x.ndim} axes")
    sizes, window, strides = pair(x.shape[-3:-1]), _pair(window), _pair(1 if strides is None else strides)
    if isinstance(padding, str):
        if ceil_mode:
            raise ValueError(f"{name}: ceil_mode needs padding in pixels, not {padding!r}")
        inner = pair(lax.padtype_to_pads(sizes, window, strides, padding))
    else:
        padding = (padding, padding) if isinstance(padding, int) else padding
        inner = pair((p, p) if isinstance(p, int) else pair(p) for p in padding)
        if any(2 * p > k for pads, k in zip(inner, window) for p in pads):
            raise ValueError(f"{name}: padding {padding} is more than half of the window {window}")
    outer = inner
    if ceil_mode:
        outer = pair(
            (low, high + _overhang(n, low, high, k, step))
            for n, (low, high), k, step in zip(sizes, inner, window, strides)
        )
    return Geometry(sizes, window, strides, outer), inner


def _overhang(size: int, low: int, high: int, window: int, step: int) -> int:
    """Returns the pixels by which the last window of `ceil_mode` sticks out beyond the padding."""
    last = -(-(size + low + high - window) // step) * step
    if last >= size + low:  # it would see padding alone
        last -= step
    return max(0, last + window - (size + low + high))


def _counts(geometry: Geometry, axis: int, pads: Pair) -> np.ndarray:
    """Returns the number of pixels that each window covers along an axis, of the map with these pads."""
    starts = np.arange(geometry.output_size[axis]) * geometry.strides[axis] - geometry.padding[axis][0]
    stops = np.minimum(starts + geometry.kernel_size[axis], geometry.input_size[axis] + pads[1])
    return stops - np.maximum(starts, -pads[0])


def _pool(primitive: Any, xla: Any, x: jax.Array, geometry: Geometry) -> jax.Array:
    """Applies a primitive of [B, H, W, C] to [..., H, W, C]."""
    *batch, _, _, channels = x.shape
    if 0 in (*batch, *geometry.output_size, channels):
        return jnp.zeros((*batch, *geometry.output_size, channels), x.dtype)
    if is_explicitly_sharded(x) and x.ndim == 4:
        return xla(x, geometry)  # the rules of jax.lax say what the gradient's sharding is
    y = bind(primitive, x if x.ndim == 4 else x.reshape(-1, *x.shape[-3:]), geometry=geometry)
    return y.reshape(*batch, *y.shape[1:])


def _stock(x: jax.Array, geometry: Geometry, start: float, combine: Any) -> jax.Array:
    pads = ((0, 0), *geometry.padding, (0, 0))
    return lax.reduce_window(x, start, combine, (1, *geometry.kernel_size, 1), (1, *geometry.strides, 1), pads)


def _xla_max(x: jax.Array, geometry: Geometry) -> jax.Array:
    return _stock(x, geometry, -jnp.inf, lax.max)


def _xla_sum(x: jax.Array, geometry: Geometry) -> jax.Array:
    return _stock(x, geometry, 0.0, lax.add)


def _xla_gather(x: jax.Array, t: jax.Array, geometry: Geometry) -> jax.Array:
    return jax.jvp(partial(_xla_max, geometry=geometry), (x,), (t,))[1]


def _xla_scatter(x: jax.Array, ct: jax.Array, geometry: Geometry) -> jax.Array:
    return transpose(lambda t: _xla_gather(x, t, geometry), x.shape, ct)


def _xla_spread(ct: jax.Array, geometry: Geometry) -> jax.Array:
    shape = (ct.shape[0], *geometry.input_size, ct.shape[-1])
    return transpose(partial(_xla_sum, geometry=geometry), shape, ct)


def _cpu_split_scatter(x: jax.Array, ct: jax.Array, geometry: Geometry) -> jax.Array:
    """Does without XLA's own on CPU, which keeps places of pixels beside values, where that keeps rows apart.

    That is where windows do not overlap. Maps are completed below and to the right, so that each device has whole
    windows, and as many as the others.
    """
    mesh = height_mesh()
    if mesh is None or geometry.kernel_size != geometry.strides or any(low for low, _ in geometry.padding):
        return _xla_scatter(x, ct, geometry)
    rows, columns = geometry.output_size
    rows += -rows % mesh.shape[HEIGHT_AXIS]
    size = pair(n * step for n, step in zip((rows, columns), geometry.strides))
    more = [max(0, n - now) for n, now in zip(size, geometry.input_size)]
    whole = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), ((0, 0, 0), (0, more[0], 0), (0, more[1], 0), (0, 0, 0)))
    whole = whole[:, : size[0], : size[1]]  # where the last pixels are in no window
    below = ((0, 0), (0, rows - ct.shape[1]), (0, 0), (0, 0))
    found = cpu.scatter(whole, jnp.pad(ct, below), Geometry(size, geometry.kernel_size, geometry.strides))
    beside = [max(0, now - n) for n, now in zip(size, geometry.input_size)]
    found = jnp.pad(found, ((0, 0), (0, beside[0]), (0, beside[1]), (0, 0)))
    return found[:, : geometry.input_size[0], : geometry.input_size[1]]


# x -> the maxima; (x, t) -> t at the places of the maxima; (x, ct) -> the transpose of that.
_max = platform_primitive("max_pool", xla=_xla_max, cpu=cpu.maximum)
_gather = platform_primitive("max_pool_gather", xla=_xla_gather, cpu=cpu.gather)
_scatter = platform_primitive(
    "max_pool_scatter",
    xla=_xla_scatter,
    cpu=cpu.scatter,
    local_cpu=partial(cpu.scatter, apart=True),
    cpu_split=_cpu_split_scatter,
)
# x -> the sums; ct -> the transpose of that.
_sum = platform_primitive("sum_pool", xla=_xla_sum, cpu=cpu.total)
_spread = platform_primitive("sum_pool_spread", xla=_xla_spread, cpu=cpu.spread)


def _transposed_to(primitive: Any) -> Any:
    """Returns the transpose rule of a primitive of (x, t) that is linear in t alone."""

    def rule(ct: Any, x: jax.Array, t: Any, *, geometry: Geometry) -> list[Any]:
        return [None, ct if type(ct) is ad.Zero else bind(primitive, x, ct, geometry=geometry)]

    return rule


ad.defjvp(_max, lambda t, x, geometry: bind(_gather, x, t, geometry=geometry))
# The place of the maximum does not move with x, almost everywhere.
ad.defjvp(_gather, None, lambda dt, x, t, geometry: bind(_gather, x, dt, geometry=geometry))
ad.defjvp(_scatter, None, lambda dct, x, ct, geometry: bind(_scatter, x, dct, geometry=geometry))
ad.primitive_transposes[_gather] = _transposed_to(_scatter)
ad.primitive_transposes[_scatter] = _transposed_to(_gather)
ad.deflinear2(_sum, lambda ct, x, geometry: [bind(_spread, ct, geometry=geometry)])
ad.deflinear2(_spread, lambda ct, x, geometry: [bind(_sum, ct, geometry=geometry)])


def _batched(
    primitive: Any, size: int, *arrays: jax.Array, mapped: list[bool], geometry: Geometry
) -> tuple[jax.Array, int]:
    whole = [a if m else jnp.broadcast_to(a, (size, *a.shape)) for a, m in zip(arrays, mapped)]
    out = bind(primitive, *(a.reshape(-1, *a.shape[2:]) for a in whole), geometry=geometry)
    return out.reshape(size, -1, *out.shape[1:]), 0


for _primitive in (_max, _gather, _scatter, _sum, _spread):
    define_batching(_primitive, partial(_batched, _primitive))
