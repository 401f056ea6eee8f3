"""Tells whether a checkpoint is as it was written: a list of its files, with the size and digest of each.

The list is written into the folder of a step before that folder gets its name. So each complete checkpoint has one.
Checkpoints of version 0.1 have none, and are taken as they are.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator

from cvjax.errors import CheckpointError
from cvjax.files import write_json
from cvjax.storage import AnyPath, is_remote

LIST = "files.json"
"""Name of the list in the folder of a step."""
MARK = "commit_success.txt"
"""File that Orbax adds where a file system cannot rename folders. It tells nothing, and may come after the list."""
_BLOCK = 1 << 22


class DamagedError(CheckpointError):
    """Reports a checkpoint whose files are not as they were written."""


def write_list(place: AnyPath) -> None:
    """Writes the list of all files of a step's items, such as `variables` and `info`.

    In a store it has no digests, because that would be reading all files again; stores keep checksums of their own.

    Raises:
      OSError: A file cannot be read, or the list not written.
    """
    if is_remote(place):
        found = place.files_below()
        listed = {name: [file.size, ""] for name, file in found.items() if "/" in name and not name.endswith(MARK)}
        write_json(place / LIST, {"files": listed, "digest": _of_list(listed)})
        return
    files = {
        path.relative_to(place).as_posix(): [path.stat().st_size, _digest(path)]
        for item in sorted(place.iterdir())
        if item.is_dir()
        for path in _files(item)
    }
    write_json(place / LIST, {"files": files, "digest": _of_list(files)})


def check_files(place: pathlib.Path, items: Iterable[str]) -> None:
    """Checks the files of some items of a step against its list; without a list it checks nothing.

    Args:
      place: Folder of the step.
      items: Names of the items that will be read, such as `info`.

    Raises:
      DamagedError: A file is missing, or holds something else than what was written; the message names it.
    """
    listed = _read_list(place)
    if listed is None:
        return
    for item in items:
        for name, (size, digest) in listed.items():
            if name.startswith(f"{item}/"):
                wrong = _wrong(place / name, size, digest)
                if wrong is not None:
                    raise damaged(place, f"{name} {wrong}")


def damaged(place: pathlib.Path, what: str) -> DamagedError:
    """Returns the error for a checkpoint: which of its files is wrong, and how."""
    return DamagedError(
        f"the checkpoint {place} is damaged: {what}; put the file back from a copy, or take another step"
    )


def listed_sizes(place: AnyPath) -> dict[str, int]:
    """Returns the sizes of the files that a step was written with; none where there is no list that can be read.

    Raises:
      OSError: The store cannot be reached.
    """
    try:
        found = json.loads((place / LIST).read_bytes())["files"]
        return {name: int(size) for name, (size, _) in found.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def listed_items(place: pathlib.Path) -> set[str]:
    """Returns the names of the items that a step was written with, as far as its list tells."""
    return {name.partition("/")[0] for name in _read_list(place) or {}}


def _wrong(path: pathlib.Path, size: int, digest: str) -> str | None:
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found} bytes instead of {size}"
        return None if not digest or _digest(path) == digest else "holds other bytes than were written"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _read_list(place: pathlib.Path) -> dict[str, list] | None:
    try:
        found = json.loads((place / LIST).read_bytes())
        if found["digest"] != _of_list(found["files"]):
            raise damaged(place, f"{LIST} holds other bytes than were written")
        return found["files"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise damaged(place, f"{LIST} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DamagedError):
            raise
        raise damaged(place, f"{LIST} is no list of files") from error


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    # os.walk and not glob: no part of a path is taken for a pattern.
    for root, _, names in sorted(os.walk(folder)):
        yield from (pathlib.Path(root) / name for name in sorted(names) if name != MARK)


def _digest(path: pathlib.Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _of_list(files: dict[str, list]) -> str:
    return hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=16).hexdigest()
