"""Lists the images of a folder or zip that has a subfolder for each class.

All images below a class's folder are of this class, however deep. A folder around the classes, as zips have it, is
passed over. So is what systems put there: hidden files, `Thumbs.db`, `__MACOSX`. Of the rest nothing is left out
without a word: images without a class, images in formats that are not read and classes without images are errors, and
other files are counted.
"""

import collections
import os
import pathlib
import zipfile
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.datasets.listing import listed
from cvjax.errors import DataError

_UNREAD = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".svg", ".pdf", ".psd", ".eps", ".dcm", ".exr", ".hdr"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".rw2", ".orf", ".npy", ".mat", ".nii"),
)
"""Suffixes of files that hold images and are not read."""
_JUNK_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
_JUNK_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")


class ClassTree(NamedTuple):
    """Holds what lies in a folder or zip of classes.

    Attributes:
      place: The folder or zip.
      files: Paths of all files below it but junk, with "/".
      folders: Paths of all folders below it but junk.
      around: Path of the folder that holds the classes, "" or with "/" at its end.
    """

    place: pathlib.Path
    files: Sequence[str]
    folders: Collection[str]
    around: str = ""

    @property
    def entries(self) -> list[tuple[str, str]]:
        """Path and class of each image, by class and then by path."""
        found = [parts for path in self.files if len(parts := self.parts(path)) > 1 and _is_image(path)]
        return [(self.around + "/".join(parts), parts[0]) for parts in sorted(found)]

    @property
    def classes(self) -> list[str]:
        """Names of the folders of classes, sorted, whether or not they hold images."""
        return sorted({parts[0] for path in self.folders if (parts := self.parts(path))})

    @property
    def other(self) -> str:
        """How many files are no images by their suffix, in words; "" where there are none."""
        paths = [path for path in self.files if not _is_image(path)]
        return f"{_files(len(paths))} that cannot be images ({_suffixes(paths)})" if paths else ""

    def placed_among(self, class_names: Collection[str]) -> "ClassTree":
        """Returns the tree with fewer folders around the classes, where one of these has a class's name."""
        around = self.around.split("/")[:-1]
        known = [depth for depth, name in enumerate(around) if name in class_names]
        return self._replace(around="".join(f"{name}/" for name in around[: known[0]])) if known else self

    def parts(self, path: str) -> list[str]:
        """Splits a path below the folder that holds the classes; of any other path nothing is left."""
        return path.removeprefix(self.around).split("/") if path.startswith(self.around) else []

    def check(self, *, fills_all: bool) -> None:
        """Checks that every image can be used.

        Args:
          fills_all: Whether every class must have an image.

        Raises:
          DataError: There are no images, some have no class or are in a format that is not read, or a class has none.
        """
        unread = [path for path in self.files if os.path.splitext(path)[1].lower() in _UNREAD]
        if unread:
            raise DataError(
                f"{self.place}: {_files(len(unread))} in formats that are not read ({_suffixes(unread)}, such as"
                f" {unread[0]}); convert these to JPEG or PNG, or move them elsewhere."
            )
        entries = self.entries
        loose = [path for path in self.files if len(self.parts(path)) < 2 and _is_image(path)]
        if not entries:
            found = f" (found: {_suffixes(self.files)})" if self.files else ""
            raise DataError(
                f"{self.place}: there are no images in subfolders{found}; put images in one of the formats"
                f" {', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)} into a subfolder for each class."
            )
        if loose:
            raise DataError(
                f"{self.place}: {_files(len(loose))} beside the folders of the classes ({listed(loose)}); move each"
                " into the folder of its class, or elsewhere."
            )
        filled = {name for _, name in entries}
        holding = {parts[0] for path in self.files if len(parts := self.parts(path)) > 1}
        empty = [name for name in self.classes if name not in filled and (fills_all or name in holding)]
        if empty:
            what = "a class" if len(empty) == 1 else f"{len(empty)} classes"
            raise DataError(
                f"{self.place}: {what} without an image that is read ({listed(empty)}); add images, or remove the"
                f" folder{'' if len(empty) == 1 else 's'}."
            )


def list_images(place: pathlib.Path) -> ClassTree:
    """Lists what a folder or zip holds, and finds the folders of the classes.

    A folder is one around the classes if there is no other beside it, and no image beside or directly in it.

    Raises:
      DataError: It cannot be read.
    """
    try:
        files, folders = _in_zip(place) if place.is_file() else _in_folder(place)
    except (OSError, zipfile.BadZipFile) as error:
        kind = "a zip" if place.is_file() else "a folder"
        raise DataError(f"{place}: cannot be read as {kind} ({error}); make it again.") from error
    tree = ClassTree(place, files, folders)
    images = [path for path in files if _is_image(path)]
    while images and len(tree.classes) == 1 and all(len(tree.parts(path)) > 2 for path in images):
        tree = tree._replace(around=f"{tree.around}{tree.classes[0]}/")
    return tree


def _in_zip(place: pathlib.Path) -> tuple[list[str], set[str]]:
    with zipfile.ZipFile(place) as archive:
        names = dict.fromkeys(name for name in archive.namelist() if not _is_junk(name))
    folders = {name.rstrip("/") for name in names if name.endswith("/")}
    files = sorted(name for name in names if not name.endswith("/"))
    folders |= {"/".join(parts[:end]) for name in files if (parts := name.split("/")) for end in range(1, len(parts))}
    return files, folders


def _in_folder(place: pathlib.Path) -> tuple[list[str], set[str]]:
    """Lists files and folders, also those behind links, but each folder once."""
    files, folders, seen, waiting = [], set(), set(), [""]
    while waiting:
        below = waiting.pop()
        where = os.path.realpath(place / below)
        if where in seen:
            continue
        seen.add(where)
        with os.scandir(where) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if _is_junk(path):
                    continue
                if entry.is_dir():
                    folders.add(path)
                    waiting.append(path)
                else:
                    files.append(path)
    return sorted(files), folders


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _is_junk(path: str) -> bool:
    """Returns whether a system put a file or folder there, or it is hidden."""
    parts = path.rstrip("/").split("/")
    return (
        any((part.startswith(".") and part != ".") or part in _JUNK_FOLDERS for part in parts)
        or parts[-1].lower() in _JUNK_FILES
    )


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _suffixes(paths: Iterable[str]) -> str:
    counts = collections.Counter(os.path.splitext(path)[1].lower() or "no suffix" for path in paths)
    return listed([f"{count} {suffix}" for suffix, count in counts.most_common()])
