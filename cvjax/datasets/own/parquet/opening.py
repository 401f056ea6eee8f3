"""Opens data sets of parquet files: names their classes, finds out how boxes are written, and checks what they hold."""

import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvjax.data.annotations import OnBadBoxes, check_objects
from cvjax.data.dataset import Dataset, Target
from cvjax.data.decode import image_size
from cvjax.datasets.listing import CLASSES_FILE, read_class_names
from cvjax.datasets.own.parquet.dataset import ParquetDataset, fields_of, opened
from cvjax.datasets.own.parquet.tables import Columns, columns_of, files_by_split
from cvjax.errors import ConfigError, DataError

_LOG = logging.getLogger(__name__)
_NAMES_FILE = "id2label.json"


def open_rows(
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
        raise ConfigError("--input.mask-values is for masks in files; in parquet, name all numbers in id2label.json")
    files = files_by_split(place)
    every = [path for own in files.values() for path in own]
    columns = columns_of(opened(every[0]).schema_arrow, target, every[0])
    all_rows = ParquetDataset("all", every, columns, target, ())
    names, number_of = _classes(place, all_rows, columns, target)
    chosen = every if split is None else files[split]
    found = ParquetDataset(split or "all", chosen, columns, target, names, number_of, void, on_bad_boxes)
    if target == "boxes":
        found.are_corners = all_rows.are_corners = _are_corners(all_rows, columns)
        for index in range(len(found)):
            image, value, name = found.row(index)
            check_objects(found.objects(value, name), image_size(image, name), name, names, on_bad_boxes)
    if target == "label":
        for index, value in enumerate(found.targets()):
            found.label(value, f"{place}, {found.split} row {index}")
    return found


def held(place: pathlib.Path) -> list[Target]:
    """Returns what the columns of the first file hold: boxes, masks, labels.

    Raises:
      DataError: The file cannot be read.
      ConfigError: pyarrow is missing.
    """
    first = next(path for own in files_by_split(place).values() for path in own)
    schema, found = opened(first).schema_arrow, list[Target]()
    targets: tuple[Target, ...] = ("boxes", "mask", "label")
    for target in targets:
        try:
            columns_of(schema, target, first)
        except DataError:
            continue
        found.append(target)
    return found


def _classes(
    place: pathlib.Path, source: ParquetDataset, columns: Columns, target: Target
) -> tuple[Sequence[str], Mapping[Any, int] | None]:
    """Returns the names of the classes, and the labels of values that are not labels themselves."""
    folder = place.parent if place.is_file() else place
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
        values = [label for value in values for label in fields_of(value, columns)[1]]
    distinct = sorted({value for value in values if value is not None})
    return [str(value) for value in distinct], {value: label for label, value in enumerate(distinct)}


def _are_corners(source: ParquetDataset, columns: Columns) -> bool:
    """Returns whether boxes are [x1, y1, x2, y2], and not [x, y, width, height] as in most sets of the hub.

    They are if each is a box inside its image that way, and one is not the other way.
    """
    boxes = [np.asarray(fields_of(value, columns)[0], np.float64) for value in source.targets()]
    filled = [index for index, own in enumerate(boxes) if own.ndim == 2 and own.shape[1] == 4]
    if any((boxes[index][:, 2:] <= boxes[index][:, :2]).any() for index in filled):
        return False  # without a look at the images
    beyond = False
    for index in filled:
        image, _, name = source.row(index)
        height, width = image_size(image, name)
        limit = width + 1, height + 1  # sets round
        if (boxes[index][:, 2:] > limit).any():
            return False
        beyond |= bool((boxes[index][:, :2] + boxes[index][:, 2:] > limit).any())
    if beyond:
        _LOG.warning("boxes are read as x1, y1, x2, y2, because as x, y, width, height they leave their images")
    return beyond


def _id2label(path: pathlib.Path) -> list[str]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        numbers = {int(key): str(name) for key, name in stored.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f'{path}: cannot be read; write {{"0": "NAME", "1": "NAME"}}.') from error
    if sorted(numbers) != list(range(len(numbers))) or not numbers:
        raise DataError(f"{path}: its numbers are not 0 to {len(numbers) - 1}; name each class from 0 on.")
    return [numbers[number] for number in range(len(numbers))]
