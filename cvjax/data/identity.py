"""Tells whether two sets of files are the same, by what they hold instead of by where they lie."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any


def digest_of_files(root: pathlib.Path, paths: Iterable[str | os.PathLike[str]], *, times: bool, **options: Any) -> str:
    """Returns a digest of a set of files and the options that they are read with, 16 hexadecimal digits.

    It covers each file's path below `root`, in the order of the names, and its size in bytes. `root` itself is not part
    of it: a folder that was moved, or is spelled in another way, has the same digest.

    Args:
      root: Folder that the files lie in.
      paths: Paths of the files, below `root` or absolute.
      times: Whether the times of the last changes count too. They do for what was made from the files on this machine,
        where a file can change and keep its size. They do not for the copies of two machines.
      **options: Options that decide what is read from the files, as values that JSON knows.

    Raises:
      OSError: A file is not there.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for path in sorted(os.path.relpath(root / path, root) for path in paths):
        status = os.stat(root / path)
        row = [path, status.st_size, status.st_mtime_ns if times else 0]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]
