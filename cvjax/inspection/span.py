"""Spans say which pixels of the image the elements of an array depend on, along one axis of the image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

_FAR = 1 << 40  # beyond any pixel, and small enough that sums do not overflow
NOTHING = (_FAR, -_FAR)
"""First and last pixel of an empty interval. A zero between spread pixels sees this."""


@dataclass(frozen=True, eq=False)
class Span:
    """Holds intervals of pixels, one for each index along a dimension of the array.

    An interval is the hull of all pixels seen. It goes on beyond the image's border as if there were no border. So the
    length of an interval is the receptive field, at the border too.

    Attributes:
      dim: Dimension of the array that runs along this axis of the image. None means that no dimension does any more.
      low: First pixel that each index sees, int64 [n]; n is 1 without a dimension.
      high: Last pixel that each index sees, int64 [n].
      stride: Pixels of the image from one index to the next; None without a dimension.
      gate: First and last pixel seen beside the intervals, through arrays that are no maps any more.
    """

    dim: int | None
    low: np.ndarray
    high: np.ndarray
    stride: float | None
    gate: tuple[int, int] = NOTHING

    @staticmethod
    def of_image(dim: int, pixels: int) -> "Span":
        """Returns the span of the image itself, in which each pixel sees itself."""
        return Span(dim, np.arange(pixels), np.arange(pixels), 1.0)

    @property
    def axis(self) -> int:
        """Returns the dimension; the span must have one."""
        assert self.dim is not None
        return self.dim

    @property
    def pace(self) -> float:
        """Returns the stride; the span must have a dimension."""
        assert self.stride is not None
        return self.stride

    @property
    def size(self) -> int:
        """Returns the receptive field in pixels, which is the longest interval."""
        return int(max(0, (self.high - self.low).max() + 1))

    @property
    def step(self) -> float:
        """Returns the average distance in pixels from the middle of one interval to the middle of the next."""
        middles = (self.low + self.high) / 2
        return float(middles[-1] - middles[0]) / (len(middles) - 1)

    def covers(self, pixels: int) -> bool:
        """Returns whether every element depends on the first and the last of `pixels` pixels, gates included."""
        return min(self.low.max(), self.gate[0]) <= 0 and max(self.high.min(), self.gate[1]) >= pixels - 1

    def collapsed(self) -> "Span":
        """Returns the union of all intervals, for an array without this dimension."""
        return Span(None, self.low.min(keepdims=True), self.high.max(keepdims=True), None, self.gate)

    def moved(self, dim: int) -> "Span":
        """Returns the same span along another dimension of the array."""
        return replace(self, dim=dim)

    def taken(self, index: np.ndarray | slice) -> "Span":
        """Returns the span of some of the indices; a step between them multiplies the stride."""
        step = 1 if isinstance(index, np.ndarray) else index.step or 1
        return replace(self, low=self.low[index], high=self.high[index], stride=self.pace * abs(step))

    def padded(self, before: int, after: int) -> "Span":
        """Returns the span with more indices on either side, as if the image went on; negative numbers crop."""
        first, last = max(0, -before), len(self.low) - max(0, -after)
        low, high = self.low[first:last], self.high[first:last]
        ahead = self.pace * np.arange(max(0, before), 0, -1)
        behind = self.pace * np.arange(1, max(0, after) + 1)
        low = np.concatenate([low[:1] - ahead, low, low[-1:] + behind])
        high = np.concatenate([high[:1] - ahead, high, high[-1:] + behind])
        return replace(self, low=np.floor(low).astype(np.int64), high=np.ceil(high).astype(np.int64))

    def spread(self, step: int) -> "Span":
        """Returns the span with step - 1 indices between neighbors that see nothing."""
        if step == 1:
            return self
        low, high = (np.full((len(self.low) - 1) * step + 1, nothing) for nothing in NOTHING)
        low[::step], high[::step] = self.low, self.high
        return replace(self, low=low, high=high, stride=self.pace / step)

    def windows(
        self, size: int, step: int = 1, dilation: int = 1, padding: tuple[int, int] = (0, 0), spread: int = 1
    ) -> "Span":
        """Returns the span of windows over the indices: what a convolution or a pool sees.

        The indices are spread first, and padded after that.
        """
        before, after = padding
        # Padding continues the spread pattern: whole indices are added before the spread, and what is too much cropped.
        beyond = [max(0, -(-pad // spread)) for pad in padding]
        span = self.padded(*beyond).spread(spread)
        span = span.padded(before - beyond[0] * spread, after - beyond[1] * spread)
        outputs = (len(span.low) - (size - 1) * dilation - 1) // step + 1
        places = np.arange(outputs)[:, None] * step + np.arange(size) * dilation
        low, high = span.low[places].min(axis=1), span.high[places].max(axis=1)
        return replace(span, low=low, high=high, stride=span.pace * step)

    def mixed(self, weights: np.ndarray) -> "Span":
        """Returns the span after a product with known weights [outputs, indices]; weights of zero see nothing."""
        used = weights != 0
        low = np.where(used, self.low, NOTHING[0]).min(axis=1)
        high = np.where(used, self.high, NOTHING[1]).max(axis=1)
        return replace(self, low=low, high=high, stride=self.pace * weights.shape[1] / weights.shape[0])

    def reshaped(self, old: Sequence[int], new: Sequence[int]) -> "Span":
        """Returns the span of the array [*old] after a reshape to [*new]."""
        if self.dim is None:
            return self
        before, dims_old, dims_new = _group(old, new, self.dim)
        index = [1] * len(dims_old)
        index[self.dim - before[0]] = -1
        low, high = (np.broadcast_to(a.reshape(index), dims_old).reshape(dims_new) for a in (self.low, self.high))
        varying = [i for i, n in enumerate(dims_new) if any((a != a.take([0], axis=i)).any() for a in (low, high))]
        if len(self.low) == 1 and tuple(dims_old) == tuple(dims_new):
            varying = [self.dim - before[0]]
        if not varying:
            return self.collapsed()
        found = []
        for i in varying:
            others = tuple(other for other in range(len(dims_new)) if other != i)
            found.append(replace(self, dim=before[1] + i, low=low.min(axis=others), high=high.max(axis=others)))
        best = min(found, key=lambda span: span.size)
        # A dimension that is split keeps the part along which the intervals stay short: blocks of pixels.
        return best if len(found) == 1 else replace(best, stride=best.step)


def join(spans: Sequence[Span]) -> Span:
    """Returns the span of a sum, or of any other elementwise function, of arrays of one shape.

    Some of the arrays may have lost the dimension. They join the others as gates: the intervals stay as they are, and
    what the gate sees is kept beside them.
    """
    mapped = [span for span in spans if span.dim is not None]
    flat = [span for span in spans if span.dim is None]
    gates = [span.gate for span in spans]
    if len({span.dim for span in mapped}) > 1:
        flat, mapped = [*flat, *(span.collapsed() for span in mapped)], []
    if mapped:
        gates += [(int(span.low[0]), int(span.high[0])) for span in flat]
    joined = mapped or flat
    low = np.minimum.reduce([span.low for span in joined])
    high = np.maximum.reduce([span.high for span in joined])
    gate = (min(first for first, _ in gates), max(last for _, last in gates))
    stride = min(span.pace for span in mapped) if mapped else None
    return Span(joined[0].dim, low, high, stride, gate)


def concatenate(spans: Sequence[Span | None], sizes: Sequence[int], dim: int) -> Span:
    """Returns the span of arrays joined end to end along `dim`.

    Args:
      spans: Spans of the arrays; None for an array that sees no pixel.
      sizes: Sizes of the arrays along `dim`.
      dim: Dimension along which the arrays are joined.
    """
    present = [span for span in spans if span is not None]
    dims = {span.dim for span in present} - {None}
    if dims - {dim}:
        return join(present)
    apart = len({(span.low[0], span.high[0]) for span in present}) > 1
    if not dims and not (apart and len(present) == len(spans) and set(sizes) == {1}):
        return join(present)
    # Pieces of a map; without the dimension, bins of one, as adaptive pooling stacks them.
    low, high = (np.concatenate([_filled(span, size, side) for span, size in zip(spans, sizes)]) for side in (0, 1))
    strides = [span.stride for span in present if span.stride is not None]
    joined = Span(dim, low, high, None, join([span.collapsed() for span in present]).gate)
    return replace(joined, stride=min(strides) if strides else joined.step)


def _filled(span: Span | None, size: int, side: int) -> np.ndarray:
    values = np.array([NOTHING[side]]) if span is None else (span.low, span.high)[side]
    return np.broadcast_to(values, size)


def _group(old: Sequence[int], new: Sequence[int], dim: int) -> tuple[tuple[int, int], Sequence[int], Sequence[int]]:
    """Finds the smallest group of neighboring dimensions with `dim` that a reshape turns into a group of its result.

    Returns:
      Where the group begins in the old and in the new shape, its sizes in the old one, and its sizes in the new one.
    """
    i = j = 0
    while True:
        first, size_old, size_new = (i, j), old[i], new[j] if j < len(new) else 1
        i, j = i + 1, j + 1
        while size_old != size_new:
            if size_old < size_new:
                size_old, i = size_old * old[i], i + 1
            else:
                size_new, j = size_new * new[j], j + 1
        if i > dim:
            break
    while j < len(new) and new[j] == 1 and i == len(old):
        j += 1
    return first, old[first[0] : i], new[first[1] : j]
