"""Convolves with oneDNN, the library that jaxlib carries for x86 and that XLA's CPU compiler does not call by itself.

PyTorch convolves with the same library. It is called by the name under which XLA's runtime knows it, which is not a
documented interface. So it is tried once in each process, on small convolutions whose values are known, and called only
in programs that run in this process (`cvjax.ops.primitives`). The runtime offers forward convolutions and matrix
products. The gradient for the input is a forward convolution too. The gradient for the kernel is not, but that of a 1x1
kernel is a product, of a kind that XLA is slow at.
"""

import functools
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cvjax.ops.cpu import instructions
from cvjax.ops.geometry import Geometry
from cvjax.runtime.compiler import may_call_libraries, unstored
from cvjax.shapes import Array

_CONVOLUTION = "__onednn$convolution"
_PRODUCT = "__onednn$matmul"
# Largest difference from the right value, of sums of some ten products of numbers near 1.
_TOLERANCE = 1e-4
_TOLERANCE_BFLOAT16 = 0.1  # whose results below 16 are rounded by 0.03 at most
# Dense kernels are rearranged at every call, which pays from this many output pixels on (7x7x512, batch 8: 392 pixels,
# 0.85 times as fast as XLA; 14x14x256, batch 8: 1568 pixels, 1.1 times).
_FEW_PIXELS = 600
# XLA convolves pictures at this stride and beyond as fast or faster (11x11 stride 4: 1.25 times).
_LONG_STRIDE = 4
# Products summed over rows (kernel gradients of 1x1 convolutions) are oneDNN's from this many rows on: with one thread
# 1.0 to 1.7 times as fast as XLA's from 392 rows on, 0.3 to 1 times with 8 (`benchmarks/products.py`).
FEW_ROWS = 300
# With up to so many rows oneDNN multiplies by a transposed matrix faster (64 rows: 1.3 times, 8: 1.9 times).
_MOST_ROWS = 64
# From this many rows on, turning the sum around costs less than the slower product with the wider factor first.
_MANY_ROWS = 1000
# From so many rows and features on, oneDNN multiplies by a matrix faster than XLA: 1.0 to 1.1 times, from 16 or 24
# channels up to 1.4 times. To fewer features it is slower (25088x144 to 24: 0.9 times), with fewer rows the same.
_LONG_ROWS = 6000
_WIDE_FEATURES = 64


def suits(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
) -> bool:
    """Tells whether oneDNN is available and the fastest for these arrays.

    Sizes must be known, and padding must not be negative.
    """
    if 0 in x.shape:  # cropped away: XLA knows what to do
        return False
    if geometry.input_dilation != (1, 1) or x.dtype != kernel.dtype:
        return False
    # For outputs that see no pixel, taps that no output sees one through, and some depthwise kernels with holes, oneDNN
    # has only code that is slow, or that waits for threads of XLA's pool while it holds one of them: with two threads a
    # program then stops for good.
    if kernel.shape[2] == 1 and geometry.groups > 1 and geometry.kernel_dilation != (1, 1):
        return False
    if any(p >= reach for pads, reach in zip(geometry.padding, geometry.reach) for p in pads):
        return False
    if not all(outputs.start < outputs.stop for axis in (0, 1) for outputs in geometry.valid_outputs(axis)):
        return False
    if geometry.groups > 1:
        return (kernel.shape[2] > 1 or kernel.shape[3] == geometry.groups) and is_available(x.dtype)
    if max(geometry.strides) >= _LONG_STRIDE:
        return False
    rows, columns = geometry.output_size
    return x.shape[0] * rows * columns >= _FEW_PIXELS and is_available(x.dtype)


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width _ _"],
    geometry: Geometry,
    *,
    swapped: bool = False,
) -> Float[jax.Array, "batch rows columns features"]:
    """Convolves [B, H, W, C] with [kh, kw, C // groups, F] to [B, H', W', F], where `suits` says so.

    With `swapped` (one group) the kernel is [kh, kw, F, C], which spares a copy of it.
    """
    inside, outside = (3, 2) if swapped else (2, 3)
    maps = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    taps = {"input_feature_dim": inside, "output_feature_dim": outside, "spatial_dims": [0, 1]}
    config = {
        "dims": 4,
        "input": maps,
        "kernel": {"dims": 4, "filter": taps},
        "output": maps,
        "window": {
            "pad_left": [low for low, _ in geometry.padding],
            "pad_right": [high for _, high in geometry.padding],
            "strides": geometry.strides,
            "window_dilations": geometry.kernel_dilation,
        },
        "feature_groups": geometry.groups,
    }
    shape = (x.shape[0], *geometry.output_size, kernel.shape[outside])
    return _call(_CONVOLUTION, {"onednn_conv_config": config}, shape, x, kernel)


