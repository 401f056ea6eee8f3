"""Copies between stores and the local disk: what must be read from a disk comes down, what was written to one goes up.

Copies that came down stay in the user's cache, below `remote/SCHEME/`, with a note of what the store said of them then;
what has not changed since is not fetched again.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cvjax.errors import CheckpointError, ConfigError
from cvjax.files import copy_of, locked, replacing, scheme_of, write_json
from cvjax.storage.places import AnyPath, UrlPath, as_path, is_remote

NOTE = ".stored.json"
_AT_ONCE = 8
"""Number of files that are under way at the same time; most of a small file's time is waiting."""
PREPARED = "dataset_info.json"
"""File that makes a folder a prepared set, so it goes up last and comes down last."""


def file_and_key(name: str | os.PathLike[str]) -> tuple[AnyPath, str | None]:
    """Splits `FILE::KEY`, a part of a file, into the file and the key; without a key, that is None.

    Of a file at a URL that is a local copy, see `fetch_file`; what is no file there is the URL's path.

    Raises:
      ConfigError: The URL is of no known kind.
      CheckpointError: The file cannot be fetched.
    """
    text = os.fspath(name)
    file, found, key = text.rpartition("::")
    if not found or (scheme_of(text) is None and os.path.exists(text)):
        file, key = text, ""
    path = as_path(file)
    return (fetch_file(path) if is_remote(path) else path), key or None


def fetch_file(path: AnyPath) -> AnyPath:
    """Returns a local copy of a file at a URL; what is no file there is returned as it is.

    With the `.index` of TensorFlow's checkpoints comes the file of their arrays.

    Raises:
      CheckpointError: The store cannot be reached, or the file not be fetched.
    """
    if not is_remote(path):
        return path
    try:
        if not path.is_file():
            return path
        target = copy_of(str(path))
        names = {path.name}
        if path.suffix == ".index":
            names |= {other.name for other in path.parent.iterdir() if other.name.startswith(f"{path.stem}.data-")}
        stored = {name: (status.st_size, status.version) for name in names for status in [(path.parent / name).stat()]}
        with locked(target.with_name(f".{target.name}.lock"), f"copying {path}"):
            _bring(path.parent, target.parent, stored, f".{target.name}{NOTE}", lambda name: True)
        return target
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path} cannot be read ({reason}); check the address and your permissions") from error


def is_folder(place: str | os.PathLike[str]) -> bool:
    """Returns whether a place, a local path or a URL, is a folder.

    Raises:
      ConfigError: The URL is of no known kind.
      CheckpointError: The store cannot be reached.
    """
    path = as_path(place)
    try:
        return path.is_dir()
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path} cannot be reached ({reason}); check the address and your permissions") from error


