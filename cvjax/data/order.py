"""Says which example stands where: the hosts' shares of a batch, the shuffle, and each example's random stream.

All functions are pure. Any process can compute any position, in constant memory and time.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from cvjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class HostShard:
    """Identifies this host by its `index` among `count` hosts; a host holds consecutive rows of every global batch."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ConfigError(f"host {self.index} of {self.count}: give 0 <= index < count.")

    def rows(self, batch_size: int) -> range:
        """Returns this host's rows of a global batch.

        Raises:
          ConfigError: The hosts cannot share the batch equally.
        """
        if batch_size < 1 or batch_size % self.count:
            raise ConfigError(
                f"batch_size is {batch_size} on {self.count} host(s): give a positive multiple of the hosts."
            )
        local = batch_size // self.count
        return range(self.index * local, (self.index + 1) * local)


T = TypeVar("T")
_ROUNDS = 6
_OFFSET = 0x7F4A7C15  # what tells the offset's hash from those of the rounds

ONE_HOST = HostShard()


def shuffled_index(position: int, length: int, seed: int, epoch: int) -> int:
    """Returns the index of the example at `position` of `epoch` in a dataset of `length`.

    Over an epoch the indices are a permutation. It is computed in constant memory.
    """
    # A Feistel network over the smallest square that holds `length`; what lands outside goes round again.
    # Grain's index_shuffle would do, but takes 0.1 ms at 400 records and 1.5 ms at 32, and our order must not
    # change with Grain's version.
    base = _mix(_mix(seed) + epoch)
    keys = [_mix(base + turn * 0x9E3779B1) for turn in range(1, _ROUNDS + 1)]
    side = math.isqrt(length - 1) + 1
    while True:
        left, right = divmod(position, side)
        for key in keys:
            left, right = right, (left + _mix(right * 0x9E3779B1 ^ key)) % side
        position = left * side + right
        if position < length:
            return position


def _mix(value: int) -> int:
    """Hashes to 32 bits with the last step of MurmurHash3, in which every input bit affects every output bit."""
    value &= 0xFFFFFFFF
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def epoch_offset(seed: int, epoch: int) -> float:
    """Returns a number from 0 to below 1 that is the epoch's own, evenly spread over epochs and seeds."""
    return _mix(_mix(_mix(seed) + epoch) + _OFFSET) / 2**32


def example_rng(seed: int, epoch: int, index: int, repeat: int = 0) -> np.random.Generator:
    """Returns the random stream that augments example `index` in `epoch` when it is drawn for the `repeat`-th time."""
    return np.random.default_rng((seed, epoch, index, repeat) if repeat else (seed, epoch, index))


Bucket = tuple[tuple[int, int], tuple[int, ...]]
"""One evaluation batch: the shape (height, width) that its images are padded to, and their indices."""


def batches_by_size(
    sizes: Sequence[tuple[int, int] | None], batch_size: int, multiple: int | None
) -> tuple[Bucket, ...]:
    """Puts images of about the same size into the same bucket, so that evaluation pads little and compiles seldom.

    The batches of a shape are as even as they can be, because they have one program, with as many rows as the largest.

    Args:
      sizes: Size (height, width) of every image. None stands for an unknown size and counts as the largest.
      batch_size: Largest number of images in a batch over all hosts.
      multiple: Divisor of the padded sides, in pixels; None pads all images to one shape.

    Returns:
      The buckets by shape and then by index; the shape that most images have comes first, so that the programs of the
        others can be compiled while it runs. Each index occurs once. The buckets are the same on every host.

    Raises:
      ConfigError: `multiple` is below 1.
    """
    if multiple is not None and multiple < 1:
        raise ConfigError(f"images are padded to a multiple of {multiple}: give 1 or more.")
    known = [size for size in sizes if size is not None] or [(1, 1)]
    largest = (max(height for height, _ in known), max(width for _, width in known))
    shapes: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        height, width = largest if multiple is None or size is None else size
        step = 16 if multiple is None else multiple  # whole cells of a map at stride 16
        shapes.setdefault((-(-height // step) * step, -(-width // step) * step), []).append(index)
    by_count = sorted(shapes.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple((shape, part) for shape, indices in by_count for part in even_parts(indices, batch_size))


def even_parts(items: Sequence[T], most: int) -> list[tuple[T, ...]]:
    """Cuts a sequence into as few parts of at most `most` items as there can be, all but the last of the same size.

    What is computed for nothing, where all parts are filled up to the size of the first, is least so.
    """
    size = -(-len(items) // max(1, -(-len(items) // most)))
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)] if items else []
