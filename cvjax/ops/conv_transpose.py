"""Computes transposed (fractionally strided) convolution."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from cvjax.ops.conv import conv_general_dilated


def conv_transpose(
    lhs: jax.Array,
    rhs: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: lax.PrecisionLike = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Computes `jax.lax.conv_transpose`, by `cvjax.ops.conv.conv2d` where it is two-dimensional and NHWC.

    Arguments, result and errors are those of `jax.lax`: the kernel is not turned around unless `transpose_kernel` is
    set, and pairs of padding are zeros around the spread input. With padding "SAME", maps [B, H, W, C] and a kernel
    [kh, kw, C, F] (with `transpose_kernel`: [kh, kw, F, C]) give [B, stride * H, stride * W, F].
    """
    if lhs.ndim != 4 or dimension_numbers not in (None, ("NHWC", "HWIO", "NHWC")):
        return lax.conv_transpose(
            lhs,
            rhs,
            strides,
            padding,
            rhs_dilation,
            dimension_numbers,
            transpose_kernel,
            precision,
            preferred_element_type,
        )
    dilation = tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        reaches = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation)]
        padding = tuple(_named_padding(padding, reach, step) for reach, step in zip(reaches, strides))
    if transpose_kernel:
        rhs = rhs[::-1, ::-1].swapaxes(2, 3)
    return conv_general_dilated(
        lhs,
        rhs,
        (1, 1),
        padding,
        lhs_dilation=tuple(strides),
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def _named_padding(name: str, reach: int, step: int) -> tuple[int, int]:
    """Returns the zeros around the spread input along an axis that give the output the size that the name promises."""
    if name == "SAME":
        # The split before and after is that of `jax.lax.conv_transpose`.
        before = reach - 1 if step > reach - 1 else -(-(reach + step - 2) // 2)
        return before, reach + step - 2 - before
    if name == "VALID":
        return reach - 1, step - 1 + max(reach - step, 0)
    raise ValueError(f"conv_transpose: padding is 'SAME', 'VALID' or pairs of pixels, not {name!r}")