def copy_folder(place: AnyPath, target: pathlib.Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Makes a local folder hold what one at a URL holds; nothing is done where there is none.

    Args:
      place: Folder at a URL.
      target: Local folder.
      wanted: Function that tells by a file's path in the folder whether to copy it.

    Raises:
      OSError: A file cannot be read or written.
    """
    assert is_remote(place)
    stored = {name: tuple(file) for name, file in place.files_below().items() if wanted(name)}
    if stored:
        with locked(target.with_name(f".{target.name}.lock"), f"copying {place}"):
            _bring(place, target, stored, NOTE, wanted)


def _bring(
    place: Any, target: pathlib.Path, stored: Mapping[str, Any], note: str, wanted: Callable[[str], bool]
) -> None:
    """Copies the files of a folder that are not as they were the last time, and removes those that are gone."""
    before = noted_in(target / note)
    for name in set(before) - set(stored):
        if wanted(name):
            (target / name).unlink(missing_ok=True)

    def is_here(name: str) -> bool:
        file = target / name
        return before.get(name) == stored[name] and file.is_file() and file.stat().st_size == stored[name][0]

    new = [name for name in stored if not is_here(name)]
    if new:
        size = sum(stored[name][0] for name in new)
        print(f"copying {place} to {target}: {len(new)} files, {size / 1e6:.1f} MB", file=sys.stderr, flush=True)
    for batch in _last_alone(new):
        _at_once([lambda name=name: (place / name).get(target / name) for name in batch])
    noted = {name: file for name, file in before.items() if not wanted(name)} | dict(stored)
    if new or before != noted:
        write_json(target / note, noted)


def put_folder(source: pathlib.Path, place: UrlPath, *, last: str = PREPARED) -> None:
    """Copies all files of a local folder to a URL, those of the name `last` after all others.

    Raises:
      OSError: A file cannot be written.
    """
    names = [path.relative_to(source).as_posix() for path in sorted(source.rglob("*")) if path.is_file()]
    names = [name for name in names if not name.endswith((NOTE, ".lock"))]
    for batch in _last_alone(names, last):
        _at_once([lambda name=name: (place / name).put(source / name) for name in batch])


def _last_alone(names: list[str], last: str = PREPARED) -> list[list[str]]:
    ends = [name.rpartition("/")[2] == last for name in names]
    return [[name for name, end in zip(names, ends) if not end], [name for name, end in zip(names, ends) if end]]


def _at_once(works: list[Callable[[], None]]) -> None:
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()


@contextlib.contextmanager
def written_folder(place: AnyPath) -> Iterator[pathlib.Path]:
    """Yields a local folder to write to: `place` itself, or, of a URL, one whose files are copied up at the end.

    Raises:
      OSError: A file cannot be written.
    """
    if not is_remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="cvjax-") as folder:
        yield pathlib.Path(folder)
        put_folder(pathlib.Path(folder), place)


@contextlib.contextmanager
def written_file(path: AnyPath) -> Iterator[pathlib.Path]:
    """Yields a name to write to; the written file is put in its place at the end, as `cvjax.files.replacing` does.

    Raises:
      OSError: The file cannot be written.
    """
    if not is_remote(path):
        with replacing(path) as partial:
            yield partial
        return
    with tempfile.TemporaryDirectory(prefix="cvjax-") as folder:
        partial = pathlib.Path(folder) / path.name
        yield partial
        path.put(partial)


def write_result(path: str | AnyPath, content: bytes) -> None:
    """Writes a file that a command was asked for, whole or not at all, and makes its folder where it is missing.

    Raises:
      ConfigError: The place cannot be written.
    """
    place = as_path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with written_file(place) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"cannot write {place}: {error.strerror or error}; choose another folder") from error


def noted_in(path: pathlib.Path) -> dict[str, tuple[int, str]]:
    """Returns what the store said of the files of a copy when they were fetched; nothing where that is not known."""
    try:
        return {name: tuple(file) for name, file in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


class Mirror:
    """Keeps the files of a temporary folder at a URL up to date, for programs that add to files as they go.

    A store's file is written as a whole, so each changed file goes up again each time.

    Args:
      place: Folder at a URL.
      *names: Names of files that are fetched first, where they are there.

    Attributes:
      folder: The temporary folder.
    """

    def __init__(self, place: UrlPath, *names: str) -> None:
        self._place = place
        self._folder = tempfile.TemporaryDirectory(prefix="cvjax-")
        self.folder = pathlib.Path(self._folder.name)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (place / name).get(self.folder / name)
        self._sent = self._state()

    def _state(self) -> dict[str, tuple[int, int]]:
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return {
            path.relative_to(self.folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) for path in files
        }

    def send(self) -> None:
        """Copies the files up that have changed since the last time.

        Raises:
          OSError: One cannot be written.
        """
        for name, state in self._state().items():
            if self._sent.get(name) != state:
                (self._place / name).put(self.folder / name)
                self._sent[name] = state

    def close(self) -> None:
        """Copies the last changes up, and removes the temporary folder; a second time does nothing.

        Raises:
          OSError: A file cannot be written.
        """
        try:
            self.send()
        finally:
            self._folder.cleanup()
