"""Reads the lists and folders that users write by hand: names one a line, and files known by their stems.

Names are compared in Unicode's composed form (NFC), since some systems store "é" as two characters and others as one.
"""

import codecs
import os
import pathlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cvjax.errors import DataError

CLASSES_FILE = "classes.txt"
MOST_CLASSES = 255
"""A mask holds a byte a pixel, and 255 means that the pixel is ignored."""
SHOWN = 3
"""How many of the offending files a message lists."""


def read_lines(path: pathlib.Path) -> list[str]:
    """Reads the lines of a list, stripped and in composed form, without empty ones and remarks, which start with "#".

    The list is UTF-8 with or without a byte-order mark, or UTF-16 with one; lines end in any system's way.

    Raises:
      DataError: The list cannot be read.
    """
    lines = (line.strip() for line in _read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_class_names(path: pathlib.Path) -> list[str]:
    """Reads `classes.txt`, where the n-th line names the class with label n - 1.

    Empty lines at the end and remarks do not count. An empty line between names is an error: it may or may not stand
    for a label.

    Raises:
      DataError: The file cannot be read, holds no name, a name twice or more than 255, or has an empty line inside.
    """
    lines = [line.strip() for line in _read_text(path).splitlines()]
    while lines and not lines[-1]:
        del lines[-1]
    if "" in lines[next((n for n, line in enumerate(lines) if line), 0) :]:
        number = len(lines) - lines[::-1].index("")
        raise DataError(
            f"{path}: line {number} is empty, and the names' order is the order of the labels; remove the line, or"
            " name the class there."
        )
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise DataError(f"{path}: there are no names; write one class name a line.")
    if twice := repeated(names):
        raise DataError(f"{path}: {listed(twice)} is there more than once; give every class a name of its own.")
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"{path}: there are {len(names)} names, and masks tell at most {MOST_CLASSES} classes apart; join some."
        )
    return names


def by_stem(folder: pathlib.Path, suffixes: tuple[str, ...]) -> Mapping[str, str]:
    """Maps stems, in composed form, to the paths of a folder's files with one of the suffixes.

    Raises:
      DataError: Two files share a stem.
    """
    found: dict[str, str] = {}
    for name in os.listdir(folder):
        stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
        if suffix.lower() not in suffixes or stem.startswith("."):
            continue
        if stem in found:
            other = os.path.basename(found[stem])
            raise DataError(f"{folder}: {other} and {name} share a stem; keep one of them.")
        found[stem] = os.path.join(folder, name)
    return found


def complain(place: pathlib.Path, what: str, stems: Iterable[str], fix: str) -> None:
    """Raises a DataError that lists the stems, if there are any."""
    stems = list(stems)
    if stems:
        raise DataError(f"{place}: {what}: {len(stems)} ({listed(stems)}); {fix} or remove these.")


def repeated(names: Sequence[str]) -> list[str]:
    """Returns the names that are there more than once, in their order."""
    return [name for name, count in Counter(names).items() if count > 1]


def listed(names: Sequence[object]) -> str:
    """Returns the first names, separated by commas, with dots for the others."""
    return ", ".join(map(str, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def _read_text(path: pathlib.Path) -> str:
    try:
        data = path.read_bytes()
        is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "its text is not UTF-8"
        raise DataError(f"{path}: cannot be read ({reason}); write one name a line into it, as UTF-8.") from error
    return unicodedata.normalize("NFC", text)
