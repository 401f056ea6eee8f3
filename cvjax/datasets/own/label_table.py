"""Reads a CSV with a row an image: its file and its label, and maybe its split.

    file,label,split        with a header, whose columns may have other names, see below
    a/1.jpg,cat,train

    a/1.jpg,cat             or without one

    train.csv  val.csv      a file of rows for each split, in the place of a column

Comma, semicolon or tab separate the cells. Files lie relative to the CSV or to a folder beside it; their suffix may be
absent. Labels are names, or numbers of the names in `classes.txt`. Without that file, the classes are the labels of
`train`, sorted, numbers by size.
"""

import csv
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cvjax.data.dataset import Dataset, Target
from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.datasets.labeled_folder import LabeledFolder
from cvjax.datasets.listing import CLASSES_FILE, listed, read_class_names, read_lines
from cvjax.errors import DataError

NAME = "own"
_SUFFIXES = (".csv", ".tsv")
_SPLITS = ("train", "training", "val", "validation", "valid", "test", "testing")
_FILES = ("file", "filename", "file_name", "image", "path", "filepath", "file_path", "image_path", "image_name", "img")
_FILES = (*_FILES, "image_id", "id", "name")
_LABELS = ("label", "class", "category", "target", "class_name", "label_name", "labels", "y")
_OTHERS = {"r", "red", "xmin", "x_min", "x1", "bbox"}  # of tables of colors and of boxes
_SPLIT = ("split", "subset", "partition", "set", "fold")


class Row(NamedTuple):
    """Holds a row of a table: its number, the image's path below the table's folder, its label, and its split."""

    number: int
    path: str
    label: str
    split: str | None


def recognize(place: pathlib.Path) -> bool:
    """Returns whether a path is a CSV of files and labels, or a folder with one."""
    return any(_is_table(path) for path in _candidates(place))


def splits(place: pathlib.Path) -> list[str]:
    """Returns the names of the splits that a column or the names of files give; none without either.

    Raises:
      DataError: A table is damaged.
    """
    tables = _tables(place)
    if len(tables) > 1 or tables[0].stem.lower() in _SPLITS:
        return [path.stem for path in tables]
    return list(dict.fromkeys(row.split for row in read_table(tables[0]) if row.split is not None))


def open_table(place: pathlib.Path, split: str | None, target: Target = "label", **options: Any) -> Dataset:
    """Opens a split of a CSV of files and labels.

    Args:
      place: CSV, or folder with one.
      split: Name of the split; None for all examples.
      target: What records carry, always labels.
      **options: Options of other formats.

    Raises:
      DataError: A row has no file or not one label, a file is there twice or absent, or a label is no class.
    """
    del target, options
    tables = _tables(place)
    rows = {path: read_table(path) for path in tables}
    of_file = len(tables) > 1 or tables[0].stem.lower() in _SPLITS
    chosen = [
        (path, row)
        for path, own in rows.items()
        for row in own
        if split is None or (path.stem if of_file else row.split) == split
    ]
    train = [row for path, own in rows.items() for row in own if _is_train(path.stem if of_file else row.split)]
    names = _class_names(place, train or [row for own in rows.values() for row in own])
    entries = [(row.path, _label(path, row, names)) for path, row in chosen]
    return LabeledFolder(tables[0].parent, split or "all", entries, names, NAME)


def read_table(path: pathlib.Path) -> list[Row]:
    """Reads the rows of a table and finds their files.

    Raises:
      DataError: A row has no file or not one label, or a file is there twice or absent.
    """
    cells = _cells(path)
    if not cells:
        raise DataError(f"{path}: there are no rows; write one of file and label for each image.")
    finder = _Finder(path)
    has_header = finder.find(cells[0][0]) is None
    file, label, split = _columns(path, cells[0], cells[1:2]) if has_header else _places(path, cells[0])
    rows: list[Row] = []
    absent: list[str] = []
    first: dict[str, Row] = {}
    for number, row in enumerate(cells[has_header:], 1 + has_header):
        needed = max(file, label, -1 if split is None else split)
        if len(row) <= needed or not row[file] or not row[label] or (split is not None and not row[split]):
            raise DataError(f"{path}: row {number} lacks a cell; give it a file and a label, or remove it.")
        if any(row[len(cells[0]) :]) or re.search(r"[|;]|^\[", row[label]):
            raise DataError(
                f"{path}: row {number} has several labels, and a classifier learns one a file; keep one, or split the"
                " task."
            )
        found = finder.find(row[file])
        if found is None:
            absent.append(row[file])
            continue
        entry = Row(number, found, row[label], None if split is None else row[split])
        if found in first:
            other = first[found]
            why = "two labels" if other.label != entry.label else "two rows"
            raise DataError(f"{path}: {row[file]} has {why}, {other.number} and {number}; keep one of them.")
        first[found] = entry
        rows.append(entry)
    if absent:
        where = ", ".join(str(root) for root in finder.roots[:3])
        raise DataError(
            f"{path}: files of its rows are absent: {len(absent)} ({listed(absent)}), sought in {where}; add the files,"
            " or remove these rows."
        )
    return rows


