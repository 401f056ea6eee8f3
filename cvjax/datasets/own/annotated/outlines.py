"""Turns outlines into pixels: polygons, and COCO's run lengths.

A pixel belongs to a polygon if its center lies inside: if a ray from there crosses the polygon's edges an odd number of
times. A center that lies on an edge belongs to what is on its right or below. So of two polygons with an edge in common
each pixel along it is in one, and a polygon around whole pixels holds these.
"""

from collections.abc import Sequence

import numpy as np

from cvjax.datasets.own.annotated.values import Box, Outline, Polygons, Runs


def pixels_of(outline: Outline, size: tuple[int, int]) -> np.ndarray:
    """Returns the pixels of an outline, bool [H, W]."""
    if isinstance(outline, Runs):
        return runs_pixels(outline)
    inside = np.zeros(size, bool)
    for part in outline.parts:
        inside |= polygon_pixels(part, size)
    return inside


def polygon_pixels(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the pixels whose centers lie inside a polygon, see the module's description.

    Args:
      corners: Corners x, y in pixels, float [N, 2]; the last one is joined to the first.
      size: Height and width of the image.

    Returns:
      bool [H, W].
    """
    height, width = size
    start, end = np.asarray(corners, np.float64), np.roll(np.asarray(corners, np.float64), -1, axis=0)
    upper, lower = np.where((start[:, 1] <= end[:, 1])[:, None], (start, end), (end, start))
    # Row r has its centers at r + 0.5, and an edge crosses those of its rows in [upper y, lower y).
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    behind = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), behind - first)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(behind - first) - (behind - first), behind - first) + first[edge]
    slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
    crossing = upper[edge, 0] + (rows + 0.5 - upper[edge, 1]) * slope
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    flips = np.bincount(rows * (width + 1) + columns, minlength=height * (width + 1)).reshape(height, width + 1)
    return (np.cumsum(flips, axis=1)[:, :width] & 1).astype(bool)


def runs_pixels(runs: Runs) -> np.ndarray:
    """Returns the pixels of run lengths, bool [H, W].

    Raises:
      ValueError: The runs do not fill the image.
    """
    height, width = runs.size
    if int(runs.counts.sum()) != height * width:
        raise ValueError(f"has runs of {int(runs.counts.sum())} pixels and not of {height} x {width}")
    inside = np.arange(len(runs.counts)) % 2 == 1
    return np.repeat(inside, runs.counts).reshape(width, height).T


def pixels_runs(pixels: np.ndarray) -> Runs:
    """Returns the run lengths of pixels, bool [H, W]."""
    flat = np.concatenate([[False], np.asarray(pixels, bool).T.reshape(-1)])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [flat.size - 1]])).astype(np.int64)
    return Runs((int(pixels.shape[0]), int(pixels.shape[1])), counts)


def decompressed(text: str) -> np.ndarray:
    """Returns the run lengths of COCO's compressed text, int64.

    Each number is a difference to the count before last (from the fourth on), in groups of five bits, lowest first: a
    character's code is 48 plus the five bits, plus 32 if more follow; the last group's high bit is the sign.

    Raises:
      ValueError: The text breaks off, or holds a character that none of this makes.
    """
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("has a text as counts that breaks off or is no run-length code; export it again")
    counts: list[int] = []
    value = shift = 0
    for code in codes.tolist():
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if min(counts) < 0:
        raise ValueError("has a negative run among its counts; export it again")
    return np.array(counts, np.int64)


def extent_of(outline: Outline) -> Box:
    """Returns the box around an outline; of run lengths without a pixel an empty one."""
    if isinstance(outline, Polygons):
        return corners_extent(outline.parts)
    pixels = runs_pixels(outline)
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def corners_extent(parts: Sequence[np.ndarray]) -> Box:
    """Returns the box around the corners of polygons."""
    joined = np.concatenate(parts)
    (x1, y1), (x2, y2) = joined.min(axis=0).tolist(), joined.max(axis=0).tolist()
    return x1, y1, x2, y2
