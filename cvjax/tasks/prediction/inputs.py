"""Finds the photographs and videos that a person names: files, folders, globs, and lists of them."""

import glob
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.data.photos import photo_size, read_photo
from cvjax.datasets.listing import read_lines
from cvjax.errors import ConfigError, DataError
from cvjax.storage import AnyPath, as_path, is_remote

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""The suffixes, in lower case, of the files that are taken for videos."""
LIST_SUFFIX = ".txt"


class Input(NamedTuple):
    """Describes a photograph or video.

    Attributes:
      path: Its file.
      name: What its results are called, with folders where it lies below a folder that was given; no other input has
        it.
    """

    path: AnyPath
    name: str

    @property
    def is_video(self) -> bool:
        """Returns whether its suffix is that of a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


class Photo:
    """Reads a photograph of a file, see `cvjax.tasks.prediction.stream.Source`."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Returns the file's path."""
        return str(self._path)

    def size(self) -> tuple[int, int]:
        """Returns height and width of the upright picture."""
        return photo_size(self._path)

    def read(self) -> np.ndarray:
        """Returns the upright picture, uint8 [H, W, 3]."""
        return read_photo(self._path)


def find_inputs(words: Sequence[str], out: AnyPath) -> list[Input]:
    """Finds photographs and videos.

    The order is that of the words. A folder gives the images and videos in it and in its subfolders, in alphabetical
    order of their paths; what begins with a dot, and what lies in `out`, is passed over. So does a glob, such as
    `"photos/**/*.jpg"`. A list (.txt) gives its lines; relative paths in it are looked for beside the list and then in
    the working directory. A file that is named twice counts once.

    Results are called by the file's name without suffix; below a folder, its subfolders come before it. Where that
    would be one name for two files, the folders' names go before the file's, or its suffix behind it.

    Raises:
      DataError: A file is missing, a folder has no image, a pattern fits nothing, or a list cannot be read.
      ConfigError: Nothing is named, or the results would lie among the images of a folder.
    """
    if not words:
        raise ConfigError("no image was given; name at least one after the checkpoint")
    found: dict[str, tuple[AnyPath, str]] = {}
    out = out if is_remote(out) else out.resolve()
    for word in words:
        for path, below in _of_word(word, out):
            found.setdefault(str(path) if is_remote(path) else os.path.abspath(path), (path, below))
    paths, below = zip(*found.values())
    return [Input(path, name) for path, name in zip(paths, unique_names(paths, below))]


def _of_word(word: str, out: AnyPath, beside: AnyPath | None = None) -> Iterator[tuple[AnyPath, str]]:
    """Yields the files of a word, each with its path below the folder that was given."""
    path = as_path(word)
    if beside is not None and not is_remote(path) and (beside / word).exists():
        path = beside / word
    if path.is_dir():
        yield from _in_folder(path, out)
    elif path.suffix.lower() == LIST_SUFFIX and beside is None and path.is_file():
        yield from _of_list(path, out)
    elif path.is_file():
        yield path, path.name
    elif glob.has_magic(word) and not is_remote(path):
        hits = sorted(glob.glob(word, recursive=True))
        if not hits:
            raise DataError(f"no file fits the pattern {word}; check it")
        for hit in map(pathlib.Path, hits):
            if hit.is_file() and not _is_within(hit, out):
                yield hit, hit.name
    else:
        where = "" if beside is None else f" of the list in {beside}"
        raise DataError(f"there is no image {word}{where}; check the path")


def _of_list(path: AnyPath, out: AnyPath) -> Iterator[tuple[AnyPath, str]]:
    if is_remote(path):
        raise DataError(f"{path} is a list at a URL; copy it here, its lines may be URLs")
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} is a list without lines; write the path of an image in each")
    for line in lines:
        yield from _of_word(line, out, path.parent)


def _in_folder(folder: AnyPath, out: AnyPath) -> Iterator[tuple[AnyPath, str]]:
    if not is_remote(folder) and not is_remote(out) and folder.resolve() == out:
        raise ConfigError(f"the results would lie among the images of {folder}; choose another folder with --out")
    if is_remote(folder):
        names = sorted(folder.files_below(), key=lambda name: name.split("/"))
    else:
        names = sorted(_names_below(folder), key=lambda name: name.split("/"))
    names = [
        name
        for name in names
        if pathlib.PurePath(name).suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
        and not any(part.startswith(".") for part in name.split("/"))
        and not _is_within(folder / name, out)
    ]
    if not names:
        raise DataError(f"{folder} is a folder without images or videos; their names end in .jpg, .png, .mp4 and so on")
    for name in names:
        yield folder / name, name


def _names_below(folder: pathlib.Path) -> Iterator[str]:
    for place, _, files in os.walk(folder):
        for file in files:
            yield (pathlib.Path(place) / file).relative_to(folder).as_posix()


def _is_within(path: AnyPath, out: AnyPath) -> bool:
    if is_remote(path) or is_remote(out):
        return str(path).startswith(f"{str(out).rstrip('/')}/")
    return out in path.resolve().parents


def unique_names(paths: Sequence[AnyPath], below: Sequence[str]) -> list[str]:
    """Returns a name for each file, all different also where capitals do not count.

    Args:
      paths: Different files.
      below: Path of each below the folder that was given, with its suffix.
    """
    places = [pathlib.PurePosixPath(name) for name in below]
    names = [str(place.parent / place.stem) for place in places]
    depth = [0] * len(names)
    while True:
        groups: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            groups.setdefault(name.casefold(), []).append(number)
        clashes = [group for group in groups.values() if len(group) > 1]
        if not clashes:
            return names
        for group in clashes:
            suffixes = {paths[number].suffix.lower() for number in group}
            for number in group:
                stem, parents = places[number].stem, paths[number].absolute().parent.parts[1:]
                if len(suffixes) == len(group):
                    last = f"{pathlib.PurePath(names[number]).name}_{paths[number].suffix[1:]}"
                elif depth[number] < len(parents):
                    depth[number] += 1
                    last = "_".join((*parents[-depth[number] :], stem))
                else:  # names with capitals and without, or with underscores in them
                    last = f"{stem}_{number}"
                names[number] = str(places[number].parent / last)
