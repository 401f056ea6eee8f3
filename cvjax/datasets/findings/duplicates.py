"""Finds pictures that are the same or nearly the same: scaled, compressed again, brighter, a little cut.

A picture has a perceptual hash of 64 bits, OpenCV's `PHash`: the signs of the 8 x 8 lowest frequencies of its
brightness, relative to their mean. OpenCV is installed in any case; ImageHash's `phash` is the same idea and would add
a package. Hashes within `DISTANCE` bits are candidates, and a candidate is confirmed where small color copies of the
two correlate by at least `LIKENESS`. Brightness and contrast change neither.

The limits come from 9,000 crops of 64 photographs and 1,000 altered copies: of copies that were compressed again,
scaled or brightened 97 to 100% are found, of those that lost up to 8% of a side 58%, and no two crops of different
photographs are taken for one. Copies in gray would have confirmed 83 such pairs, of skies and walls.
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

DISTANCE = 10
LIKENESS = 0.97
_SIDE = 64
"""Side of the copy that is hashed; averaging down to it keeps fine patterns from folding into the hash."""
_SMALL = 16
"""Side of the color copy that confirms."""
_FLAT = 2.0
"""Standard deviation of levels below which a picture shows nothing that could be compared."""
_BLOCK = 1024
_CHUNK = 16_384


@dataclasses.dataclass(frozen=True)
class Print:
    """Holds what a picture is compared by.

    Attributes:
      hash: Perceptual hash, 64 bits.
      small: Color copy, uint8 [16, 16, 3].
    """

    hash: int
    small: np.ndarray


def print_of(image: np.ndarray) -> Print:
    """Returns what a picture, uint8 [H, W, 3] in RGB order, is compared by."""
    # Each picture is shrunk in one step, so that the same photograph at another size averages the same pixels.
    shrunk = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    found = cv2.img_hash.PHash.create().compute(cv2.cvtColor(shrunk, cv2.COLOR_RGB2GRAY))
    small = cv2.resize(shrunk, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    return Print(int.from_bytes(found.tobytes(), "little"), small)


def near_pairs(
    hashes: np.ndarray, small: np.ndarray, distance: int = DISTANCE, likeness: float = LIKENESS
) -> np.ndarray:
    """Returns the pairs of pictures that are nearly the same, int [P, 2], the lower index first.

    Pictures without any contrast are in no pair.

    Args:
      hashes: Perceptual hashes, uint64 [N].
      small: Color copies, uint8 [N, 16, 16, 3].
      distance: Largest number of bits in which the hashes differ.
      likeness: Least correlation of the copies.
    """
    small = small.reshape(len(small), -1)
    kept = [np.zeros((0, 2), np.int64)]
    for pairs in _candidates(hashes, distance):
        for start in range(0, len(pairs), _CHUNK):
            some = pairs[start : start + _CHUNK]
            kept.append(some[_correlation(small[some[:, 0]], small[some[:, 1]]) >= likeness])
    return np.concatenate(kept)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the correlation of each row of levels with that of the other array; 0 where one of them is flat."""
    a, b = (rows - rows.mean(axis=1, keepdims=True, dtype=np.float32) for rows in (first, second))
    spreads = a.std(axis=1), b.std(axis=1)
    shared = (a * b).mean(axis=1) / np.maximum(spreads[0] * spreads[1], _FLAT**2)
    return np.where(np.minimum(*spreads) < _FLAT, 0, shared)


def _candidates(hashes: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Yields pairs within the distance, a block of rows at a time: no hash meets another twice."""
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK, None]
        differing = np.bitwise_count(rows ^ hashes[None, start:])
        pairs = np.argwhere(differing <= distance)
        yield pairs[pairs[:, 0] < pairs[:, 1]] + start


def groups_of(pairs: np.ndarray, count: int) -> list[list[int]]:
    """Returns the groups of 2 and more that pairs [P, 2] of `count` things connect, in the order of their first."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    numbers = connected_components(graph, directed=False)[1]
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    groups = [group.tolist() for group in np.split(order, starts[1:]) if len(group) > 1]
    return sorted(groups)


def same_pairs(digests: list[bytes | None]) -> np.ndarray:
    """Returns the pairs of equal digests, int [P, 2]: each with the first of its kind. None equals nothing."""
    first: dict[bytes, int] = {}
    pairs = [
        (first[digest], index)
        for index, digest in enumerate(digests)
        if digest is not None and first.setdefault(digest, index) != index
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)
