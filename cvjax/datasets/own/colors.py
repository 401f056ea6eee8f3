"""Reads masks that show each class in a color of its own, with the table of the colors beside them.

    class_dict.csv      name,r,g,b and a row a class, as many published sets have it
    label_colors.txt    64 128 64 Animal    CamVid's
    labelmap.txt        car:128,0,0:parts:actions    CVAT's, in which parts and actions may be empty

The order of the rows is the order of the labels. Colors of one name are one class. A name of `VOID_NAMES` stands for
pixels that are ignored, and so does VOC's color of borders, unless the table gives it to a class.
"""

import csv
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from cvjax.data.dataset import Files, FolderDataset, Record, read_file
from cvjax.data.decode import IGNORE, decode_image, encode_mask
from cvjax.data.identity import fingerprint_of
from cvjax.data.pixels.backends import JPEG_MAGIC
from cvjax.datasets.listing import MOST_CLASSES, read_lines
from cvjax.errors import DataError

VOID_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled", "__ignore__")
"""Names in a table of colors, in lower case, of pixels that are ignored."""
TABLES = ("class_dict.csv", "label_colors.txt", "labelmap.txt", "class_dict_seg.csv", "label_class_dict.csv")
_BORDER = (224, 224, 192)  # of VOC's masks
_NEAR = 48  # levels that a color changed by compression or smoothing is off at most, mostly
_CHANNELS = (("r", "red"), ("g", "green"), ("b", "blue"))
_NAMES = ("name", "class", "label", "class_name", "label_name")

Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ColorTable:
    """Says which color stands for which class.

    Attributes:
      path: File of the table.
      class_names: Names of the classes, in the order of their labels.
      labels: Label of each color; 255 where it is ignored.
    """

    path: pathlib.Path
    class_names: tuple[str, ...]
    labels: Mapping[Color, int]


def find_table(folder: pathlib.Path) -> pathlib.Path | None:
    """Finds the table of colors that lies in a folder: of a known name, or another CSV with columns r, g and b."""
    known = [folder / name for name in TABLES if (folder / name).is_file()]
    if known:
        return known[0]
    for path in sorted(folder.glob("*.csv")):
        header = _rows(path)[:1]
        if header and all(_column(header[0], names) is not None for names in _CHANNELS):
            return path
    return None


def read_table(path: pathlib.Path) -> ColorTable:
    """Reads a table of colors.

    Raises:
      DataError: It cannot be read, a row is none, or a color stands for two names.
    """
    entries = _csv_entries(path) if path.suffix.lower() == ".csv" else _text_entries(path)
    names = list(dict.fromkeys(name for name, _ in entries if name.lower() not in VOID_NAMES))
    if not names:
        raise DataError(f"{path}: there are no classes; write a row with a name and a color for each.")
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"{path}: there are {len(names)} names, and masks tell at most {MOST_CLASSES} classes apart; join some."
        )
    labels: dict[Color, int] = {}
    owner: dict[Color, str] = {}
    for name, color in entries:
        if owner.setdefault(color, name) != name:
            raise DataError(f"{path}: {color} is the color of {owner[color]} and of {name}; give each its own.")
        labels[color] = IGNORE if name.lower() in VOID_NAMES else names.index(name)
    labels.setdefault(_BORDER, IGNORE)
    return ColorTable(path, tuple(names), labels)


