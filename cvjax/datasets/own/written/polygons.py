"""Makes one polygon of pixels, or of several polygons, with the same pixels inside, see `annotated.outlines`.

A polygon may touch itself: pieces and holes are joined by lines that are walked in both directions. As what lies inside
is decided by the number of crossings, such a line changes nothing.
"""

from collections.abc import Sequence

import numpy as np


def around(pixels: np.ndarray) -> np.ndarray | None:
    """Returns a polygon along the borders of pixels, bool [H, W], as float [N, 2]; None where there is no pixel."""
    loops = _loops(pixels)
    return bridged(loops) if loops else None


def bridged(loops: Sequence[np.ndarray]) -> np.ndarray:
    """Joins polygons into one, by lines from the first corner of the first to the first corner of each other."""
    first, *others = loops
    if not others:
        return first
    start = first[:1]
    pieces = [first, start]
    for loop in others:
        pieces += [loop, loop[:1], start]
    return np.concatenate(pieces[:-1])


def clipped(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Cuts a polygon off at the image's border (Sutherland and Hodgman, 1974); None where nothing is left.

    Args:
      corners: Corners x, y, float [N, 2].
      size: Height and width of the image.
    """
    height, width = size
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        if not len(corners):
            return None
        ahead = np.roll(corners, -1, axis=0)
        here, there = sign * (corners[:, axis] - limit), sign * (ahead[:, axis] - limit)
        kept: list[np.ndarray] = []
        for start, end, a, b in zip(corners, ahead, here.tolist(), there.tolist(), strict=True):
            if a >= 0:
                kept.append(start)
            if (a > 0 > b) or (a < 0 < b):
                crossing = start + (end - start) * (a / (a - b))
                crossing[axis] = limit
                kept.append(crossing)
        corners = np.array(kept, np.float64).reshape(-1, 2)
    return corners if len(corners) >= 3 else None


def _loops(pixels: np.ndarray) -> list[np.ndarray]:
    """Walks along all borders between inside and outside; returns closed walks of their corners, float [N, 2]."""
    inside = np.pad(np.asarray(pixels, bool), 1)
    # Where a pixel is inside and its neighbor is not, their common side is an edge, with the inside on its right.
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (down, right), (start, end) in {
        (-1, 0): ((0, 0), (1, 0)),
        (0, 1): ((1, 0), (1, 1)),
        (1, 0): ((1, 1), (0, 1)),
        (0, -1): ((0, 1), (0, 0)),
    }.items():
        rows, columns = np.nonzero(inside & ~np.roll(inside, (-down, -right), axis=(0, 1)))
        for row, column in zip((rows - 1).tolist(), (columns - 1).tolist(), strict=True):
            corner = (column + start[0], row + start[1])
            steps.setdefault(corner, []).append((column + end[0], row + end[1]))
    loops = []
    while steps:
        corner = next(iter(steps))
        walk = [corner]
        while (ends := steps.get(walk[-1])) is not None:
            last = walk[-1]
            walk.append(ends.pop())
            if not ends:
                del steps[last]
        corners = np.array(walk[:-1], np.float64)
        before, behind = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
        turns = before[:, 0] * behind[:, 1] != before[:, 1] * behind[:, 0]
        loops.append(corners[turns])
    return loops
