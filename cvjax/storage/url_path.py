"""A path at a URL, such as gs://bucket/run, with the methods of pathlib that the package uses, over fsspec.

`etils.epath` has such paths for four schemes, and takes TensorFlow to reach them where that is installed. So this is an
`epath.Path` of its own: it knows each scheme that fsspec knows, and asks the store itself every time. Listings are not
kept, because other machines and other libraries (Orbax, through TensorStore) write beside this process.
"""

import contextlib
import errno
import functools
import io
import os
import pathlib
import stat as stats
import types
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Self

from etils import epath

OBJECT_STORES = frozenset({"gs", "s3", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"})
"""Schemes of stores that know no folders: one is there as long as something is in it."""
_MESSAGES = {
    FileNotFoundError: (errno.ENOENT, "no such file or folder"),
    FileExistsError: (errno.EEXIST, "it is there already"),
    PermissionError: (errno.EACCES, "permission denied"),
    IsADirectoryError: (errno.EISDIR, "it is a folder"),
    NotADirectoryError: (errno.ENOTDIR, "it is no folder"),
}


class Stored(NamedTuple):
    """Describes a file in a store.

    Attributes:
      size: Number of bytes.
      version: What the store changes whenever the content changes, "" where it has no such thing.
    """

    size: int
    version: str


class UrlPath(epath.Path):
    """Path at a URL. Whatever a driver raises becomes an OSError with a reason, as pathlib's have one.

    Writing a file replaces it as a whole, and there is no appending.
    """

    # Within, gs://bucket/run is /gs/bucket/run, for which pathlib's pure methods are right as they are.
    if hasattr(pathlib.PurePath, "with_segments"):  # Python 3.12

        def __init__(self, *parts: str | os.PathLike[str]) -> None:
            super().__init__(*map(_inner, parts))
    else:

        def __new__(cls, *parts: str | os.PathLike[str]) -> "UrlPath":
            return super().__new__(cls, *map(_inner, parts))

    def __str__(self) -> str:
        if self.parts[:1] != ("/",):  # what `relative_to` returns
            return "/".join(self.parts) or "."
        return f"{self.parts[1]}://{'/'.join(self.parts[2:])}"

    __fspath__ = as_posix = __str__

    def __repr__(self) -> str:
        return f"UrlPath({str(self)!r})"

    @property
    def scheme(self) -> str:
        """Name of the store's protocol, such as gs."""
        return self.parts[1]

    def _reach(self) -> tuple[Any, str]:
        return _filesystem(str(self), self.scheme in OBJECT_STORES)

    def absolute(self) -> "UrlPath":
        return self

    def resolve(self, strict: bool = False) -> "UrlPath":
        del strict
        return self

    def expanduser(self) -> "UrlPath":
        return self

    def exists(self) -> bool:
        with _told(self):
            files, path = self._reach()
            return bool(files.exists(path))

    def is_dir(self) -> bool:
        with _told(self):
            files, path = self._reach()
            return bool(files.isdir(path))

    def is_file(self) -> bool:
        with _told(self):
            files, path = self._reach()
            return bool(files.isfile(path))

    def iterdir(self) -> Iterator["UrlPath"]:
        with _told(self):
            files, path = self._reach()
            names = sorted({found.rstrip("/").rpartition("/")[2] for found in files.ls(path, detail=False)})
        return (self / name for name in names if name and name != self.name)

    def files_below(self) -> dict[str, Stored]:
        """Returns all files in the folder and its subfolders, by their paths in it; none where there is no folder."""
        with _told(self):
            files, path = self._reach()
            try:
                found = files.find(path, detail=True)
            except FileNotFoundError:
                return {}
            start = len(path.rstrip("/")) + 1
            # Some browsers of buckets make an empty object for a folder.
            return {name[start:]: _stored(info) for name, info in sorted(found.items()) if not name.endswith("/")}

    def stat(self) -> Any:
        with _told(self):
            files, path = self._reach()
            info = files.info(path)
        kind = stats.S_IFDIR if info.get("type") == "directory" else stats.S_IFREG
        return types.SimpleNamespace(st_size=int(info.get("size") or 0), st_mode=kind, version=_stored(info).version)

    def open(self, mode: str = "r", encoding: str | None = None, errors: str | None = None, **options: Any) -> IO[Any]:
        del options
        if mode not in ("r", "rb", "w", "wb"):
            raise ValueError(f"a file in a store is read or written as a whole, not opened as {mode!r}")
        with _told(self):
            files, path = self._reach()
            stream = files.open(path, mode[0] + "b")
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding or "utf-8", errors)

    def read_bytes(self) -> bytes:
        with _told(self):
            files, path = self._reach()
            return bytes(files.cat_file(path))

    def read_text(self, encoding: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: bytes) -> int:
        with _told(self):
            files, path = self._reach()
            files.pipe_file(path, bytes(data))
        return len(data)

    def create_bytes(self, data: bytes) -> None:
        """Writes a file that is not there yet, in one step where the store can, as gs:// and s3:// do.

        Raises:
          FileExistsError: It is there.
        """
        if self.exists():  # not all drivers look
            raise FileExistsError(errno.EEXIST, "it is there already", str(self))
        with _told(self):
            files, path = self._reach()
            if self.scheme in OBJECT_STORES:
                files.pipe_file(path, data, mode="create")
            else:
                files.pipe_file(path, data)

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None) -> int:
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def mkdir(self, mode: int | None = None, parents: bool = False, exist_ok: bool = False) -> None:
        del mode
        if not exist_ok and self.exists():
            raise FileExistsError(errno.EEXIST, "it is there already", str(self))
        if self.scheme in OBJECT_STORES:  # s3fs would try to make the bucket
            return
        with _told(self):
            files, path = self._reach()
            files.makedirs(path, exist_ok=True) if parents else files.mkdir(path, create_parents=False)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with _told(self):
                files, path = self._reach()
                files.rm_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        if self.scheme in OBJECT_STORES:
            return
        with _told(self):
            files, path = self._reach()
            files.rmdir(path)

    def rmtree(self, missing_ok: bool = False) -> None:
        try:
            with _told(self):
                files, path = self._reach()
                files.rm(path, recursive=True)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: str | os.PathLike[str]) -> Self:
        """Moves a file or a folder, which is a copy of each file first, and not atomic."""
        new = type(self)(target)
        moved = [(self, new)] if self.is_file() else [(self / name, new / name) for name in self.files_below()]
        with _told(self):
            for old, place in moved:
                files, path = old._reach()
                files.cp_file(path, place._reach()[1])
        for old, _ in moved:
            old.unlink()
        return new

    replace = rename

    def get(self, target: pathlib.Path) -> None:
        """Copies the file into a local one, which is replaced once the copy is whole."""
        partial = target.with_name(f"{os.getpid()}.{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _told(self):
                files, path = self._reach()
                files.get_file(path, str(partial))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def put(self, source: pathlib.Path) -> None:
        """Writes a local file's content; readers see the old file or the whole new one, as far as the store can."""
        with _told(self):
            files, path = self._reach()
            if self.scheme not in OBJECT_STORES:
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
            files.put_file(str(source), path)


def _inner(part: str | os.PathLike[str]) -> str:
    scheme, found, rest = os.fspath(part).partition("://")
    return f"/{scheme}/{rest}" if found else os.fspath(part)


@functools.lru_cache(maxsize=1024)
def _filesystem(url: str, is_object_store: bool) -> tuple[Any, str]:
    import fsspec

    return fsspec.url_to_fs(url, **({"use_listings_cache": False} if is_object_store else {}))


def _stored(info: dict[str, Any]) -> Stored:
    keys = ("md5Hash", "ETag", "etag", "generation", "mtime", "updated", "LastModified", "created")
    version = next((str(info[key]) for key in keys if info.get(key)), "")
    return Stored(int(info.get("size") or 0), version)


@contextlib.contextmanager
def _told(path: UrlPath) -> Iterator[None]:
    """Makes an OSError with a reason of any error in the body."""
    try:
        yield
    except OSError as error:
        if error.strerror and error.filename:
            raise
        kind = next((kind for kind in _MESSAGES if isinstance(error, kind)), OSError)
        number, reason = _MESSAGES.get(kind, (error.errno or errno.EIO, error.strerror or _first_line(error)))
        raise kind(number, reason, str(path)) from error
    except Exception as error:  # each driver has its own kinds
        raise OSError(errno.EIO, _first_line(error), str(path)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
