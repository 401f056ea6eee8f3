"""Takes some examples of a dataset as a dataset of its own."""

from collections.abc import Sequence

from cvjax.data.dataset import Dataset, Record, image_sizes
from cvjax.data.identity import fingerprint_of
from cvjax.errors import DataError


def part_of(source: Dataset, indices: Sequence[int], split: str) -> Dataset:
    """Returns the dataset of some examples of another, in the order of the indices.

    Args:
      source: Dataset with any target.
      indices: Positions in it.
      split: Name of the new split.
    """
    make_part = getattr(source, "part", None)
    return PartDataset(source, indices, split) if make_part is None else make_part(indices, split)


def ids_of(source: Dataset) -> list[str]:
    """Returns the ids of a dataset's examples in their order; where it does not know them, from its records.

    A record that cannot be read has its position for an id.
    """
    ids = getattr(source, "ids", None)
    return [_id_in(source, index) for index in range(len(source))] if ids is None else ids()


def unknown_id(index: int) -> str:
    """Returns the id that stands for that of a record which cannot be read."""
    return f"record {index}"


def _id_in(source: Dataset, index: int) -> str:
    try:
        return str(source[index]["id"])
    except DataError:
        return unknown_id(index)


class PartDataset:
    """Shows some examples of a dataset; it pickles.

    Args:
      source: Dataset.
      indices: Positions in it.
      split: Name of the new split.
    """

    def __init__(self, source: Dataset, indices: Sequence[int], split: str) -> None:
        self.source, self.indices = source, [int(index) for index in indices]
        self.name, self.split = source.name, split
        self.class_names, self.void = source.class_names, source.void

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self.indices):
            raise IndexError(index)
        return self.source[self.indices[index]]

    def ids(self) -> list[str]:
        """Returns the ids in the order of the records."""
        ids = ids_of(self.source)
        return [ids[index] for index in self.indices]

    def header_size(self, index: int) -> tuple[int, int] | None:
        """Returns (height, width) of an image as the source states it; None where that is unreadable."""
        return image_sizes(self.source)[self.indices[index]]

    def image_files(self) -> list[str] | None:
        """Returns the paths of the images' files in the order of the records, or of the files that hold all."""
        files = getattr(self.source, "image_files", lambda: None)()
        if files is None or len(files) != len(self.source):
            return files
        return [files[index] for index in self.indices]

    def fingerprint(self) -> str:
        """Returns the source's fingerprint with the positions that are taken, see `cvjax.data.identity`."""
        return fingerprint_of([], of=self.source.fingerprint(), indices=self.indices)

    def __repr__(self) -> str:
        return f"PartDataset({self.source!r}, {self.split!r}, {len(self)} records)"
