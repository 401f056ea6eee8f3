"""Reads the whole numbers among the tags of TIFF, which EXIF's block is in, too."""

import os
from typing import BinaryIO, NamedTuple

ORIENTATION = 274
_PRIVATE = 700  # Tags from here on do not describe the pixels, and are passed over.
_SIZES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
"""Bytes of a number, by the type of its tag, of those types that are whole numbers."""


class Tags(NamedTuple):
    """Holds the tags of the first picture in a TIFF.

    Attributes:
      order: Order of the bytes, "little" or "big".
      values: Numbers of each tag, by the tag's number.
      places: Position of each tag's first number in the file.
      sizes: Bytes of one number of each tag.
      following: Position of the next picture's tags, 0 if there is none.
      is_cut: Whether the file ends before the tags do, or before the numbers of one that describes the pixels.
    """

    order: str
    values: dict[int, tuple[int, ...]]
    places: dict[int, int]
    sizes: dict[int, int]
    following: int = 0
    is_cut: bool = False

    def first(self, tag: int, default: int) -> int:
        """Returns a tag's first number, or `default` where the tag is absent or not a whole number."""
        return self.values.get(tag, (default,))[0]


def read_tags(file: BinaryIO, at: int | None = None) -> Tags:
    """Reads the tags of a picture in a TIFF, the first one or the one whose tags start at a position.

    What is damaged or not a whole number is left out.
    """
    file.seek(0)
    start = file.read(16)
    order = "little" if start[:2] == b"II" else "big"
    tags = Tags(order, {}, {}, {})
    if len(start) < 8 or start[:2] not in (b"II", b"MM"):
        return tags._replace(is_cut=True)
    is_big = int.from_bytes(start[2:4], order) == 43  # BigTIFF
    wide = 8 if is_big else 4
    file.seek(0, os.SEEK_END)
    end = file.tell()
    where = at if at is not None else int.from_bytes(start[wide : 2 * wide], order)
    counted = 8 if is_big else 2
    if where + counted > end:
        return tags._replace(is_cut=True)
    file.seek(where)
    count, entry = int.from_bytes(file.read(counted), order), 4 + 2 * wide
    table = file.read(min(count * entry, end - where))
    is_cut = len(table) < count * entry
    for row in range(0, len(table) - entry + 1, entry):
        tag, kind = (int.from_bytes(table[row + part : row + part + 2], order) for part in (0, 2))
        many, size = int.from_bytes(table[row + 4 : row + 4 + wide], order), _SIZES.get(kind, 0)
        place = where + counted + row + 4 + wide  # Few numbers stand in the table itself, many elsewhere.
        if many * size > wide:
            place = int.from_bytes(table[row + 4 + wide : row + entry], order)
        if tag >= _PRIVATE or not many or not size or place + many * size > end:
            is_cut |= size > 0 and tag < _PRIVATE
            continue
        file.seek(place)
        block = file.read(many * size)
        numbers = tuple(int.from_bytes(block[n : n + size], order) for n in range(0, len(block), size))
        tags.values[tag], tags.places[tag], tags.sizes[tag] = numbers, place, size
    file.seek(min(where + counted + count * entry, end))
    return tags._replace(following=int.from_bytes(file.read(wide), order), is_cut=is_cut)
