"""Says where downloaded and prepared files lie, and writes files whole or not at all, those of JSON among them."""

import contextlib
import errno
import http.client
import json
import math
import os
import pathlib
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

if sys.platform != "win32":
    import fcntl


def default_data_dir() -> pathlib.Path:
    """Returns the folder of data sets and weights: the environment variable CVJAX_DATA_DIR, else `~/.cache/cvjax`.

    If the variable is a URL, that is the folder of local copies of what lies there, see `cvjax.storage`.
    """
    given = os.environ.get("CVJAX_DATA_DIR") or "~/.cache/cvjax"
    return copy_of(given) if scheme_of(given) is not None else pathlib.Path(given).expanduser()


def scheme_of(place: str) -> str | None:
    """Returns the scheme of a URL, such as gs, in lower case; None for what is no URL but a local path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", place)
    return found.group(1).lower() if found else None


def copy_of(url: str) -> pathlib.Path:
    """Returns the local place for copies of a URL; those of file:// need none, and are the place itself."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in ("file", "local"):
        return pathlib.Path(urllib.parse.unquote(rest) or "/")
    given = os.environ.get("CVJAX_DATA_DIR") or "~/.cache/cvjax"
    cache = "~/.cache/cvjax" if scheme_of(given) not in (None, "file", "local") else given
    root = pathlib.Path(cache).expanduser() if scheme_of(cache) is None else copy_of(cache)
    parts = [part for part in rest.split("/") if part not in ("", ".", "..")]
    return root.joinpath("remote", scheme.lower(), *parts)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a name beside `path` to write to, and puts the written file in its place at the end.

    After an error the written file is removed. Readers thus see the old file or the whole new one. If two processes
    write, the last one wins.

    Raises:
      OSError: The folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{os.getpid()}.{path.name}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):  # after success it is gone already
            partial.unlink()


@contextlib.contextmanager
def locked(path: pathlib.Path, work: str) -> Iterator[None]:
    """Lets one process at a time into the body of the `with`; others wait until it leaves.

    The system frees the lock of a process that ends in whatever way, so a killed one blocks nobody. The file stays, and
    is empty. Where the system or the disk knows no such locks, nobody waits: who writes must also put whole files in
    their place, as `replacing` does.

    Args:
      path: File that stands for the lock; it is made, and so is its folder.
      work: What the others wait for, such as "preparing camvid"; a process that must wait says so on stderr.

    Raises:
      OSError: The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    print(f"waiting for another process that is {work}", file=sys.stderr, flush=True)
                    fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file frees the lock


def json_values(value: Any) -> Any:
    """Returns a value as JSON holds it: tuples as lists, and None for nan and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return value


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Returns the JSON of a value, see `json_values`, without a newline at the end.

    Raises:
      TypeError: A value that JSON does not have.
    """
    return json.dumps(json_values(value), indent=indent, allow_nan=False)


def write_json(path: Any, value: Any) -> None:
    """Writes a value as JSON, see `json_values`; readers see the old file or the whole new one.

    Args:
      path: Path of the file: a `pathlib.Path`, or one at a URL, see `cvjax.storage`.
      value: Value that JSON can hold.

    Raises:
      OSError: The file cannot be written.
    """
    text = json_text(value, indent=2) + "\n"
    if not isinstance(path, pathlib.Path):
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def download(
    url: str, target: pathlib.Path, *, check: Callable[[pathlib.Path], None], progress: bool = True
) -> pathlib.Path:
    """Fetches a file; after any failure the old file stays under its name.

    Args:
      url: Address: http, https, ftp or file.
      target: Path of the file; its folder is made if need be.
      check: Function that raises if the file that it is given is not the one wanted.
      progress: Whether to show a bar on the terminal.

    Returns:
      `target`.

    Raises:
      OSError: There is no connection, the server reports an error, the transfer broke off, or the disk is full.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    # pooch fetches as well, but compares whole digests. Publishers of weights tell the first eight digits alone, and
    # some archives have an MD5 and a length; so the caller checks.
    with replacing(target) as partial:
        try:
            with (
                urllib.request.urlopen(url, timeout=60) as reply,
                open(partial, "wb") as file,
                Progress(*columns, console=Console(stderr=True), disable=not progress) as bar,
            ):
                length = int(reply.headers.get("Content-Length") or 0) or None
                task = bar.add_task(target.name, total=length)
                while block := reply.read(1 << 20):
                    file.write(block)
                    bar.advance(task, len(block))
                received = file.tell()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the connection broke off: {error!r}") from error
        if length is not None and received < length:
            raise ConnectionError(f"the connection broke off after {received} of {length} bytes")
        check(partial)
    return target
