"""Gives a data set the labels of a model: classes are matched by their names, in whatever order each side has them."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from cvjax.data.dataset import Dataset, Record, image_sizes
from cvjax.data.decode import IGNORE, decode_label_numbers, encode_mask
from cvjax.data.identity import fingerprint_of, listed
from cvjax.errors import DataError


def match_classes(
    source: Dataset,
    class_names: Sequence[str],
    *,
    whose: str = "the model",
    void: Collection[int] = (),
    where: str | None = None,
) -> Dataset:
    """Returns a data set whose labels number the classes of a model.

    Every path on which a model meets data goes through here. Where the names and their order are the same, this is the
    data set itself. The data set may have some of the model's classes only, see `absent_classes`.

    Args:
      source: Data set with any of its targets.
      class_names: Names of the model's classes, in the order of its labels.
      whose: Whose classes these are, for the message.
      void: Numbers in the masks that the run ignores. They stay ignored, unless the data set has a class of this
        number.
      where: Name or path of the data, for the message; the name by default.

    Raises:
      DataError: The data set has a class that the model lacks, or a name stands for two classes.
    """
    where = f"{where or source.name} {source.split}"
    _check_distinct(source.class_names, where)
    if tuple(source.class_names) == tuple(class_names):
        return source
    _check_distinct(class_names, whose)
    unknown = [name for name in source.class_names if name not in class_names]
    if unknown:
        verb = "is no class" if len(unknown) == 1 else "are no classes"
        raise DataError(
            f"{where}: {listed(unknown)} {verb} of {whose}, which knows {listed(class_names)};"
            " give data with these names, or mend the names."
        )
    return RelabeledDataset(source, class_names, void)


def absent_classes(source: Dataset, class_names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of a model's classes that a data set does not have, in the model's order."""
    present = source.present if isinstance(source, RelabeledDataset) else source.class_names
    return tuple(name for name in class_names if name not in present)


class RelabeledDataset:
    """Shows a data set with the labels of other class names, among which all of its own are; it pickles.

    Masks and numbers of classes are changed in every record. Numbers of objects, as VOC has them beside its classes,
    stay. Masks that are changed come as PNG, with everything that is ignored as 255.

    Args:
      source: Data set to relabel.
      class_names: Names by label.
      void: Numbers in the masks that are ignored, beside those of the source.

    Attributes:
      present: Names of the classes that the source has.
    """

    void: tuple[int, ...] = ()  # Masks hold 255 in their place.

    def __init__(self, source: Dataset, class_names: Sequence[str], void: Collection[int] = ()) -> None:
        self.source = source
        self.name, self.split, self.class_names = source.name, source.split, tuple(class_names)
        self.present = tuple(source.class_names)
        self._labels = np.array([self.class_names.index(name) for name in self.present], np.int64)
        self._table = np.full(IGNORE + 1, -1, np.int16)
        self._ignored = np.array([*source.void, *void, IGNORE])
        self._table[self._ignored[self._ignored <= IGNORE]] = IGNORE
        own = self._labels[:IGNORE]  # A set with more classes has no masks.
        self._table[: len(own)] = np.minimum(own, IGNORE)
        self._table[[number for number in source.void if number <= IGNORE]] = IGNORE

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        record: dict[str, Any] = {**self.source[index]}
        name = str(record["id"])
        masks = "classes" if "classes" in record else "mask"  # Beside "classes", "mask" numbers objects.
        if masks in record:
            record[masks] = self._mask(record[masks], f"{name}.png")
        if "label" in record:
            record["label"] = int(self._renumbered(np.asarray([record["label"]]), name)[0])
        if "labels" in record:
            record["labels"] = self._renumbered(record["labels"], name).astype(np.int32)
        return record  # type: ignore[return-value]

    def _mask(self, data: bytes, file: str) -> bytes:
        numbers = decode_label_numbers(data, file)
        labels = self._table[np.minimum(numbers, IGNORE)]
        unknown = (labels < 0) | ((numbers > IGNORE) & ~np.isin(numbers, self._ignored))
        if unknown.any():
            raise self._outside(int(numbers[unknown][0]), file)
        return encode_mask(labels.astype(np.uint8))

    def _renumbered(self, labels: np.ndarray, file: str) -> np.ndarray:
        outside = (labels < 0) | (labels >= len(self._labels))
        if outside.any():
            raise self._outside(int(labels[outside][0]), file)
        return self._labels[labels]

    def _outside(self, label: int, file: str) -> DataError:
        return DataError(
            f"{file}: label {label} is no class of {self.name}, which has {listed(self.present)}, and is not ignored;"
            " correct it, or add the class's name."
        )

    def header_size(self, index: int) -> tuple[int, int] | None:
        """Returns (height, width) of an image as the source states it; None where that is unreadable."""
        return image_sizes(self.source, range(index, index + 1))[0]

    def image_files(self) -> list[str] | None:
        """Returns the paths of the source's images; None where it has none."""
        image_files = getattr(self.source, "image_files", None)
        return None if image_files is None else image_files()

    def fingerprint(self) -> str:
        """Returns the source's fingerprint with the names of its classes, see `cvjax.data.identity`."""
        return fingerprint_of([], of=self.source.fingerprint(), class_names=self.present)

    def __repr__(self) -> str:
        return f"RelabeledDataset({self.source!r}, {self.class_names!r})"


def _check_distinct(names: Sequence[str], whose: str) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{whose}: {listed(twice)} stands for more than one class; give every class its own name.")
