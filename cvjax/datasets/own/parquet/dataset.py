"""Shows the rows of parquet files as a dataset of labels, masks or boxes; images are read by groups of rows."""

import collections
import itertools
import json
import logging
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cvjax.data.annotations import Objects, OnBadBoxes, check_objects, make_objects
from cvjax.data.dataset import Dataset, Record, Target, read_file
from cvjax.data.decode import image_size
from cvjax.data.identity import fingerprint_of
from cvjax.datasets.listing import CLASSES_FILE, listed, read_class_names
from cvjax.datasets.own.parquet.tables import Columns, columns_of, files_by_split, pyarrow_parquet
from cvjax.errors import ConfigError, DataError

NAME = "own"
_LOG = logging.getLogger(__name__)
_KEPT_BYTES = 2**28
"""How much of the images read last a process keeps, because neighbors lie in one group of rows."""
_NAMES_FILE = "id2label.json"


class ParquetDataset:
    """Reads the rows of parquet files.

    Args:
      split: Name of the split.
      paths: Files in their order.
      columns: What their columns hold.
      target: What records carry: "label", "mask" or "boxes".
      class_names: Names of the classes by label.
      number_of: Label of each value of the labels' column; None where that holds labels.
      void: Numbers in masks that are ignored.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
    """

    name = NAME

    def __init__(
        self,
        split: str,
        paths: Sequence[pathlib.Path],
        columns: Columns,
        target: Target,
        class_names: Sequence[str],
        number_of: Mapping[Any, int] | None = None,
        void: tuple[int, ...] = (),
        on_bad_boxes: OnBadBoxes = "error",
    ) -> None:
        self.split, self.class_names, self.void = split, tuple(class_names), tuple(void)
        self._paths, self._columns, self._target = [os.fspath(path) for path in paths], columns, target
        self._number_of, self._on_bad_boxes = number_of, on_bad_boxes
        self.are_corners = False
        self._groups: list[tuple[str, int, int]] = []  # file, group, first row
        count = 0
        for path in self._paths:
            metadata = _opened(path).metadata
            for group in range(metadata.num_row_groups):
                self._groups.append((path, group, count))
                count += metadata.row_group(group).num_rows
        self._length = count
        self._kept: collections.OrderedDict[int, tuple[list[Any], list[Any], int]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self._length:
            raise IndexError(index)
        place = np.searchsorted([first for _, _, first in self._groups], index, side="right") - 1
        images, targets, _ = self._group(int(place))
        row = index - self._groups[place][2]
        name = self._row_name(index)
        record: Record = {"image": self._bytes(images[row], name), "id": self.ids()[index]}
        if self._target == "label":
            record["label"] = self.label(targets[row], name)
        elif self._target == "mask":
            record["mask"] = self._bytes(targets[row], name)
        else:
            size = image_size(record["image"], name)
            found = check_objects(self.objects(targets[row], name), size, name, self.class_names, self._on_bad_boxes)
            record.update(cast(Record, found._asdict()))
        return record

    def ids(self) -> list[str]:
        """Returns the ids in the order of the records."""
        return [f"{self.split}-{index:07d}" for index in range(self._length)]

    def image_files(self) -> list[str]:
        """Returns the paths of the files that hold all records."""
        return list(self._paths)

    def fingerprint(self) -> str:
        """Returns the digest of the files and of how they are read."""
        read = [self._target, list(self._columns), self._on_bad_boxes, list(self.class_names), list(self.void)]
        return fingerprint_of(self._paths, read=read, split=self.split)

    def targets(self) -> list[Any]:
        """Returns the values of the target's column, of all rows."""
        tables = (_opened(path).read(columns=[self._columns.target]) for path in self._paths)
        return list(itertools.chain.from_iterable(table[self._columns.target].to_pylist() for table in tables))

    def label(self, value: Any, name: str) -> int:
        """Returns the label of a value of the labels' column.

        Raises:
          DataError: It is none.
        """
        number = value if self._number_of is None else self._number_of.get(value)
        if not isinstance(number, int) or not 0 <= number < len(self.class_names):
            raise DataError(f"{name}: the label {value!r} is no class of {listed(self.class_names)}; mend the row.")
        return number

    def objects(self, value: Any, name: str) -> Objects:
        """Returns the objects of a value of the objects' column, unchecked.

        Raises:
          DataError: A box is no four numbers, boxes and classes are not as many, or a class is none.
        """
        rows = [] if value is None else value
        if isinstance(rows, Mapping):
            boxes, labels = rows[self._columns.boxes] or [], rows[self._columns.categories] or []
        else:
            boxes = [row[self._columns.boxes] for row in rows]
            labels = [row[self._columns.categories] for row in rows]
        if len(boxes) != len(labels) or any(box is None or len(box) != 4 for box in boxes):
            raise DataError(f"{name}: has {len(boxes)} boxes of four numbers and {len(labels)} classes; mend the row.")
        array = np.asarray(boxes, np.float64).reshape(-1, 4)
        if not self.are_corners:
            array = np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1)
        return make_objects(array, [self.label(label, name) for label in labels])

    def _group(self, place: int) -> tuple[list[Any], list[Any], int]:
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
            path, group, _ = self._groups[place]
            try:
                table = _opened(path).read_row_group(group, columns=[self._columns.image, self._columns.target])
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: row group {group} cannot be read ({error}); fetch the file again.") from error
            images = table[self._columns.image].to_pylist()
            self._kept[place] = images, table[self._columns.target].to_pylist(), table.nbytes
            while len(self._kept) > 1 and sum(size for _, _, size in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
            return self._kept[place]

    def _bytes(self, value: Any, name: str) -> bytes:
        if isinstance(value, Mapping):
            stored, path = value.get("bytes"), value.get("path")
            if stored is None and path:
                return read_file(os.path.join(os.path.dirname(self._paths[0]), path))
            value = stored
        if not isinstance(value, bytes):
            raise DataError(f"{name}: has no image; mend the row, or remove it.")
        return value

    def _row_name(self, index: int) -> str:
        """Returns the name of a row for messages: its file and its number there."""
        rows = [(path, first) for path, _, first in self._groups if first <= index]
        path = rows[-1][0]
        return f"{path}, row {index - min(first for own, first in rows if own == path)}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kept, self._lock = collections.OrderedDict(), threading.Lock()

    def __repr__(self) -> str:
        return f"ParquetDataset({self.split!r}, {len(self)} records)"


def open_parquet(
    place: pathlib.Path,
    split: str | None,
    target: Target,
    *,
    on_bad_boxes: OnBadBoxes = "error",
    void: tuple[int, ...] = (),
    values: tuple[int, ...] = (),
    **options: Any,
) -> Dataset:
    """Opens a split of a data set of parquet files; labels and boxes are checked at this point.

    Args:
      place: File, or folder of them.
      split: Name of the split; None for all examples.
      target: What records carry: labels, masks or boxes.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
      void: Numbers in masks that are ignored.
      values: Numbers of the classes in masks; not supported here.
      **options: Options of other formats.

    Raises:
      DataError: A file is missing or damaged, has not what the target needs, or a label or box is wrong.
      ConfigError: pyarrow is missing, or values are given.
    """
    del options
    if values:
        raise ConfigError(
            "--input.mask-values is of masks in files; name the numbers' classes in id2label.json instead"
        )
    files = files_by_split(place)
    paths = [path for own in files.values() for path in own] if split is None else files[split]
    columns = columns_of(_opened(paths[0]).schema_arrow, target, paths[0])
    make = ParquetDataset(split or "all", paths, columns, target, ("",))
    everything = [path for own in files.values() for path in own]
    names, number_of = _classes(place, ParquetDataset("all", everything, columns, target, ("",)), target)
    found = ParquetDataset(make.split, paths, columns, target, names, number_of, void, on_bad_boxes)
    if target == "label":
        for index, value in enumerate(found.targets()):
            found.label(value, f"{place}, {found.split} row {index}")
    if target == "boxes":
        _check_boxes(found)
    return found


def _classes(
    place: pathlib.Path, source: ParquetDataset, target: Target
) -> tuple[Sequence[str], Mapping[Any, int] | None]:
    """Returns the names of the classes, and the labels of values that are not labels themselves."""
    columns, folder = source._columns, place.parent if place.is_file() else place
    if columns.names is not None:
        return columns.names, None
    if (folder / CLASSES_FILE).is_file():
        return read_class_names(folder / CLASSES_FILE), None
    if (folder / _NAMES_FILE).is_file():
        return _id2label(folder / _NAMES_FILE), None
    if target == "mask":
        raise DataError(
            f"{place}: nothing names the classes of the masks; write {CLASSES_FILE} with a name a line, or"
            f" {_NAMES_FILE}, into the folder."
        )
    values = source.targets()
    if target == "boxes":
        fields = (
            row if isinstance(row, Mapping) else {columns.categories: [own[columns.categories] for own in row]}
            for row in values
            if row
        )
        values = [value for row in fields for value in row[columns.categories] or []]
    distinct = sorted({value for value in values if value is not None})
    return [str(value) for value in distinct], {value: label for label, value in enumerate(distinct)}


def _id2label(path: pathlib.Path) -> list[str]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        numbers = {int(key): str(name) for key, name in stored.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f'{path}: cannot be read; write {{"0": "NAME", "1": "NAME"}}.') from error
    if sorted(numbers) != list(range(len(numbers))) or not numbers:
        raise DataError(f"{path}: its numbers are not 0 to {len(numbers) - 1}; name each class from 0 on.")
    return [numbers[number] for number in range(len(numbers))]


def _check_boxes(source: ParquetDataset) -> None:
    """Finds out how boxes are written, and checks them all.

    They are [x, y, width, height], as Hugging Face's own documents have them, unless such a box reaches beyond its image
    and all boxes are corners [x1, y1, x2, y2] inside theirs.
    """
    values, fits_size, fits_corners = source.targets(), True, True
    sizes = []
    for index, value in enumerate(values):
        images, _, _ = source._group(
            int(np.searchsorted([first for _, _, first in source._groups], index, side="right") - 1)
        )
        name = source._row_name(index)
        first = next(start for _, _, start in reversed(source._groups) if start <= index)
        sizes.append(image_size(source._bytes(images[index - first], name), name))
        height, width = sizes[-1]
        boxes = source.objects(value, name).boxes
        written = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        fits_size &= bool((boxes[:, 2:] <= (width + 1, height + 1)).all())
        corners = (written[:, 2:] > written[:, :2]).all() and (written[:, 2:] <= (width + 1, height + 1)).all()
        fits_corners &= bool(corners)
    source.are_corners = (
        not fits_size and fits_corners and any(len(source.objects(value, "").boxes) for value in values)
    )
    if source.are_corners:
        _LOG.warning("%s: boxes are read as corners, as they fit their images only so", source._paths[0])
    for index, (value, size) in enumerate(zip(values, sizes, strict=True)):
        name = source._row_name(index)
        check_objects(source.objects(value, name), size, name, source.class_names, source._on_bad_boxes)


def _opened(path: str | pathlib.Path) -> Any:
    parquet = pyarrow_parquet()
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({error}); fetch the file again.") from error
