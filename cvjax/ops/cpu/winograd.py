"""Convolves small dense kernels with fewer multiplications, by the algorithm of Toom, Cook and Winograd.

A 3x3 kernel takes 9 multiplications for each channel of an output. Here a tile of 6x6 pixels is taken apart into 36
values, each of which is multiplied once, and 4x4 outputs are put together from the products: 36 multiplications where
there were 144 (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"). A 5x5 kernel gives 2x2
outputs of the same tile, 36 for 100, and a 2x2 kernel 5x5, 36 for 100 as well. The gradient for a kernel takes maps and
cotangent apart, and puts taps together; so it does for groups, a few of which share a product.

The price is rounding: errors are about four times those of a plain sum in float32, some 1e-6 of the output's deviation.
So `jax.default_matmul_precision("highest")` turns it off (`is_exact`).
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float
from numpy.polynomial import polynomial

from cvjax.ops.cpu import onednn
from cvjax.ops.cpu.apart import always, computed_apart, middle_element
from cvjax.ops.cpu.blocks import largest_divisor, sum_over_blocks
from cvjax.ops.cpu.space_to_batch import batch_to_space, space_to_batch, space_to_batch_geometry
from cvjax.ops.geometry import Geometry, pad, turn
from cvjax.shapes import Array

_TILE = 6
# Where the polynomials are evaluated that maps, kernels and outputs stand for. Of twelve choices this had the smallest
# errors: 4 times a plain sum's, where 0, 1, -1, 2 and -2 have 9 times.
_POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
# Bytes of tiles at a time: they stay in the cache, while products over them are long enough to be fast.
_BLOCK = 2**21
# Channels on both sides below which taking tiles apart costs more than multiplying (batch 8, one thread: 16 to 16
# channels 0.6 times as fast, 24 to 24 0.8, 32 to 32 1.1, 32 to 64 1.3, 64 to 64 1.9, 256 to 256 2.6;
# `benchmarks/products.py`). XLA's kernel gradients are slower, so they pay earlier; those of 5x5 kernels later, as
# their tiles overlap more.
_NARROWEST = {2: 64, 3: 32, 5: 32}
_NARROWEST_GRADIENT = {2: 64, 3: 16, 5: 48}
# Kernels of 2x2 taps are those of folded strides, which have so many times the channels on one side. As phases of
# strided 3x3 kernels they would spare a hundredth of ResNet-50's step, and cost 2 s of its compilation.
_FOLDED_RATIO = 4
# Groups share a product of this many channels in kernel gradients. Wide products are so much faster that pairs of
# channels of different groups don't matter (32 groups of 4, 56x56, batch 8, one thread: 14 ms, with 16 channels 25 ms,
# by `grouped.kernel_gradient` 34 ms; 32 groups of 32, 7x7: 6 ms and 10 ms). With strides this is slower than by phases.
_GROUPED = 32
# The transformed kernel is four times as large as the kernel, which few tiles don't make up for.
_FEWEST_TILES = 16
# Ratio of a plain convolution's multiplications to those from tiles, at least. Small maps leave much of their tiles
# over, and with a dilation tiles are of pixels that lie apart (33x33x512 at rate 2, ratio 2.6: 1.8 times as fast; at
# rate 4, ratio 1.9: 1.2 times as fast; a 2x2 kernel on 7x7x512, ratio 1.4: 0.6 times).
_LEAST_SPARED = 1.8


class _Transforms(NamedTuple):
    """Matrices of a one-dimensional correlation of m outputs and r taps over a tile of t = m + r - 1 pixels.

    outputs = to_outputs @ ((kernel @ taps) * (tile @ pixels)).
    """

    to_outputs: np.ndarray  # [m, t]
    kernel: np.ndarray  # [t, r]
    tile: np.ndarray  # [t, t]


@functools.cache
def transforms(taps: int) -> _Transforms:
    """Returns the matrices for kernels of 2, 3 or 5 taps a side, in float64.

    A polynomial's product is known from its values at as many points as it has coefficients, infinity for one of them.
    A correlation is that product transposed.
    """
    outputs = _TILE - taps + 1
    values = np.vander(_POINTS, _TILE, increasing=True)  # of the powers, at the points
    leading = np.eye(1, outputs, outputs - 1), np.eye(1, taps, taps - 1)  # infinity sees the highest power alone
    others = [[q for q in _POINTS if q != p] for p in _POINTS]
    scales = np.array([[np.prod(np.subtract(p, rest))] for p, rest in zip(_POINTS, others)])
    lagrange = [np.pad(polynomial.polyfromroots(rest), (0, 1)) for rest in others]
    return _Transforms(
        np.concatenate([values[:, :outputs], leading[0]]).T,
        np.concatenate([values[:, :taps] / scales, leading[1]]),
        np.stack([*lagrange, polynomial.polyfromroots(_POINTS)]),
    )


def is_exact() -> bool:
    """Tells whether the user asks for products as precise as float32 allows, while a program is lowered."""
    return cast(Any, jax.config).jax_default_matmul_precision in ("highest", "float32", "F32_F32_F32")


def suits(x: jax.Array, features: int, geometry: Geometry) -> bool:
    """Tells whether `convolve` is the fastest for maps and a kernel with so many features.

    Most of the kernel's taps must see the map at most outputs.
    """
    return _applies(x, features, geometry, _NARROWEST)


def suits_gradient(x: jax.Array, ct: jax.Array, geometry: Geometry) -> bool:
    """Tells whether `kernel_gradient` is the fastest for maps and a cotangent."""
    if geometry.groups == 1:
        return ct.dtype == x.dtype and _applies(x, ct.shape[-1], geometry, _NARROWEST_GRADIENT)
    inside = min(x.shape[-1], ct.shape[-1]) // geometry.groups
    if ct.dtype != x.dtype or inside == 1 or geometry.kernel_dilation != (1, 1):
        return False
    # As wide as each of the products.
    return _applies(x, max(inside, _GROUPED), replace(geometry, groups=1), {3: _GROUPED})


def _applies(x: jax.Array, features: int, geometry: Geometry, narrowest: dict[int, int]) -> bool:
    (side, width), channels = geometry.kernel_size, x.shape[-1]
    plain = geometry.strides == geometry.input_dilation == (1, 1) and geometry.groups == 1
    if not plain or side != width or side not in narrowest or x.dtype != jnp.float32 or is_exact():
        return False
    if side == 2 and max(channels, features) < _FOLDED_RATIO * min(channels, features):
        return False
    rows, columns = _tiles(space_to_batch_geometry(geometry))
    tiles = x.shape[0] * math.prod(geometry.kernel_dilation) * rows * columns
    spared = x.shape[0] * math.prod(geometry.output_size) * side**2 / (tiles * _TILE**2)
    few = tiles < _FEWEST_TILES or channels * features > (_FEWEST_TILES * tiles) ** 2
    return min(channels, features) >= narrowest[side] and not few and spared >= _LEAST_SPARED


def convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "side side _ _"],
    geometry: Geometry,
    *,
    turned: bool = False,
) -> Float[jax.Array, "batch rows columns features"]:
    """Convolves maps [B, H, W, C] with a kernel [k, k, C, F] to [B, H', W', F], where `suits` says so.

    With `turned` the kernel is [k, k, F, C] and its taps are in the other order, as for the gradient of an input.
    """
    rates, size = geometry.kernel_dilation, geometry.output_size
    if rates != (1, 1):
        parts = space_to_batch(pad(x, geometry.padding), rates)
        maps = convolve(parts, kernel, space_to_batch_geometry(geometry), turned=turned)
        return batch_to_space(maps, rates, size)
    channels, features = reversed(kernel.shape[2:]) if turned else kernel.shape[2:]
    by = transforms(len(kernel))
    step = len(by.to_outputs)
    blocks = _Blocks.of(len(x), geometry, channels, features)

    def spread(x: jax.Array, kernel: jax.Array) -> jax.Array:
        kernel = turn(kernel, 1) if turned else kernel
        return (_spread(by.kernel) @ kernel.reshape(-1, channels * features)).reshape(-1, channels, features)

    # Not before the maps are there: XLA would transform all kernels of a net first, and keep them for as long.
    wide = computed_apart(spread, x, kernel)
    first = middle_element(x)
    x = _padded(x, geometry, blocks)

    def block(i: jax.Array | int) -> jax.Array:
        pixels = (blocks.images, blocks.rows * step + len(kernel) - 1, *x.shape[2:])
        tiles = _taken_apart(lax.dynamic_slice(x, blocks.start(i, step), pixels), by.tile, step, blocks)
        products = onednn.times(tiles, wide) if onednn.sums(x.dtype) else tiles @ wide
        return _put_together(products.reshape(_TILE, _TILE, blocks.images, blocks.rows, -1, features), by.to_outputs)

    if blocks.number == 1:
        return block(0)[:, : size[0], : size[1]]

    def body(i: jax.Array, y: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice(y, block(i), blocks.start(i, step))

    # Filled with what is known once the maps are: XLA would make constants for all layers first, and keep them.
    shape = (len(x), *blocks.covered(step), features)
    y = lax.fori_loop(0, blocks.number, body, jnp.broadcast_to(first, shape))
    return y[:, : size[0], : size[1]]


def kernel_gradient(
    x: Float[Array, "batch height width channels"],
    ct: Float[Array, "batch rows columns features"],
    geometry: Geometry,
) -> Float[jax.Array, "side side inside features"]:
    """Computes the gradient for the kernel: [B, H, W, C] and [B, H', W', F] to [k, k, C, F].

    It applies where `suits_gradient` says so. With groups the gradient is [k, k, C // groups, F].
    """
    if geometry.kernel_dilation != (1, 1):
        x, ct = (space_to_batch(a, geometry.kernel_dilation) for a in (pad(x, geometry.padding), ct))
        return kernel_gradient(x, ct, space_to_batch_geometry(geometry))
    (side, _), groups, channels, features = geometry.kernel_size, geometry.groups, x.shape[-1], ct.shape[-1]
    inside, outside = channels // groups, features // groups
    together = largest_divisor(groups, _GROUPED // max(inside, outside))
    shares = groups // together  # each of which is multiplied by itself
    by = transforms(side)
    step = len(by.to_outputs)
    blocks = _Blocks.of(len(x), geometry, channels, features, shares)
    # Apart, as what the forward pass has padded would be kept for this.
    x = computed_apart(lambda ct, x: _padded(x, geometry, blocks), ct, x)
    (bottom, right), (rows, columns) = blocks.covered(step), geometry.output_size
    ct = pad(ct, ((0, bottom - rows), (0, right - columns)))
    outer = onednn.outer_batched if onednn.sums(x.dtype) else _outer_batched

    def tiles(x: jax.Array, matrix: np.ndarray) -> jax.Array:
        apart = _taken_apart(x, matrix, step, blocks)
        apart = apart.reshape(_TILE**2, -1, shares, apart.shape[2] // shares)
        return apart.swapaxes(1, 2).reshape(-1, *apart.shape[1::2])

    def block(i: jax.Array | int) -> jax.Array:
        start, rows = blocks.start(i, step), blocks.rows * step
        seen = lax.dynamic_slice(x, start, (blocks.images, rows + side - 1, *x.shape[2:]))
        cts = lax.dynamic_slice(ct, start, (blocks.images, rows, *ct.shape[2:]))
        return outer(tiles(seen, by.tile), tiles(cts, by.to_outputs.T))

    shape = (_TILE**2 * shares, together * inside, together * outside)
    zero = jnp.broadcast_to(jnp.where(always(ct), 0.0, 1.0).astype(x.dtype), shape)
    total = sum_over_blocks(blocks.number, block, zero).reshape(-1, shares, together, inside, together, outside)
    own = jnp.stack([total[:, :, m, :, m] for m in range(together)], axis=3)
    taps = _spread(by.kernel).T @ own.swapaxes(1, 2).reshape(_TILE**2, -1)  # [_, inside, share, group, outside]
    return taps.reshape(side, side, inside, features)


class _Blocks(NamedTuple):
    """How tiles are divided: `number` blocks of `images` images and `rows` rows of `columns` tiles, `down` an image."""

    images: int
    rows: int
    columns: int
    down: int
    number: int

    @classmethod
    def of(cls, batch: int, geometry: Geometry, channels: int, features: int, shares: int = 1) -> "_Blocks":
        """Divides the tiles of an output so that a block is in the cache, or as large as the kernel read beside it.

        The channels are multiplied in so many shares, each by itself.
        """
        rows, columns = _tiles(geometry)
        row = _TILE**2 * columns * max(channels, features) * 4
        limit = max(_BLOCK, _TILE**2 * channels * features * 4 // shares)
        down = -(-rows * row // limit) if row < limit else rows
        rows = -(-rows // down)
        images = largest_divisor(batch, limit // (rows * row)) if down == 1 else 1
        return cls(images, rows, columns, down, batch // images * down)

    def covered(self, step: int) -> tuple[int, int]:
        """Returns how many rows and columns of pixels the tiles cover, `step` pixels apart."""
        return self.down * self.rows * step, self.columns * step

    def start(self, i: jax.Array | int, step: int) -> tuple[jax.Array | int, ...]:
        """Returns where block i starts in maps whose tiles are `step` pixels apart."""
        return i // self.down * self.images, i % self.down * (self.rows * step), 0, 0


def _tiles(geometry: Geometry) -> tuple[int, int]:
    """Returns how many rows and columns of tiles cover the output."""
    step = _TILE - geometry.kernel_size[0] + 1
    rows, columns = geometry.output_size
    return -(-rows // step), -(-columns // step)


def _padded(x: jax.Array, geometry: Geometry, blocks: _Blocks) -> jax.Array:
    """Pads maps on top and left as the convolution does, and below and right up to the last tile's end."""
    overlap = geometry.kernel_size[0] - 1
    (bottom, right), (height, width) = blocks.covered(_TILE - overlap), x.shape[1:3]
    (top, _), (left, _) = geometry.padding
    return pad(x, ((top, bottom + overlap - height - top), (left, right + overlap - width - left)))


def _taken_apart(x: jax.Array, matrix: np.ndarray, step: int, blocks: _Blocks) -> jax.Array:
    """Multiplies windows, `step` pixels apart, by a matrix [t, s] from both sides: to [t * t, tiles, C]."""
    side = matrix.shape[1]
    ends = [(n - 1) * step + 1 for n in (blocks.rows, blocks.columns)]
    rows = _combined(matrix, [x[:, i : i + ends[0] : step] for i in range(side)], 0)
    both = _combined(matrix, [rows[:, :, :, j : j + ends[1] : step] for j in range(side)], 1)
    return both.reshape(len(matrix) ** 2, -1, x.shape[-1])


def _put_together(products: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Multiplies tiles [t, t, B, rows, columns, F] by a matrix [m, t] from both sides: to maps [B, H, W, F]."""
    rows = _combined(matrix, list(products), 0)
    # The tile's own row comes behind the row of tiles, and its column behind the column: so maps lie in memory.
    both = _combined(matrix, [rows[:, j].transpose(1, 2, 0, 3, 4) for j in range(matrix.shape[1])], 4)
    batch, down, high, across, wide, features = both.shape
    return both.reshape(batch, down * high, across * wide, features)


def _combined(matrix: np.ndarray, parts: Sequence[jax.Array], axis: int) -> jax.Array:
    """Multiplies a list of arrays by a matrix, without its zeros, and stacks the results along an axis."""
    return jnp.stack([_sum(row, parts) for row in matrix.tolist()], axis=axis)


def _sum(factors: Sequence[float], parts: Sequence[jax.Array]) -> jax.Array:
    terms = [part if factor == 1 else factor * part for factor, part in zip(factors, parts) if factor]
    return functools.reduce(jnp.add, terms)


def _spread(matrix: np.ndarray) -> jax.Array:
    """Returns the product [t * t, r * r] of a matrix [t, r] with itself, for rows and columns at once, in float32."""
    return jnp.asarray(np.kron(matrix, matrix), jnp.float32)


def _outer_batched(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum("gnc,gnf->gcf", x, y)