class ColorMasks(FolderDataset):
    """Reads pairs of an image and a colored mask where they lie; records carry masks of labels.

    Args:
      name, split: Attributes that every dataset has.
      pairs: Id, image path and mask path of each example, in order.
      table: Table of the colors.
    """

    def __init__(self, name: str, split: str, pairs: Sequence[Files], table: ColorTable) -> None:
        super().__init__(name, split, pairs, class_names=table.class_names)
        self.table_path = table.path
        order = sorted((_code(color), label) for color, label in table.labels.items())
        self.labels = order  # which counts of masks and the fingerprint know the table by
        self._codes = np.array([code for code, _ in order], np.int64)
        self._numbers = np.array([label for _, label in order], np.uint8)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self.pairs):
            raise IndexError(index)
        key, image, mask = self.pairs[index]
        return {"image": read_file(image), "mask": self._relabeled(read_file(mask), mask), "id": key}

    def fingerprint(self) -> str:
        """Returns the digest of the files, the order of the ids, and the colors of the classes."""
        return fingerprint_of(self.files(), ids=self.ids(), labels=self.labels)

    def _relabeled(self, data: bytes, file: str) -> bytes:
        if data.startswith(JPEG_MAGIC):
            raise DataError(f"{file}: is a JPEG, which changes colors when it compresses; save the mask as PNG.")
        colors = decode_image(data, file).astype(np.int64)
        codes = (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
        places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        unknown = self._codes[places] != codes
        if unknown.any():
            raise self._no_class(codes[unknown], file)
        return encode_mask(self._numbers[places])

    def _no_class(self, codes: np.ndarray, file: str) -> DataError:
        """Returns the error for colors that are no class, of which the most frequent one is named."""
        found, counts = np.unique(codes, return_counts=True)
        worst = int(np.argmax(counts))
        color = _color(int(found[worst]))
        more = f", and {len(found) - 1} other colors are none either," if len(found) > 1 else ""
        said = f"{file}: the color {color} of {counts[worst]} pixels is no class of {self.table_path.name}{more}"
        offs = [max(abs(a - b) for a, b in zip(color, _color(int(code)), strict=True)) for code in self._codes]
        nearest = int(np.argmin(offs))
        near = _color(int(self._codes[nearest]))
        if offs[nearest] <= _NEAR:
            label = int(self._numbers[nearest])
            name = "ignored pixels" if label == IGNORE else self.class_names[label]
            return DataError(
                f"{said}; {name} is {near}, and JPEG or resizing with smoothing makes such neighbors: save the masks as"
                " they were drawn, as PNG, or add the color to the table."
            )
        gray = color[0] == color[1] == color[2]
        hint = (
            f", or, if masks hold class numbers, put classes.txt in the place of {self.table_path.name}" if gray else ""
        )
        return DataError(f"{said}; add a row with it to the table, or mend the mask{hint}.")


def _code(color: Color) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _color(code: int) -> Color:
    return code >> 16, code >> 8 & 255, code & 255


def _csv_entries(path: pathlib.Path) -> list[tuple[str, Color]]:
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: there are no rows; write name,r,g,b and a row a class.")
    columns = [_column(rows[0], names) for names in _CHANNELS]
    name = _column(rows[0], _NAMES)
    has_header = None not in columns
    if has_header and name is None:
        raise DataError(f"{path}: there is no column of names beside the colors; call it name.")
    places = [name, *columns] if has_header else [0, 1, 2, 3]
    entries = []
    for number, row in enumerate(rows[has_header:], 1 + has_header):
        cells = [row[place].strip() for place in places if place is not None and place < len(row)]
        entries.append(_entry(path, number, cells[0] if cells else "", cells[1:]))
    return entries


def _text_entries(path: pathlib.Path) -> list[tuple[str, Color]]:
    entries = []
    for number, line in enumerate(read_lines(path), 1):
        parts = re.fullmatch(r"(\d+)\s+(\d+)\s+(\d+)\s+(.+)", line)
        if parts:
            entries.append(_entry(path, number, parts[4], parts.groups()[:3]))
            continue
        name, _, rest = line.partition(":")
        entries.append(_entry(path, number, name.strip(), re.split(r"\s*,\s*", rest.split(":")[0].strip())))
    return entries


def _entry(path: pathlib.Path, number: int, name: str, levels: Sequence[str]) -> tuple[str, Color]:
    good = name and len(levels) == 3 and all(re.fullmatch(r"\d{1,3}", level) and int(level) < 256 for level in levels)
    if not good:
        form = "name,r,g,b" if path.suffix.lower() == ".csv" else "R G B name, or name:R,G,B::"
        raise DataError(f"{path}: row {number} is no name with a color of three numbers to 255; write it as {form}.")
    red, green, blue = map(int, levels)
    return name, (red, green, blue)


def _rows(path: pathlib.Path) -> list[list[str]]:
    """Reads the rows of a CSV that are not empty, whatever of comma, semicolon and tab separates them."""
    lines = read_lines(path)
    separator = max(",;\t", key=lines[0].count) if lines else ","
    return [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if any(row)]


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((place for place, cell in enumerate(header) if cell.strip().lower() in names), None)