class _Finder:
    """Finds the files that a table names, in its folder or in one beside it."""

    def __init__(self, path: pathlib.Path) -> None:
        self._folder = path.parent
        beside = [entry for entry in sorted(self._folder.iterdir()) if entry.is_dir() and entry.name[0] != "."]
        own = [entry for entry in beside if entry.name.lower() == path.stem.lower()]
        self.roots = list(dict.fromkeys([self._folder, *own, *beside]))
        self._stems: dict[pathlib.Path, dict[str, str]] = {}

    def find(self, name: str) -> str | None:
        """Returns the path of a file below the table's folder; None where it is in none of the places."""
        name = name.replace("\\", "/").removeprefix("./")
        for number, root in enumerate(self.roots):
            found = self._in(root, name)
            if found is not None:
                # The others most likely lie there, too.
                self.roots.insert(0, self.roots.pop(number))
                return os.path.relpath(found, self._folder).replace(os.sep, "/")
        return None

    def _in(self, root: pathlib.Path, name: str) -> str | None:
        path = os.path.join(root, name)
        if name.lower().endswith(IMAGE_SUFFIXES):
            return path if os.path.isfile(path) else None
        folder, stem = os.path.split(path)
        place = pathlib.Path(folder)
        if place not in self._stems:
            names = sorted(os.listdir(place)) if place.is_dir() else []
            images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
            self._stems[place] = {os.path.splitext(name)[0]: os.path.join(folder, name) for name in images}
        return self._stems[place].get(stem)


def _columns(
    path: pathlib.Path, header: Sequence[str], example: Sequence[Sequence[str]]
) -> tuple[int, int, int | None]:
    """Returns the places of file, label and split by the header's names."""
    names = [cell.lower() for cell in header]

    def place(wanted: Sequence[str]) -> int | None:
        return next((names.index(name) for name in wanted if name in names), None)

    file, label, split = place(_FILES), place(_LABELS), place(_SPLIT)
    rest = [number for number in range(len(names)) if number not in (file, label, split)]
    if file is not None and label is None and len(rest) == 1:
        label = rest[0]
    if (
        file is not None
        and label is None
        and rest
        and example
        and {example[0][number] for number in rest} <= {"0", "1"}
    ):
        raise DataError(
            f"{path}: has a column for each class, and so several labels a row; give one column, label, with one class"
            " a row."
        )
    if file is None or label is None:
        raise DataError(
            f"{path}: the first row names no file that is there, and its columns ({listed(header)}) are not file and"
            " label; call them so, or mend the paths."
        )
    return file, label, split


def _places(path: pathlib.Path, row: Sequence[str]) -> tuple[int, int, int | None]:
    """Returns the places of file, label and split in a table without a header."""
    if len(row) == 2:
        return 0, 1, None
    if len(row) == 3 and row[2].lower() in _SPLITS:
        return 0, 1, 2
    what = "no label" if len(row) < 2 else "several labels"
    raise DataError(f"{path}: row 1 has {what}; write file and label a row, or a first row with the columns' names.")


def _cells(path: pathlib.Path) -> list[list[str]]:
    lines = read_lines(path)
    separator = max(",;\t", key=lines[0].count) if lines else ","
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return [[unicodedata.normalize("NFC", cell.strip()) for cell in row] for row in rows if any(row)]


def _candidates(place: pathlib.Path) -> Iterator[pathlib.Path]:
    entries = [place] if place.is_file() else sorted(place.iterdir()) if place.is_dir() else []
    yield from (path for path in entries if path.suffix.lower() in _SUFFIXES and path.is_file())


def _is_table(path: pathlib.Path) -> bool:
    """Returns whether a CSV has columns of files and labels by its header, or files in a column."""
    try:
        cells = _cells(path)[:2]
    except DataError:
        return False
    if not cells or len(cells[0]) < 2:
        return False
    names = {cell.lower() for cell in cells[0]}
    if names & _OTHERS:
        return False
    if names & {*_FILES} and names & {*_LABELS}:
        return True
    finder, column = _Finder(path), next((place for place, name in enumerate(cells[0]) if name.lower() in _FILES), None)
    if column is not None and len(cells) > 1 and column < len(cells[1]) and finder.find(cells[1][column]) is not None:
        return True
    return finder.find(cells[0][0]) is not None


def _tables(place: pathlib.Path) -> list[pathlib.Path]:
    """Returns the table of all rows, or those of the splits.

    Raises:
      DataError: There are none, or several of which it is not clear which one is meant.
    """
    found = [path for path in _candidates(place) if _is_table(path)]
    parts = [path for path in found if path.stem.lower() in _SPLITS]
    if place.is_dir() and parts:
        return parts
    if len(found) == 1 or place.is_file():
        return [place] if place.is_file() else found
    if not found:
        raise DataError(f"{place}: there is no CSV of files and labels; write one, such as labels.csv.")
    raise DataError(
        f"{place}: the labels may be in any of {listed([path.name for path in found])}; name the file itself, or call"
        " the files train.csv and val.csv."
    )


def _is_train(split: str | None) -> bool:
    return split is None or split.lower().startswith("train")


def _class_names(place: pathlib.Path, rows: Sequence[Row]) -> list[str]:
    file = (place.parent if place.is_file() else place) / CLASSES_FILE
    if file.is_file():
        return read_class_names(file)
    labels = {row.label for row in rows}
    are_numbers = all(re.fullmatch(r"\d+", label) for label in labels)
    return sorted(labels, key=int) if are_numbers else sorted(labels)


def _label(path: pathlib.Path, row: Row, names: Sequence[str]) -> int:
    if row.label in names:
        return names.index(row.label)
    if row.label.isdecimal() and int(row.label) < len(names) and not any(name.isdecimal() for name in names):
        return int(row.label)
    raise DataError(
        f"{path}: row {row.number}: {row.label} is no class ({listed(names)}); mend the label, or name it in"
        f" {CLASSES_FILE}."
    )
