"""Reads the headers of all images of a set before a run, and keeps those of large sets."""

import concurrent.futures
import contextlib
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from cvjax.data.identity import digest_of_files
from cvjax.data.orientation import Header, read_header
from cvjax.errors import DataError
from cvjax.files import replacing

_THREADS = 8
_TASK = 64
"""Files that a thread reads at a time."""
_KEEP_FROM = 5000
"""Reading as many takes about half a second from a local disk, and much longer over a network."""


def read_headers(
    paths: Sequence[str], data_dir: pathlib.Path | None = None, *, keep_from: int = _KEEP_FROM
) -> list[Header | None]:
    """Reads the headers of images; None stands for a damaged one, which the loader reports when it decodes.

    Args:
      paths: Paths of the files; all are there.
      data_dir: Folder of prepared sets. Its folder `headers` keeps the headers of a large set, and they are read from
        there as long as no file changes. None keeps nothing.
      keep_from: Number of files that makes a set large.
    """
    if data_dir is None or len(paths) < keep_from:
        return _read_all(paths)
    root = pathlib.Path(os.path.commonpath(paths))
    kept = data_dir / "headers" / f"{digest_of_files(root, paths, times=True, order=list(paths))}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # A damaged file is written anew.
        rows = np.load(kept)
        if rows.shape == (len(paths), 3):
            return [Header("", height=h, width=w, orientation=turn) if turn else None for h, w, turn in rows.tolist()]
    headers = _read_all(paths)
    sides = [(found.height, found.width, found.orientation) if found else (0, 0, 0) for found in headers]
    # Where they cannot be written, the next start reads the files again.
    with contextlib.suppress(OSError), replacing(kept) as partial, open(partial, "wb") as file:
        np.save(file, np.array(sides, np.int32))
    return headers


def _read_all(paths: Sequence[str]) -> list[Header | None]:
    parts = [paths[start : start + _TASK] for start in range(0, len(paths), _TASK)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return [header for part in pool.map(_read_some, parts) for header in part]


def _read_some(paths: Sequence[str]) -> list[Header | None]:
    headers: list[Header | None] = []
    for path in paths:
        try:
            headers.append(read_header(path, path))
        except DataError:
            headers.append(None)
    return headers