def suits_outer(x: Float[Array, "rows channels"], y: Float[Array, "rows features"]) -> bool:
    """Tells whether oneDNN is available and the fastest for `outer` of these arrays."""
    return x.dtype == y.dtype and x.shape[0] >= FEW_ROWS and 0 not in (*x.shape, *y.shape) and sums(x.dtype)


def outer(x: Float[Array, "rows channels"], y: Float[Array, "rows features"]) -> Float[jax.Array, "channels features"]:
    """Multiplies [N, C] and [N, F] to [C, F], summed over the rows, where `suits_outer` says so."""
    if x.shape[1] > y.shape[1] and x.shape[0] >= _MANY_ROWS:
        return outer(y, x).T
    return _multiply(x, y, (x.shape[1], y.shape[1]), "transpose_a")


def outer_batched(
    x: Float[Array, "batch rows channels"], y: Float[Array, "batch rows features"]
) -> Float[jax.Array, "batch channels features"]:
    """Multiplies [G, N, C] and [G, N, F] to [G, C, F], each summed over its rows, where `sums` says so."""
    return _multiply(x, y, (x.shape[0], x.shape[2], y.shape[2]), "transpose_a")


def times(
    x: Float[Array, "batch rows channels"], y: Float[Array, "batch channels features"]
) -> Float[jax.Array, "batch rows features"]:
    """Multiplies [G, N, C] and [G, C, F] to [G, N, F], where `sums` says so."""
    return _multiply(x, y, (*x.shape[:2], y.shape[2]))


def suits_matrix(x: Float[Array, "rows channels"], matrix: Float[Array, "channels features"]) -> bool:
    """Tells whether oneDNN is available and the fastest for `times_matrix` of these arrays."""
    wide = x.shape[0] >= _LONG_ROWS and matrix.shape[1] >= _WIDE_FEATURES
    return wide and x.dtype == matrix.dtype and 0 not in matrix.shape and sums(x.dtype)


def times_matrix(
    x: Float[Array, "rows channels"], matrix: Float[Array, "channels features"]
) -> Float[jax.Array, "rows features"]:
    """Multiplies [N, C] and [C, F] to [N, F], where `suits_matrix` says so."""
    return _multiply(x, matrix, (x.shape[0], matrix.shape[1]))


def suits_transposed(x: Float[Array, "rows features"], kernel: Float[Array, "channels features"]) -> bool:
    """Tells whether oneDNN is available and the fastest for `times_transposed` of these arrays."""
    few = x.shape[0] <= _MOST_ROWS if isinstance(x.shape[0], int) else False
    return few and x.dtype == kernel.dtype and 0 not in (*x.shape, *kernel.shape) and sums(x.dtype)


def times_transposed(
    x: Float[Array, "rows features"], kernel: Float[Array, "channels features"]
) -> Float[jax.Array, "rows channels"]:
    """Multiplies rows [N, F] by a matrix [C, F] that is transposed, to [N, C], where `suits_transposed` says so."""
    return _multiply(x, kernel, (x.shape[0], kernel.shape[0]), "transpose_b")


def _multiply(x: jax.Array, y: jax.Array, shape: tuple[int, ...], *transposed: str) -> jax.Array:
    return _call(_PRODUCT, {"onednn_matmul_config": dict.fromkeys(transposed, True)}, shape, x, y)


def _call(target: str, config: dict[str, Any], shape: tuple[int, ...], x: jax.Array, y: jax.Array) -> jax.Array:
    """Calls the library on two arrays of the result's rank, all row by row in memory."""
    row_major = tuple(range(len(shape)))
    call = jax.ffi.ffi_call(
        target,
        jax.ShapeDtypeStruct(shape, x.dtype),
        input_layouts=(row_major, row_major),
        output_layouts=row_major,
        custom_call_api_version=2,
        legacy_backend_config=json.dumps(config),
    )
    return call(x, y)


