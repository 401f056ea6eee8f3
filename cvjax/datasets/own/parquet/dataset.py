"""Shows the rows of parquet files as a dataset of labels, masks or boxes; images are read by groups of rows."""

import bisect
import collections
import functools
import itertools
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from cvjax.data.annotations import Objects, OnBadBoxes, check_objects, make_objects
from cvjax.data.dataset import Record, Target, read_file
from cvjax.data.decode import image_size
from cvjax.data.identity import fingerprint_of
from cvjax.datasets.listing import listed
from cvjax.datasets.own.parquet.tables import Columns, pyarrow_parquet
from cvjax.errors import DataError

NAME = "own"
_CROWD, _DIFFICULT, _AREA = ("iscrowd", "is_crowd", "crowd"), ("difficult", "is_difficult"), ("area",)
_KEPT_BYTES = 2**28
"""How much of the images read last a process keeps, because neighbors lie in one group of rows."""


class _Group(NamedTuple):
    """Says where a group of rows lies: its file and number, its first row in the split, and that of its file."""

    path: str
    number: int
    first: int
    start: int


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
        self._number_of = number_of
        self._on_bad_boxes: OnBadBoxes = on_bad_boxes
        self.are_corners = False  # whether boxes are x1, y1, x2, y2, and not x, y, width, height
        self._groups: list[_Group] = []
        count = 0
        for path in self._paths:
            metadata, start = opened(path).metadata, count
            for number in range(metadata.num_row_groups):
                self._groups.append(_Group(path, number, count, start))
                count += metadata.row_group(number).num_rows
        self._length = count
        self._firsts = [group.first for group in self._groups]
        self._kept: collections.OrderedDict[int, tuple[list[Any], list[Any], int]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._files: dict[str, Any] = {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self._length:
            raise IndexError(index)
        image, value, name = self.row(index)
        record: Record = {"image": image, "id": f"{self.split}-{index:07d}"}
        if self._target == "label":
            record["label"] = self.label(value, name)
        elif self._target == "mask":
            record["mask"] = self._bytes(value, name)
        else:
            size = image_size(image, name)
            found = check_objects(self.objects(value, name), size, name, self.class_names, self._on_bad_boxes)
            record.update(cast(Record, found._asdict()))
        return record

    def row(self, index: int) -> tuple[bytes, Any, str]:
        """Returns the encoded image of a row, the value of its target's column, and the row's name for messages.

        Raises:
          DataError: It cannot be read.
        """
        place = bisect.bisect_right(self._firsts, index) - 1
        group = self._groups[place]
        name = f"{group.path}, row {index - group.start}"
        images, values, _ = self._read(place)
        return self._bytes(images[index - group.first], name), values[index - group.first], name

    def ids(self) -> list[str]:
        """Returns the ids in the order of the records."""
        return [f"{self.split}-{index:07d}" for index in range(self._length)]

    def image_files(self) -> list[str]:
        """Returns the paths of the files that hold all records."""
        return list(self._paths)

    def fingerprint(self) -> str:
        """Returns the digest of the files and of how they are read."""
        read = [self._target, list(self._columns), self._on_bad_boxes, self.are_corners, list(self.class_names)]
        return fingerprint_of(self._paths, read=read, void=list(self.void), split=self.split)

    def targets(self) -> list[Any]:
        """Returns the values of the target's column, of all rows."""
        tables = (opened(path).read(columns=[self._columns.target]) for path in self._paths)
        return list(itertools.chain.from_iterable(table[self._columns.target].to_pylist() for table in tables))

    def absent_classes(self) -> list[str]:
        """Returns the names of the classes of which no row has an object."""
        seen, _ = self._told
        numbers = {label if self._number_of is None else self._number_of.get(label) for label in seen}
        return [name for number, name in enumerate(self.class_names) if number not in numbers]

    def box_counts(self) -> list[int]:
        """Returns the number of boxes of each row, bad ones too."""
        return self._told[1]

    @functools.cached_property
    def _told(self) -> tuple[set[Any], list[int]]:
        """Returns the labels that occur, and the number of boxes of each row, of one pass over the files."""
        fields = [fields_of(value, self._columns) for value in self.targets()]
        return {label for _, labels in fields for label in labels}, [len(boxes) for boxes, _ in fields]

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
        boxes, labels = fields_of(value, self._columns)
        crowd, difficult, areas = (_optional(value, names, len(boxes)) for names in (_CROWD, _DIFFICULT, _AREA))
        if len(boxes) != len(labels) or any(box is None or len(box) != 4 for box in boxes):
            raise DataError(f"{name}: has {len(boxes)} boxes of four numbers and {len(labels)} classes; mend the row.")
        array = np.asarray(boxes, np.float64).reshape(-1, 4)
        if not self.are_corners:
            array = np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1)
        return make_objects(array, [self.label(label, name) for label in labels], difficult, crowd, areas=areas)

    def _read(self, place: int) -> tuple[list[Any], list[Any], int]:
        """Returns images, targets and bytes of a group of rows."""
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
            group, columns = self._groups[place], self._columns
            try:
                if group.path not in self._files:
                    self._files[group.path] = opened(group.path)
                wanted = [columns.image, columns.target]
                table = self._files[group.path].read_row_group(group.number, columns=wanted)
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{group.path}: row group {group.number} cannot be read ({error}); fetch the file again."
                ) from error
            self._kept[place] = table[columns.image].to_pylist(), table[columns.target].to_pylist(), table.nbytes
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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_lock": None, "_files": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kept, self._lock, self._files = collections.OrderedDict(), threading.Lock(), {}

    def __repr__(self) -> str:
        return f"ParquetDataset({self.split!r}, {len(self)} records)"


def fields_of(value: Any, columns: Columns) -> tuple[list[Any], list[Any]]:
    """Returns the boxes and the classes in a value of the objects' column: an object of lists, or a list of objects."""
    if isinstance(value, Mapping):
        return value[columns.boxes] or [], value[columns.categories] or []
    rows = value or []
    return [row[columns.boxes] for row in rows], [row[columns.categories] for row in rows]


def _optional(value: Any, names: Sequence[str], count: int) -> list[Any] | None:
    """Returns what the objects' column says about each object under one of the names; None where it says nothing."""
    if isinstance(value, Mapping):
        found = next((value[name] for name in names if value.get(name) is not None), None)
    else:
        found = next(([row[name] for row in value] for name in names if value and name in value[0]), None)
    return found if found is not None and len(found) == count and None not in found else None


def opened(path: str | pathlib.Path) -> Any:
    """Opens a file; its footer is read, and no rows.

    Raises:
      DataError: It is not parquet, or cut short.
      ConfigError: pyarrow is missing.
    """
    parquet = pyarrow_parquet()
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as parquet; fetch the file again.") from error
