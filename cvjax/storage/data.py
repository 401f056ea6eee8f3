"""The folder of data sets and weights, which may be at a URL: then a folder of copies in the user's cache stands in."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from cvjax.errors import DataError
from cvjax.files import copy_of, default_data_dir, write_json
from cvjax.storage.copies import NOTE, PREPARED, copy_folder, noted_in, put_folder
from cvjax.storage.places import as_path, checked_url


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
            reason = error.strerror or error
            raise DataError(
                f"{place / name} cannot be copied to {root} ({reason}); check the address, your permissions and the"
                " room on the disk"
            ) from error
    return root


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
        reason = error.strerror or error
        raise DataError(f"{place} cannot be written to ({reason}); check the address and your permissions") from error


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