@functools.cache
def sums(dtype: Any) -> bool:
    """Tells whether this jaxlib has oneDNN, and computes what the products here ask of it for arrays of a dtype."""
    if not (_may_compute_in(dtype) and instructions.has_avx512()):
        return False
    x, y = _drawn(dtype, (9, 3), (9, 5))

    def calls(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
        xs, ys = x.reshape(3, 3, 3), y.reshape(3, 3, 5)
        products = times_transposed(x, x[:4]), times_matrix(x, y[:3])
        return outer(x, y), *products, outer_batched(xs, ys), times(xs, ys)

    wide, other = x.astype(np.float64), y.astype(np.float64)
    xs, ys = wide.reshape(3, 3, 3), other.reshape(3, 3, 5)
    right = wide.T @ other, wide @ wide[:4].T, wide @ other[:3], xs.swapaxes(1, 2) @ ys, xs @ ys
    return _computes(calls, (x, y), right)


@functools.cache
def is_available(dtype: Any = jnp.float32) -> bool:
    """Tells whether this jaxlib has oneDNN, and computes what `convolve` asks of it, in float32 or bfloat16.

    It is asked for a dense convolution, for the gradient of its input and for a grouped convolution. The meaning of the
    call's fields may change with a release of jaxlib; then the values do. bfloat16 is for processors that multiply it
    themselves. Nothing is available with CVJAX_ONEDNN=0 in the environment.
    """
    if not _may_compute_in(dtype):
        return False
    x, dense, grouped, ct = _drawn(dtype, (1, 7, 6, 4), (3, 2, 4, 6), (3, 2, 2, 6), (1, 5, 5, 6))
    plain = Geometry((7, 6), (3, 2))
    strided = Geometry((7, 6), (3, 2), strides=(2, 1), padding=((1, 0), (0, 1)), kernel_dilation=(1, 2))

    def calls(x: jax.Array, dense: jax.Array, grouped: jax.Array, ct: jax.Array) -> tuple[jax.Array, ...]:
        back = convolve(ct, dense[::-1, ::-1], plain.transposed, swapped=True)
        return convolve(x, dense, strided), back, convolve(x, grouped, replace(strided, groups=2))

    wide = [a.astype(np.float64) for a in (x, dense, grouped, ct)]
    right = (
        _by_hand(wide[0], wide[1], strided),
        _by_hand(wide[3], wide[1][::-1, ::-1].swapaxes(2, 3), plain.transposed),
        _by_hand(wide[0], wide[2], replace(strided, groups=2)),
    )
    return _computes(calls, (x, dense, grouped, ct), right)


def forget() -> None:
    """Forgets what was found out about this jaxlib, so that the environment is asked again."""
    is_available.cache_clear()
    sums.cache_clear()


def _may_compute_in(dtype: Any) -> bool:
    """Tells whether the processor has what a dtype takes, and the environment allows libraries."""
    if not may_call_libraries() or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return instructions.has_bfloat16() if dtype == jnp.bfloat16 else dtype == jnp.float32 and instructions.has_avx2()


def _drawn(dtype: Any, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def _computes(calls: Callable[..., Any], arrays: tuple[np.ndarray, ...], right: Any) -> bool:
    """Tells whether a function compiles and computes what is right, a tree of arrays."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]), unstored():
            got = jax.jit(calls).lower(*arrays).compile()(*arrays)
    except (jax.errors.JaxRuntimeError, ValueError, TypeError):  # the last two: `ffi_call` has changed
        return False
    tolerance = _TOLERANCE if arrays[0].dtype == np.float32 else _TOLERANCE_BFLOAT16
    # As numpy's arrays: this may be called while a program is traced, which would take the subtraction into it.
    differences = (
        np.abs(np.asarray(a, np.float64) - b).max() for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(right))
    )
    return max(differences) < tolerance


def _by_hand(x: np.ndarray, kernel: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Convolves with loops over groups and taps."""
    padded = np.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    rows, columns = geometry.output_size
    inside, outside = kernel.shape[2], kernel.shape[3] // geometry.groups
    y = np.zeros((len(x), rows, columns, kernel.shape[3]))
    for group in range(geometry.groups):
        features = slice(group * outside, (group + 1) * outside)
        for i, j in np.ndindex(*geometry.kernel_size):
            seen = padded[
                :,
                i * geometry.kernel_dilation[0] :: geometry.strides[0],
                j * geometry.kernel_dilation[1] :: geometry.strides[1],
                group * inside : (group + 1) * inside,
            ]
            y[..., features] += seen[:, :rows, :columns] @ kernel[i, j, :, features]
    return y
