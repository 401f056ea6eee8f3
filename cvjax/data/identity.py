"""Tells whether files, and data sets, are the same: by what they hold instead of by where they lie.

What was made from files belongs to their digest. A run records the identity of its data: length, classes, ids, files.
It goes on with the same data alone, wherever these lie then. The hosts of one run compare it before they start.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cvjax.data.dataset import Dataset

_SHOWN = 12  # How many class names a message lists.
MOST_FILES = 100_000
"""Number of files whose sizes are read, some seconds' worth; of larger sets, as many that are spread evenly."""

_PLACES = ("manual_dir", "proposals_from", "split_file")  # of a run's record: where the data lie


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


def fingerprint_of(paths: Sequence[str | os.PathLike[str]], **options: Any) -> str:
    """Returns the digest of the files of a data set and of what else its records come from.

    Args:
      paths: Paths of the files, in the order of the records. Where they lie does not count, their names below a common
        folder do, and their sizes. Files that are not there count as such.
      **options: What else decides the records, as values that JSON knows: ids in their order, labels.
    """
    chosen = [os.path.abspath(path) for path in paths]
    if len(chosen) > MOST_FILES:
        chosen = [chosen[place] for place in np.linspace(0, len(chosen) - 1, MOST_FILES).round().astype(int)]
    root = os.path.commonpath([os.path.dirname(path) for path in chosen]) if chosen else ""
    try:
        return digest_of_files(pathlib.Path(root), chosen, times=False, **options)
    except OSError:
        present = [path for path in chosen if os.path.exists(path)]
        missing = len(chosen) - len(present)
        return digest_of_files(pathlib.Path(root), present, times=False, missing=missing, **options)


def digest_of_arrays(*arrays: np.ndarray) -> str:
    """Returns a digest of arrays' shapes, types and values, as an option of `fingerprint_of`."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def identity_of(source: "Dataset") -> dict[str, Any]:
    """Returns what a run records of a data set, as JSON holds it: names of classes, void labels and fingerprint.

    The answer is kept on the data set.
    """
    known = getattr(source, "_identity", None)
    if known is None:
        known = {
            "class_names": list(source.class_names),
            "void": list(source.void),
            "content": source.fingerprint(),
        }
        source._identity = known  # type: ignore[attr-defined]
    return known


def data_differences(
    before: Mapping[str, Any], now: Mapping[str, Any], names: tuple[Sequence[str], Sequence[str]] = ((), ())
) -> list[str]:
    """Compares the record of a run's data with that of another, and returns what differs, in words.

    With fingerprints in both (`identity_of`, under "identity") the data's places do not count. Records of runs before
    0.2 have none; there, places are compared as paths, and the names of the classes as given here.

    Args:
      before: Record as a checkpoint has it.
      now: Record of the data at hand.
      names: Names of the classes of either, for a record without a fingerprint; empty where they are unknown.
    """
    then, here = before.get("identity"), now.get("identity")
    if then and here:
        old_names, new_names = then["class_names"], here["class_names"]
    else:
        old_names, new_names = map(list, names)
    differences = []
    for key in sorted({*before, *now} - {"identity"}):
        old, new = before.get(key), now.get(key)
        if key in _PLACES and ((then and here) or _place(old) == _place(new)):
            continue
        if old != new:
            differences.append(f"{key} was {old} and is {new}")
    if old_names and new_names and list(old_names) != list(new_names):
        gone, new = ([n for n in a if n not in b] for a, b in ((old_names, new_names), (new_names, old_names)))
        lists = (gone, new) if gone and new else (old_names, new_names)
        differences.append("the classes were {} and are {}".format(*map(listed, lists)))
    elif then and here and not differences and then != here:
        differences.append(
            f"void was {then['void']} and is {here['void']}"
            if then["void"] != here["void"]
            else "as many examples of the same classes, but the files' names, order or sizes are others"
        )
    return differences


def listed(names: Sequence[str]) -> str:
    """Returns names as a message lists them: all of a few, the first of many with the number of the others."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _place(path: str | None) -> str | None:
    return None if path is None else os.path.realpath(os.path.expanduser(path))
