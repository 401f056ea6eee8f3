"""Takes a part of a data set that stays the same: the part of a smaller fraction lies within that of a larger one."""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cvjax.data.dataset import Dataset, Record, image_sizes
from cvjax.data.identity import fingerprint_of
from cvjax.errors import ConfigError


class Subset:
    """Takes some examples of a data set.

    Args:
      source: Data set.
      rows: Indices of the examples in it.
    """

    def __init__(self, source: Dataset, rows: np.ndarray) -> None:
        self.source, self.rows = source, rows
        self.name, self.split = source.name, source.split
        self.class_names, self.void = source.class_names, source.void

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self.rows):
            raise IndexError(index)
        return self.source[int(self.rows[index])]

    def fingerprint(self) -> str:
        """Returns the digest of the data set's fingerprint and of the chosen rows."""
        return fingerprint_of([], of=self.source.fingerprint(), rows=self.rows.tolist())

    def header_size(self, index: int) -> tuple[int, int] | None:
        """Returns (height, width) of an image as the source states it; None where that is unreadable."""
        return image_sizes(self.source)[int(self.rows[index])]

    def image_files(self) -> list[str] | None:
        """Returns the paths of the images' files, or of those that hold all records; None where the source has none."""
        files = _files(self.source)
        return files if files is None or len(files) != len(self.source) else [files[row] for row in self.rows]

    def labels(self) -> np.ndarray | None:
        """Returns the label of each image, int [N], where the source tells them without reading its images."""
        known = labels_of(self.source)
        return None if known is None else known[self.rows]

    def __repr__(self) -> str:
        return f"Subset({self.source!r}, {len(self)} records)"


def take_fraction(source: Dataset, fraction: float) -> Dataset:
    """Returns a fraction of a data set, rounded up; all of it is the data set itself.

    Each example has a place in a row that its file's name decides, or its index where examples have no files of their
    own; the first of the row are taken. So 0.1 is a part of 0.2, and a file more changes little. Of images whose labels
    are known without reading them, each class gives the same fraction.

    Args:
      source: Data set.
      fraction: Number above 0, at most 1.

    Raises:
      ConfigError: The fraction is none.
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"--input.fraction is {fraction:g}; give a number above 0 to 1")
    if fraction == 1.0:
        return source
    order = sorted(range(len(source)), key=_places(source))
    labels = labels_of(source)
    strata: dict[int, list[int]] = {}
    for row in order:
        strata.setdefault(0 if labels is None else int(labels[row]), []).append(row)
    # A product such as 0.7 * 10 is a little above its value, and must not count one more.
    taken = [rows[: math.ceil(round(fraction * len(rows), 9))] for rows in strata.values()]
    return Subset(source, np.array(sorted(row for rows in taken for row in rows), np.int64))


def labels_of(source: Dataset) -> np.ndarray | None:
    """Returns the label of each image, int [N], of a data set that tells them without reading its images."""
    labels: Callable[[], np.ndarray | None] = getattr(source, "labels", lambda: None)
    return labels() if callable(labels) else None


def _places(source: Dataset) -> Callable[[int], tuple[bytes, int]]:
    files = _files(source)
    names: Sequence[Any] = range(len(source))
    if files is not None and len(files) == len(source):
        root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
        names = [os.path.relpath(os.path.abspath(file), root).replace(os.sep, "/") for file in files]
    return lambda row: (hashlib.blake2b(str(names[row]).encode(), digest_size=8).digest(), row)


def _files(source: Dataset) -> list[str] | None:
    return getattr(source, "image_files", lambda: None)()
