"""Defines what a check of a data set reports."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cvjax.data.dataset import Dataset

Kind = Literal[
    "unreadable",
    "no-class",
    "empty-box",
    "box-outside",
    "clipped-box",
    "tiny-box",
    "overlapping-boxes",
    "unlabeled",
    "absent-class",
    "duplicates",
    "near-duplicates",
    "duplicates-across-splits",
    "near-duplicates-across-splits",
    "contradicting-labels",
]

TITLES: Mapping[Kind, str] = {
    "unreadable": "Files that cannot be read",
    "no-class": "Labels that are no class",
    "empty-box": "Boxes that are empty or inverted",
    "box-outside": "Boxes outside of their image",
    "clipped-box": "Boxes that reach beyond their image",
    "tiny-box": "Tiny boxes",
    "overlapping-boxes": "Boxes of one class over each other",
    "unlabeled": "Masks without a labeled pixel",
    "absent-class": "Classes that a split lacks",
    "duplicates": "Pictures that are there twice",
    "near-duplicates": "Pictures that are nearly the same",
    "duplicates-across-splits": "Pictures that are in several splits",
    "near-duplicates-across-splits": "Pictures that are nearly the same, in several splits",
    "contradicting-labels": "The same picture with different labels",
}
"""What each kind of finding is called, in the order in which they are shown."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Says where a record is.

    Attributes:
      split: Name of its split.
      index: Index in the split.
      file: Path of its image or of another file of it that is at fault, or its id where it has no file of its own.
    """

    split: str
    index: int
    file: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """Holds one thing that a person may want to put right.

    Attributes:
      kind: Kind of the thing.
      split: Name of the split; of several, joined by "+".
      what: Sentence without its file.
      places: Records that it is about; none where it is about a whole split.
      boxes: Numbers of the boxes that it is about, from 0 on.
    """

    kind: Kind
    split: str
    what: str
    places: tuple[Place, ...] = ()
    boxes: tuple[int, ...] = ()

    def line(self) -> str:
        """Returns the finding as one line, which names the files."""
        names = ", ".join(place.file for place in self.places)
        return f"{names}: {self.what}" if names else f"{self.split}: {self.what}"

    def as_json(self) -> dict[str, Any]:
        """Returns the finding as JSON holds it."""
        files = [{"split": place.split, "index": place.index, "file": place.file} for place in self.places]
        return {"kind": self.kind, "split": self.split, "what": self.what, "files": files, "boxes": list(self.boxes)}


def file_names(source: Dataset) -> list[str] | None:
    """Returns the path of each record's image; None where the records do not lie in a file each."""
    image_files = getattr(source, "image_files", None)
    files = None if image_files is None else image_files()
    return list(files) if files is not None and len(files) == len(source) and len(set(files)) == len(files) else None


def short_names(files: Sequence[str]) -> list[str]:
    """Returns the last parts of paths: the name alone, or with its folder where several files are called the same."""
    parts = [file.replace("\\", "/").split("/") for file in files]
    kept = 1 if len({path[-1] for path in parts}) == len(set(files)) else 2
    return ["/".join(path[-kept:]) for path in parts]
