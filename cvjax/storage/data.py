"""The folder of data sets and weights, which may be at a URL: then a folder of copies in the user's cache stands in."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from cvjax.errors import DataError
from cvjax.files import copy_of, default_data_dir, write_json
from cvjax.storage.copies import NOTE, PREPARED, copy_folder, noted_in, put_folder
from cvjax.storage.places import AnyPath, as_path, checked_url, is_remote


def data_folder(data_dir: str | os.PathLike[str] | None = None, *names: str) -> pathlib.Path:
    """Returns the local folder of data sets and weights.

    Of a folder at a URL that is a folder of copies in the user's cache.

    Args:
      data_dir: Folder or URL; None is the environment variable CVJAX_DATA_DIR, else `~/.cache/cvjax`.
      *names: Subfolders, such as those of data sets, that are brought up to date if the folder is at a URL.

    Raises:
      ConfigError: The URL is of no known kind.
      DataError: The URL cannot be read.
    """
    given = os.fspath(data_dir) if data_dir else os.environ.get("CVJAX_DATA_DIR")
    place = checked_url(given)
    if given is None or place is None:
        return pathlib.Path(as_path(given)).expanduser() if given else default_data_dir()
    root = copy_of(str(place))
    for name in names:
        try:
            copy_folder(place / name, root / name)
        except OSError as error:
            raise _unreadable(place / name, root, error) from error
    return root


def fetched_folder(place: str | os.PathLike[str]) -> pathlib.Path:
    """Returns a local folder with the files of a place: itself if it is local, else a copy in the user's cache.

    Raises:
      ConfigError: The URL is of no known kind.
      DataError: There is nothing at the URL, or it cannot be read.
    """
    path = as_path(place)
    if not is_remote(path):
        return path.expanduser()
    target = copy_of(str(path))
    try:
        if not path.is_dir():
            raise DataError(f"there is no folder {path}; check the address")
        copy_folder(path, target)
    except OSError as error:
        raise _unreadable(path, target, error) from error
    return target


@contextlib.contextmanager
def store_data_folder(data_dir: str | os.PathLike[str] | None, *names: str) -> Iterator[pathlib.Path]:
    """Yields the local folder of data sets to prepare some in; one at a URL is copied up at the end.

    Args:
      data_dir: Folder or URL, as for `data_folder`.
      *names: Subfolders that come down before, and go up in the end.

    Raises:
      ConfigError: The URL is of no known kind.
      DataError: The URL cannot be read or written to.
    """
    root = data_folder(data_dir, *names)
    yield root
    place = checked_url(data_dir or os.environ.get("CVJAX_DATA_DIR"))
    if place is None:
        return
    try:
        for name in names:
            if (root / name).is_dir():
                _put_changed(root / name, place / name)
    except OSError as error:
        raise _unwritable(place, error) from error


def put_in_store(data_dir: str | os.PathLike[str] | None, folder: pathlib.Path, *, last: str) -> AnyPath | None:
    """Copies a folder, which lies in the local copies of a data folder at a URL, up to there, unless it is there.

    Args:
      data_dir: Folder or URL, as for `data_folder`.
      folder: Local folder; those beside it came from the store with one call of `data_folder`.
      last: Name of the file that makes such a folder whole.

    Returns:
      The place at the URL; None if the data folder is local.

    Raises:
      ConfigError: The URL is of no known kind.
      DataError: The URL cannot be written to.
    """
    root = checked_url(data_dir or os.environ.get("CVJAX_DATA_DIR"))
    if root is None:
        return None
    place: Any = root / folder.relative_to(copy_of(str(root))).as_posix()
    note = folder.parent / NOTE
    here = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    try:
        noted, there = noted_in(note), place.files_below()
        known = {name: noted.get(f"{folder.name}/{name}") for name in here}
        same = known == {name: tuple(file) for name, file in there.items()}
        if same and all(status.st_mtime_ns <= note.stat().st_mtime_ns for status in here.values()):
            return place
        (place / last).unlink(missing_ok=True)
        put_folder(folder, place, last=last)
        there = place.files_below()
    except OSError as error:
        raise _unwritable(root, error) from error
    # So the files that went up do not come down again.
    write_json(note, noted | {f"{folder.name}/{name}": file for name, file in there.items()})
    return place


def _unreadable(place: AnyPath, target: pathlib.Path, error: OSError) -> DataError:
    reason = error.strerror or error
    return DataError(
        f"{place} cannot be copied to {target} ({reason}); check the address, your permissions and the room on the disk"
    )


def _unwritable(place: AnyPath, error: OSError) -> DataError:
    reason = error.strerror or error
    return DataError(f"{place} cannot be written to ({reason}); check the address and your permissions")


def _put_changed(source: pathlib.Path, place: Any) -> None:
    """Makes a folder at a URL hold what a local one holds, if that has changed; it is no prepared set meanwhile."""
    here = {
        path.relative_to(source).as_posix(): path.stat().st_size
        for path in source.rglob("*")
        if path.is_file() and not path.name.endswith((NOTE, ".lock"))
    }
    there = place.files_below()
    noted = noted_in(source / NOTE)
    same = here == {name: file.size for name, file in there.items()}
    if same and noted == {name: tuple(file) for name, file in there.items()} and not _newer(source, here):
        return
    for name in sorted(there, key=lambda name: not name.endswith(PREPARED)):
        if name.endswith(PREPARED) or name not in here:
            (place / name).unlink(missing_ok=True)
    put_folder(source, place)
    write_json(source / NOTE, place.files_below())


def _newer(source: pathlib.Path, names: Mapping[str, int]) -> bool:
    noted = (source / NOTE).stat().st_mtime_ns
    return any((source / name).stat().st_mtime_ns > noted for name in names)
