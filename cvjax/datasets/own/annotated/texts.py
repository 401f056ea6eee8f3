"""Reads the JSON and YAML of own data, and finds the images that annotations name in anybody's way."""

import json
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.datasets.listing import listed
from cvjax.errors import DataError

_HEAD = 65_536  # bytes that tell the format of a file
_MOST_SPLITS = 50  # more folders are those of classes, and may hold a million files


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file in UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises:
      DataError: The file cannot be read, or is no JSON; the message names line and column.
    """
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file.") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: breaks off or is no JSON at {place}; export it again.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in {error.encoding}; export it again.") from error


def read_yaml(path: pathlib.Path) -> Any:
    """Reads a YAML file.

    Raises:
      DataError: The file cannot be read, or is no YAML; the message names the line.
    """
    import yaml

    try:
        return yaml.safe_load(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8; save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" at line {mark.line + 1}"
        hint = "; a path with backslashes needs single quotes or none" if "escape" in str(error) else ""
        raise DataError(f"{path}: is no YAML{line}{hint}; mend the file.") from error


def ends_of(path: pathlib.Path) -> bytes:
    """Returns the first and last bytes of a file, without the zeros of UTF-16; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            file.seek(max(len(head), os.fstat(file.fileno()).st_size - _HEAD))
            return (head + file.read()).replace(b"\0", b"")
    except OSError:
        return b""


def portable(name: str) -> str:
    """Returns a path with slashes, whatever system it was written on, and without a Windows drive."""
    name = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
    return name[2:] if name[1:2] == ":" and name[:1].isalpha() else name


def split_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the folders in a folder that may be those of splits: none of them if there are very many."""
    found = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    return found if len(found) <= _MOST_SPLITS else []


def files_below(folder: pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
    """Lists the files of a folder and of all folders below, in the order of their names, without hidden ones."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            pathlib.Path(place, name)
            for name in sorted(names)
            if name.lower().endswith(tuple(suffixes)) and not name.startswith(".")
        ]
    return found


class ImageFinder:
    """Finds the files of images that annotations name.

    A name is a path below one of the folders, or its last parts are: annotations often keep the absolute path of the
    machine where they were made. Where the name has no suffix or another one, the only image of its stem is taken.

    Args:
      folders: Folders in the order in which they are looked through.
    """

    def __init__(self, folders: Iterable[str | os.PathLike[str]]) -> None:
        self._folders = [os.fspath(folder) for folder in dict.fromkeys(folders)]
        self._stems: dict[str, list[str]] | None = None

    def shown(self) -> str:
        """Returns the first two of the folders, for messages."""
        return " or ".join(self._folders[:2])

    def find(self, name: str, *, other_suffix: bool = False) -> str | None:
        """Returns the path of an image, or None where it is not there.

        Args:
          name: Name as the annotation states it.
          other_suffix: Whether an image of the same stem will do.
        """
        if os.path.isabs(name) and os.path.isfile(name):
            return os.path.normpath(name)
        parts = [part for part in portable(name).split("/") if part not in ("", ".")]
        for start in range(len(parts)):
            for folder in self._folders:
                path = os.path.normpath(os.path.join(folder, *parts[start:]))
                if os.path.isfile(path):
                    return path
        if not other_suffix or not parts:
            return None
        if self._stems is None:
            self._stems = {}
            for folder in self._folders:
                for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
                    stem, suffix = os.path.splitext(entry)
                    if suffix.lower() in IMAGE_SUFFIXES:
                        self._stems.setdefault(unicodedata.normalize("NFC", stem), []).append(
                            os.path.join(folder, entry)
                        )
        same = self._stems.get(os.path.splitext(parts[-1])[0], [])
        return same[0] if len(same) == 1 else None


def find_all(
    names: Sequence[str], finder: Callable[[str], str | None], place: object, wanted: object, what: str = "its"
) -> list[str]:
    """Returns the paths of images.

    Args:
      names: Names as annotations state them.
      finder: Function from a name to a path or None.
      place: File or folder that names them, for the message.
      wanted: Folder where they were looked for, for the message.
      what: Whose images they are, for the message.

    Raises:
      DataError: Some are not there, or two names are one file.
    """
    paths = [finder(name) for name in names]
    absent = [name for name, path in zip(names, paths, strict=True) if path is None]
    if absent:
        raise DataError(
            f"{place}: {len(absent)} of {what} {len(names)} images are not in {wanted} ({listed(absent)}); add them, or"
            " take them off the annotations."
        )
    found = [path for path in paths if path is not None]
    first: dict[str, str] = {}
    for name, path in zip(names, found, strict=True):
        if first.setdefault(path, name) != name:
            raise DataError(f"{place}: {first[path]} and {name} are both the file {path}; keep one of them.")
    return found
