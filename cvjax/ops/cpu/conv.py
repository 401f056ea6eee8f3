"""Computes convolution and its two gradients in forms that XLA compiles well for CPU.

There is one formulation for each kind of kernel. oneDNN computes the convolutions at which it is the fastest, where it
may be called. XLA's own convolution stays where XLA is the fastest: for dense kernels on maps of few pixels, and for
most kernel gradients. Ratios in comments compare times with XLA's, measured on two AVX-512 cores in float32. They are
above 1 where XLA is the slower one.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.ops import conv_xla
from cvjax.ops.cpu import depthwise, grouped, narrowing, onednn, winograd
from cvjax.ops.cpu.apart import computed_apart
from cvjax.ops.cpu.space_to_depth import (
    depth_to_space,
    has_space_to_depth,
    kernel_from_depth,
    kernel_to_depth,
    space_to_depth,
    space_to_depth_geometry,
)
from cvjax.ops.dtypes import wider
from cvjax.ops.geometry import Geometry, crop, mosaic, pad, phase_geometry, phases, scatter, tap, turn
from cvjax.ops.grouped import convolve_merged, gradient_merged
from cvjax.runtime.compiler import runs
from cvjax.shapes import Array

# Where fewer of the taps than this fall on the map (wide dilation, tiny maps), the others are left out.
_FEW_VALID = 0.6
# oneDNN passes over rows of such taps itself, so it wins until there are fewer than this.
_FEW_VALID_ONEDNN = 0.2
# From this stride on, pixels are folded into channels and all phases are one convolution.
_FOLDED_STRIDE = 4
# A transposed convolution to as few channels as these (the gradient for the picture) is folded at any stride.
_FEW_CHANNELS = 8
# Kernel gradients with a stride go phase by phase from these sizes on (56x56x128, batch 8: 1.3 times; 28x28x256: 1.1
# times), and not below (14x14x512: 0.7 times; 3 channels: 0.2 times).
_MANY_CHANNELS = 32
_MANY_PIXELS = 1500
# A convolution from tiles takes XLA 0.2 to 0.5 s to compile, a call of oneDNN nothing, and saves about 10 ms for each
# 1e9 multiplications. So it pays from this many on, over all runs of its program.
_WINOGRAD_PAYS = 12e9


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
    *,
    library: bool = False,
) -> Float[jax.Array, "batch rows columns features"]:
    """Convolves maps [B, H, W, C] with a kernel [kh, kw, C // groups, F] to [B, H', W', F].

    Args:
      x: Maps.
      kernel: Kernel.
      geometry: Sizes, steps and padding of the convolution.
      library: Whether the program runs in this process alone, on one device. Then oneDNN may compute it.
    """
    if not _is_known(geometry, x, kernel):
        return conv_xla.convolve(x, kernel, geometry)
    if geometry.input_dilation != (1, 1):
        return _transposed(x, kernel, geometry, library)
    x, geometry = crop(x, geometry)  # XLA's own on CPU reads beside the map otherwise (jaxlib 0.10.2)
    if library and _suits_winograd(x, kernel.shape[3], geometry):
        return winograd.convolve(x, kernel, geometry)
    if library and _suits_onednn(x, kernel, geometry):
        return onednn.convolve(x, kernel, geometry)
    if geometry.groups > 1:
        if kernel.shape[2] == 1:
            return depthwise.convolve(x, kernel, geometry)
        return convolve_merged(x, kernel, geometry, partial(convolve, library=library))
    if geometry.kernel_size == (1, 1):
        return _dot(tap(pad(x, geometry.padding), (0, 0), geometry), kernel[0, 0], library)
    if _valid_share(geometry) < _FEW_VALID:
        return _valid_taps(x, kernel, geometry)
    return conv_xla.convolve(x, kernel, geometry)


def input_gradient(
    ct: Float[Array, "batch rows columns features"],
    kernel: Float[Array, "kernel_height kernel_width inside features"],
    geometry: Geometry,
    *,
    library: bool = False,
) -> Float[jax.Array, "batch height width channels"]:
    """Computes the gradient for the input: [B, H', W', F] and [kh, kw, C // groups, F] to [B, H, W, C].

    It is a convolution itself, with the kernel turned. Arguments are as for `convolve`, with the output's cotangent
    `ct` in place of the maps.
    """
    if not _is_known(geometry, ct, kernel):
        return conv_xla.input_gradient(ct, kernel, geometry)
    onward = geometry.transposed
    if geometry.groups == 1 and geometry.input_dilation == (1, 1):
        if geometry.kernel_size == (1, 1):
            seen = _dot(ct, kernel[0, 0].T, library)  # products read the matrix either way round
            (top, _), (left, _) = geometry.padding
            return scatter(seen, 1, (-top, -left), geometry.strides, geometry.input_size)
        if library and geometry.strides == (1, 1):
            seen, inner = crop(ct, onward)
            if _suits_winograd(seen, kernel.shape[2], inner):
                return winograd.convolve(seen, kernel, inner, turned=True)
            if _suits_onednn(seen, kernel, inner):
                return onednn.convolve(seen, kernel[::-1, ::-1], inner, swapped=True)
    return convolve(ct, turn(kernel, geometry.groups), onward, library=library)


def kernel_gradient(
    x: Float[Array, "batch height width channels"],
    ct: Float[Array, "batch rows columns features"],
    geometry: Geometry,
    *,
    library: bool = False,
) -> Float[jax.Array, "kernel_height kernel_width inside features"]:
    """Computes the gradient for the kernel: [B, H, W, C] and [B, H', W', F] to [kh, kw, C // groups, F].

    Arguments are as for `convolve`, with the output's cotangent `ct` in place of the kernel.
    """
    if not _is_known(geometry, x, ct):
        return conv_xla.kernel_gradient(x, ct, geometry)
    again = partial(kernel_gradient, library=library)
    if library and x.dtype == ct.dtype == jnp.bfloat16 and geometry.kernel_size != (1, 1) and onednn.sums(x.dtype):
        # Sums over blocks need the precision, and XLA's gradients in bfloat16 are the slower ones.
        return again(x.astype(jnp.float32), ct.astype(jnp.float32), geometry).astype(x.dtype)
    if geometry.input_dilation != (1, 1):
        # Seen from the output this is an ordinary strided convolution, whose kernel is turned around.
        return turn(again(ct, x, geometry.transposed), geometry.groups)
    x, geometry = crop(x, geometry)
    if x.shape[-1] == geometry.groups > 1:
        if library:  # a loop for each row of taps, all of which read the cotangent
            return computed_apart(lambda ct, x: depthwise.kernel_gradient(x, ct, geometry, in_blocks=True), ct, x)
        return depthwise.kernel_gradient(x, ct, geometry)
    if geometry.groups > 1:
        if library and winograd.suits_gradient(x, ct, geometry):
            return winograd.kernel_gradient(x, ct, geometry)
        if geometry.strides != (1, 1):
            return _gradient_by_phases(x, ct, geometry, again)
        if library and grouped.suits(x, ct, geometry):
            return grouped.kernel_gradient(x, ct, geometry)
        return gradient_merged(x, ct, geometry, again)
    if geometry.kernel_size == (1, 1):
        return _outer(tap(pad(x, geometry.padding), (0, 0), geometry), ct, library)[None, None]
    if has_space_to_depth(geometry) and (min(geometry.strides) >= _FOLDED_STRIDE or _has_whole_blocks(geometry)):
        folded = again(space_to_depth(x, geometry), ct, space_to_depth_geometry(geometry))
        return kernel_from_depth(folded, geometry)
    if _valid_share(geometry) < _FEW_VALID:
        return _valid_taps_gradient(x, ct, geometry, library)
    if geometry.strides != (1, 1) and x.shape[-1] >= _MANY_CHANNELS and ct.size >= _MANY_PIXELS * ct.shape[-1]:
        return _gradient_by_phases(x, ct, geometry, again)
    if library and winograd.suits_gradient(x, ct, geometry):
        return winograd.kernel_gradient(x, ct, geometry)
    if library and onednn.sums(x.dtype) and narrowing.suits(x, ct, geometry):
        return narrowing.kernel_gradient(x, ct, geometry, partial(_outer, library=True))
    return conv_xla.kernel_gradient(x, ct, geometry)


def _is_known(geometry: Geometry, *arrays: jax.Array) -> bool:
    """Tells whether the formulations of this module apply.

    They need sizes that are numbers (not symbols of an exported program), arrays and an output that are not empty, and
    a stride or an input dilation, but not both.
    """
    sizes = [n for a in arrays for n in a.shape] + [*geometry.input_size, *geometry.output_size]
    if not all(isinstance(n, int) for n in sizes) or 0 in sizes:
        return False
    return geometry.strides == (1, 1) or geometry.input_dilation == (1, 1)


def _suits_onednn(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    """Tells whether oneDNN is faster than XLA, and than matrix products over the taps that fall on the map."""
    dense = geometry.groups == 1
    if dense and (geometry.kernel_size == (1, 1) or _valid_share(geometry) < _FEW_VALID_ONEDNN):
        return False
    return onednn.suits(x, kernel, geometry)


def _has_whole_blocks(geometry: Geometry) -> bool:
    return all(k % step == 0 for k, step in zip(geometry.kernel_size, geometry.strides))


def _folds_into_tiles(x: jax.Array, features: int, onward: Geometry) -> bool:
    """Tells whether all phases of a transposed convolution are one from tiles, which are taken apart once for all.

    It is 1.5 times as fast as each phase by oneDNN (4x4 stride 2, 28x28x64).
    """
    folded = features * math.prod(onward.strides)
    return _has_whole_blocks(onward) and _suits_winograd(x, folded, space_to_depth_geometry(onward).transposed)


def _suits_winograd(x: jax.Array, features: int, geometry: Geometry) -> bool:
    """Tells whether a convolution from tiles is the fastest, with the time that XLA takes to compile it."""
    pixels = x.shape[0] * geometry.output_size[0] * geometry.output_size[1]
    products = pixels * len(geometry.places) * x.shape[3] * features
    pays = products * runs() >= _WINOGRAD_PAYS
    return pays and winograd.suits(x, features, geometry) and _valid_share(geometry) >= _FEW_VALID


def _dot(x: jax.Array, matrix: jax.Array, library: bool) -> jax.Array:
    """Multiplies [B, H, W, C] by [C, F] to [B, H, W, F], as one product over all pixels.

    It is at least 1.7 times as fast as XLA's 1x1 convolution.
    """
    rows = x.reshape(-1, x.shape[-1])
    y = onednn.times_matrix(rows, matrix) if library and onednn.suits_matrix(rows, matrix) else rows @ matrix
    return y.reshape(*x.shape[:3], -1)


def _outer(x: jax.Array, ct: jax.Array, library: bool) -> jax.Array:
    """Multiplies [B, H, W, C] and [B, H, W, F] to [C, F], summed over all pixels."""
    x, ct = x.reshape(-1, x.shape[-1]), ct.reshape(-1, ct.shape[-1])
    return onednn.outer(x, ct) if library and onednn.suits_outer(x, ct) else x.T @ ct


def _transposed(x: jax.Array, kernel: jax.Array, geometry: Geometry, library: bool) -> jax.Array:
    """Convolves maps with zeros between their pixels, where a plain convolution would mostly multiply zeros."""
    features = kernel.shape[3]
    if geometry.groups > 1:
        if kernel.shape[2] == 1:
            by_phases = partial(_by_phases, geometry=geometry, library=False)  # XLA makes one loop of each phase
            return computed_apart(by_phases, x, kernel) if library else by_phases(x, kernel)
        if library:
            return _by_phases(x, kernel, geometry, library)
        return convolve_merged(x, kernel, geometry, partial(convolve, library=library))
    onward = geometry.transposed  # the strided convolution whose transpose this one is
    few = min(onward.strides) >= _FOLDED_STRIDE or features <= _FEW_CHANNELS
    if has_space_to_depth(onward) and (few or (library and _folds_into_tiles(x, features, onward))):
        folded = input_gradient(
            x, kernel_to_depth(turn(kernel, 1), onward), space_to_depth_geometry(onward), library=library
        )
        return depth_to_space(folded, onward, features)
    return _by_phases(x, kernel, geometry, library)


def _by_phases(x: jax.Array, kernel: jax.Array, geometry: Geometry, library: bool) -> jax.Array:
    """Makes one convolution for each offset of the output modulo the input's spread, and joins them as a mosaic."""
    rows, columns = phases(geometry, 0), phases(geometry, 1)
    parts = [
        [convolve(x, kernel[r.selected, c.selected], phase_geometry(geometry, r, c), library=library) for c in columns]
        for r in rows
    ]
    if (len(rows), len(columns)) == geometry.input_dilation and len({y.shape for row in parts for y in row}) == 1:
        return mosaic(parts)
    total = jnp.zeros((x.shape[0], *geometry.output_size, kernel.shape[3]), x.dtype)
    for row, maps in zip(rows, parts):
        for column, y in zip(columns, maps):
            total = total + scatter(y, 1, (row.start, column.start), geometry.input_dilation, geometry.output_size)
    return total


def _gradient_by_phases(
    x: jax.Array, ct: jax.Array, geometry: Geometry, gradient: Callable[..., jax.Array]
) -> jax.Array:
    """Makes one gradient for each offset of the pixels modulo the stride, each of a convolution without stride."""
    onward, (rows, columns) = geometry.transposed, geometry.strides
    channels = x.shape[-1]
    total = jnp.zeros((*geometry.kernel_size, ct.shape[-1] // geometry.groups, channels), x.dtype)
    for row in phases(onward, 0):
        for column in phases(onward, 1):
            seen = x[:, row.start :: rows, column.start :: columns]
            part = gradient(ct, seen, phase_geometry(onward, row, column))
            starts, steps = zip(*((taps.start, taps.step) for taps in (row.selected, column.selected)))
            total = total + scatter(part, 0, starts, steps, geometry.kernel_size)
    return turn(total, geometry.groups)


def _valid_share(geometry: Geometry) -> float:
    """Returns the share of all taps of all outputs that falls on the map."""
    share = 1.0
    for axis in (0, 1):
        covered = sum(span.stop - span.start for span in geometry.valid_outputs(axis))
        share *= covered / (geometry.kernel_size[axis] * geometry.output_size[axis])
    return share


def _valid_taps(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Makes one matrix product for each tap, over the pixels that it finds on the map.

    It is 1.6 and 1.2 times as fast as XLA at rate 12 on 33x33.
    """
    total = jnp.zeros((x.shape[0], *geometry.output_size, kernel.shape[3]), wider(x.dtype, jnp.float32))
    for place, rows, columns, seen in _views(x, geometry):
        y = jnp.dot(seen.reshape(-1, x.shape[-1]), kernel[place], preferred_element_type=total.dtype)
        y = y.reshape(*seen.shape[:3], -1)
        total = total + scatter(y, 1, (rows.start, columns.start), (1, 1), geometry.output_size)
    return total.astype(x.dtype)


def _valid_taps_gradient(x: jax.Array, ct: jax.Array, geometry: Geometry, library: bool) -> jax.Array:
    shape = (*geometry.kernel_size, x.shape[-1], ct.shape[-1])
    views = _views(x, geometry)
    gradients = {place: _outer(seen, ct[:, rows, columns], library) for place, rows, columns, seen in views}
    nothing = jnp.zeros(shape[2:], x.dtype)
    return jnp.stack([gradients.get(place, nothing) for place in geometry.places]).reshape(shape)


def _views(x: jax.Array, geometry: Geometry) -> list[tuple[tuple[int, int], slice, slice, jax.Array]]:
    """Returns what each tap sees, without the taps that never fall on the map.

    Returns:
      For each tap its place, the rows and the columns of the outputs for which it falls on the map, and the pixels that
      it sees for them.
    """
    views = []
    spans = [geometry.valid_outputs(axis) for axis in (0, 1)]
    for i, j in geometry.places:
        rows, columns = spans[0][i], spans[1][j]
        if rows.stop > rows.start and columns.stop > columns.start:
            seen = x[:, geometry.pixels(0, i, rows), geometry.pixels(1, j, columns)]
            views.append(((i, j), rows, columns, seen))
    return views
