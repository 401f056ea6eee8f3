"""Joins several datasets into one."""

import bisect
import itertools
from collections.abc import Sequence

from cvjax.data.classes import match_classes
from cvjax.data.dataset import Dataset, Record, image_sizes
from cvjax.data.identity import fingerprint_of


class JoinedDataset:
    """Holds the records of several datasets, one dataset after the other.

    Args:
      name, split: Attributes that every dataset has.
      sources: Datasets to join, at least one. The classes are those of the first; the others are matched by name, see
        `cvjax.data.classes`.
    """

    def __init__(self, name: str, split: str, sources: Sequence[Dataset]) -> None:
        self.name, self.split = name, split
        self.class_names, self.void = sources[0].class_names, sources[0].void
        self._sources = tuple(match_classes(source, self.class_names, whose=sources[0].split) for source in sources)
        self._ends = list(itertools.accumulate(map(len, sources)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        source, local = self._find(index)
        return source[local]

    def fingerprint(self) -> str:
        """Returns the digest of the fingerprints of the datasets."""
        return fingerprint_of([], of=[source.fingerprint() for source in self._sources])

    def header_size(self, index: int) -> tuple[int, int] | None:
        """Reads (height, width) of an image from its header; returns None where that is unreadable."""
        source, local = self._find(index)
        return image_sizes(source, range(local, local + 1))[0]

    def image_files(self) -> list[str] | None:
        """Returns the paths of the files of all parts; None where a part names none."""
        files: list[str] = []
        for source in self._sources:
            some = getattr(source, "image_files", lambda: None)()
            if some is None:
                return None
            files += some
        return files

    def _find(self, index: int) -> tuple[Dataset, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self._ends, index)
        return self._sources[part], index - (self._ends[part - 1] if part else 0)

    def __repr__(self) -> str:
        return f"JoinedDataset({self.name!r}, {self.split!r}, {len(self)} records)"
