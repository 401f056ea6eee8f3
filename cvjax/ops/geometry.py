"""Describes what a convolution does to its maps: sizes, steps and padding, in pixels."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Shaped

from cvjax.shapes import Array

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

T = TypeVar("T")


def pair(values: Iterable[T]) -> tuple[T, T]:
    """Returns the values for height and for width.

    Raises:
      ValueError: There are not two values.
    """
    rows, columns = values
    return rows, columns


@dataclass(frozen=True)
class Geometry:
    """Describes all of a two-dimensional convolution but its arrays; (height, width) throughout.

    Attributes:
      input_size: Size of the maps that go in.
      kernel_size: Taps of the kernel.
      strides: Steps between outputs.
      padding: Zeros before and after, negative to crop; added after `input_dilation`.
      input_dilation: Distance between the pixels of the input, with zeros between them (transposed convolution).
      kernel_dilation: Distance between the taps.
      groups: Number of independent groups that the channels are split into.
      precision: Precision of the products, as `jax.lax.conv_general_dilated` takes it; CPU always computes in full.
    """

    input_size: Pair
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Pads = ((0, 0), (0, 0))
    input_dilation: Pair = (1, 1)
    kernel_dilation: Pair = (1, 1)
    groups: int = 1
    precision: lax.PrecisionLike = None

    @property
    def spread_size(self) -> Pair:
        """Returns the size of the input with the zeros between its pixels."""
        return pair((n - 1) * d + 1 if n else 0 for n, d in zip(self.input_size, self.input_dilation))

    @property
    def reach(self) -> Pair:
        """Returns the number of pixels from the first to the last tap, both included."""
        return pair((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.kernel_dilation))

    @property
    def output_size(self) -> Pair:
        """Returns the size of the maps that come out."""
        sizes = zip(self.spread_size, self.padding, self.reach, self.strides)
        return pair(max(0, (n + sum(pads) - reach) // step + 1) for n, pads, reach, step in sizes)

    @property
    def places(self) -> list[Pair]:
        """Returns (row, column) of every tap of the kernel."""
        return [(i, j) for i in range(self.kernel_size[0]) for j in range(self.kernel_size[1])]

    def valid_outputs(self, axis: int) -> list[slice]:
        """Returns, for each tap along an axis, the outputs for which it falls on the map; the input dilation is 1."""
        size, step = self.input_size[axis], self.strides[axis]
        spans = []
        for i in range(self.kernel_size[axis]):
            offset = i * self.kernel_dilation[axis] - self.padding[axis][0]
            first = max(0, -(offset // step))
            last = min(self.output_size[axis] - 1, (size - 1 - offset) // step)
            spans.append(slice(first, max(first, last + 1)))
        return spans

    def pixels(self, axis: int, i: int, outputs: slice) -> slice:
        """Returns the pixels along an axis that tap i sees for these outputs."""
        offset, step = i * self.kernel_dilation[axis] - self.padding[axis][0], self.strides[axis]
        return slice(outputs.start * step + offset, (outputs.stop - 1) * step + offset + 1, step)

    @property
    def transposed(self) -> "Geometry":
        """Returns the geometry of the convolution that takes the output's cotangent to the input's.

        The kernel of that convolution is turned around.
        """
        pads = []
        for n, m, reach, (low, _) in zip(self.spread_size, self._spread_output, self.reach, self.padding):
            before = reach - 1 - low
            pads.append((before, n - 1 + reach - before - m))
        return replace(
            self,
            input_size=self.output_size,
            strides=self.input_dilation,
            padding=pair(pads),
            input_dilation=self.strides,
        )

    @property
    def _spread_output(self) -> Pair:
        return pair((n - 1) * step + 1 if n else 0 for n, step in zip(self.output_size, self.strides))


@dataclass(frozen=True)
class Phase:
    """Describes the outputs start, start + spread, start + 2 * spread, ... along one axis of a convolution.

    The convolution is over pixels that are spread. Those outputs see the pixels of the input itself through some of the
    taps, so they are a convolution without spreading.

    Attributes:
      start: First output.
      selected: Taps that meet pixels rather than the zeros between them.
      taps: Number of those taps.
      dilation: Distance of those taps, in pixels of the input.
      padding: Zeros before and after the input.
    """

    start: int
    selected: slice
    taps: int
    dilation: int
    padding: Pair


def phase_geometry(geometry: Geometry, row: Phase, column: Phase) -> Geometry:
    """Returns the geometry of the convolution that makes one phase of the output along either axis."""
    return replace(
        geometry,
        kernel_size=(row.taps, column.taps),
        padding=(row.padding, column.padding),
        input_dilation=(1, 1),
        kernel_dilation=(row.dilation, column.dilation),
    )


def phases(geometry: Geometry, axis: int) -> list[Phase]:
    """Returns the phases along an axis (strides 1), without those whose taps all meet zeros."""
    spread, dilation = geometry.input_dilation[axis], geometry.kernel_dilation[axis]
    size, low, outputs = geometry.input_size[axis], geometry.padding[axis][0], geometry.output_size[axis]
    found = []
    for start in range(min(spread, outputs)):
        hits = [i for i in range(geometry.kernel_size[axis]) if (start + i * dilation - low) % spread == 0]
        if hits:
            first, last = ((start + i * dilation - low) // spread for i in (hits[0], hits[-1]))
            count = (outputs - start + spread - 1) // spread
            found.append(
                Phase(
                    start=start,
                    selected=slice(hits[0], hits[-1] + 1, hits[1] - hits[0] if len(hits) > 1 else 1),
                    taps=len(hits),
                    dilation=dilation // math.gcd(spread, dilation),
                    padding=(-first, count - 1 + last - (size - 1)),
                )
            )
    return found


def pad(x: Shaped[Array, "batch height width channels"], padding: Pads) -> Shaped[Array, "batch rows columns channels"]:
    """Pads maps [B, H, W, C] with zeros, or crops them where the padding is negative."""
    if padding == ((0, 0), (0, 0)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pads, 0) for pads in padding), (0, 0, 0)))


def crop(x: jax.Array, geometry: Geometry) -> tuple[jax.Array, Geometry]:
    """Crops maps instead of padding them by negative numbers, and returns the geometry that gives the same convolution.

    The input dilation is 1.
    """
    kept, padding = [], []
    for n, (low, high) in zip(geometry.input_size, geometry.padding):
        first, last = min(max(-low, 0), n), n - min(max(-high, 0), n)
        before, after = low + first, high + n - last
        # What is to be cropped of an empty map is cropped of the zeros on its other side.
        padding.append((max(before + min(after, 0), 0), max(after + min(before, 0), 0)))
        kept.append(slice(first, max(first, last)))
    x = x[:, *kept]
    return x, replace(geometry, input_size=pair(x.shape[1:3]), padding=pair(padding))


def scatter(x: jax.Array, axis: int, starts: Pair, steps: Pair, size: Pair) -> jax.Array:
    """Spreads the elements of x over zeros: along `axis` and the next, they lie at start, start + step, ...

    The result has `size` along those two axes. A negative start leaves elements out.
    """
    edges = [(0, 0, 0)] * x.ndim
    for i, start, step, n in zip((axis, axis + 1), starts, steps, size):
        edges[i] = (start, n - start - (x.shape[i] - 1) * step - 1, step - 1)
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def mosaic(
    phases: Sequence[Sequence[Shaped[Array, "batch height width channels"]]],
) -> Shaped[jax.Array, "batch rows columns channels"]:
    """Interleaves r rows of c maps [B, H, W, C] to [B, H * r, W * c, C].

    The pixels at one offset modulo (r, c) are those of one map. This is one copy. A sum of `scatter`s tests for every
    pixel which map it belongs to, and is a third to a half slower.
    """
    batch, height, width, channels = phases[0][0].shape
    tiles = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    return tiles.reshape(batch, height * len(phases), width * len(phases[0]), channels)


def tap(
    x: Shaped[Array, "batch height width channels"], place: Pair, geometry: Geometry
) -> Shaped[Array, "batch rows columns channels"]:
    """Returns what one tap sees of padded maps for the H' x W' outputs: [B, H, W, C] to [B, H', W', C]."""
    starts = [i * d for i, d in zip(place, geometry.kernel_dilation)]
    rows, columns = (
        slice(start, start + (n - 1) * step + 1, step)
        for start, n, step in zip(starts, geometry.output_size, geometry.strides)
    )
    return x[:, rows, columns]


def turn(
    kernel: Shaped[Array, "kernel_height kernel_width inside features"], groups: int
) -> Shaped[Array, "kernel_height kernel_width outside channels"]:
    """Returns the kernel of the transposed convolution: [kh, kw, C // groups, F] to [kh, kw, F // groups, C].

    The order of the taps is reversed.
    """
    kh, kw, inside, features = kernel.shape
    outside = features // groups
    kernel = kernel[::-1, ::-1].reshape(kh, kw, inside, groups, outside)
    return kernel.transpose(0, 1, 4, 3, 2).reshape(kh, kw, outside, groups * inside)
