"""Convolves with oneDNN, the library that jaxlib carries for x86 and that XLA's CPU compiler does not call by itself.

PyTorch convolves with the same library. It is called by the name under which XLA's runtime knows it, which is not a
documented interface. So it is called only under the releases of jaxlib that it was tried with, and only in programs
that run in this process (`cvjax.ops.primitives`). The runtime offers the forward convolution alone. The gradient for
the input is a forward convolution too; the gradient for the kernel is not.
"""

import functools
import json
import platform
import sys

import jax
import jax.numpy as jnp
import jaxlib.version
from jaxtyping import Float

from cvjax.ops.geometry import Geometry
from cvjax.shapes import Array

_TARGET = "__onednn$convolution"
# The releases under which the call below was tried. The meaning of its fields has changed before.
_RELEASES = ("0.10.0", "0.10.1", "0.10.2")
# Dense kernels are rearranged at every call, which pays from this many output pixels on (7x7x512, batch 8: 392 pixels,
# 0.85 times as fast as XLA; 14x14x256, batch 8: 1568 pixels, 1.1 times).
_FEW_PIXELS = 600
# XLA convolves pictures at this stride and beyond as fast or faster (11x11 stride 4: 1.25 times).
_LONG_STRIDE = 4


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
    if geometry.input_dilation != (1, 1) or not x.dtype == kernel.dtype == jnp.float32:
        return False
    if any(p >= reach for pads, reach in zip(geometry.padding, geometry.reach) for p in pads):
        return False  # oneDNN has only its slow reference code for taps that never meet the map
    if geometry.groups > 1:
        return (kernel.shape[2] > 1 or kernel.shape[3] == geometry.groups) and is_available()
    if max(geometry.strides) >= _LONG_STRIDE:
        return False
    rows, columns = geometry.output_size
    return x.shape[0] * rows * columns >= _FEW_PIXELS and is_available()


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
    row_major = tuple(range(4))
    call = jax.ffi.ffi_call(
        _TARGET,
        jax.ShapeDtypeStruct(shape, x.dtype),
        input_layouts=(row_major, row_major),
        output_layouts=row_major,
        custom_call_api_version=2,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )
    return call(x, kernel)


@functools.cache
def is_available() -> bool:
    """Tells whether this jaxlib has oneDNN and accepts the call that `convolve` makes."""
    if jaxlib.version.__version__ not in _RELEASES or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    one = jnp.zeros((1, 1, 1, 1))
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda x: convolve(x, x, Geometry((1, 1), (1, 1)))).lower(one).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
