"""Where downloaded and prepared files lie, and how they come to lie there whole or not at all."""

import contextlib
import http.client
import os
import pathlib
import urllib.request
from collections.abc import Callable, Iterator


def default_data_dir() -> pathlib.Path:
    """Where data sets and weights are kept: the environment variable CVJAX_DATA_DIR, else `~/.cache/cvjax`."""
    return pathlib.Path(os.environ.get("CVJAX_DATA_DIR") or "~/.cache/cvjax").expanduser()


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a name beside `path` to write to; at the end that file takes its place, or after an error is removed.

    Readers thus see the old file or the whole new one, and of two processes that write, the last wins.

    Raises:
      OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{os.getpid()}.{path.name}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def download(
    url: str, target: pathlib.Path, *, check: Callable[[pathlib.Path], None], progress: bool = True
) -> pathlib.Path:
    """Fetches a file; whatever goes wrong, what lay under its name stays.

    Args:
      url: http, https, ftp or file.
      target: the file's path; its folder is made if need be.
      check: raises if the file that it is given is not the one wanted.
      progress: show a bar on the terminal.

    Returns:
      `target`.

    Raises:
      OSError: no connection, an error of the server's, a transfer that broke off, a disk that is full.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
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
