"""Keeps checkpoints at URLs.

Orbax writes to Google's store itself (`gs://`), also from several hosts. To any other store it cannot write: there it
writes into a temporary folder of this machine, from which each step goes up when it is whole, its list last. All
stores are read through copies on the local disk.

A step in a store is complete once its list is there (Orbax's own mark tells the same at gs://), because stores cannot
rename a folder.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cvjax.engine.checkpoint.digests import LIST, MARK, listed_sizes
from cvjax.errors import CheckpointError
from cvjax.files import copy_of
from cvjax.storage import AnyPath, UrlPath, copy_folder, is_remote, put_folder


def is_native(directory: AnyPath) -> bool:
    """Returns whether Orbax itself writes to a place at a URL."""
    return is_remote(directory) and directory.scheme == "gs"


def is_staged(directory: AnyPath) -> bool:
    """Returns whether steps are written to the local disk and then copied up."""
    return is_remote(directory) and not is_native(directory)


def steps_in(directory: UrlPath) -> dict[int, bool]:
    """Returns the steps in a store's folder of checkpoints, and whether each is complete."""
    found: dict[int, bool] = {}
    for name in directory.files_below():
        step, _, file = name.partition("/")
        if step.isascii() and step.isdigit():
            found[int(step)] = found.get(int(step), False) or file in (LIST, MARK)
    return dict(sorted(found.items()))


def mark_complete(directory: UrlPath) -> None:
    """Gives whole steps the mark without which Orbax takes them for half-written ones, and removes them.

    A run that was copied to the store from a disk has none, nor has one that was killed between list and mark.
    """
    files = directory.files_below()
    for step, complete in steps_in(directory).items():
        if complete and f"{step}/{MARK}" not in files:
            listed = listed_sizes(directory / str(step))
            if listed and all(f"{step}/{name}" in files for name in listed):
                (directory / str(step) / MARK).write_bytes(b"")


def put_step(source: pathlib.Path, place: UrlPath) -> None:
    """Copies a step up, its list last; what a killed run has left there is removed first."""
    place.rmtree(missing_ok=True)
    put_folder(source, place, last=LIST)


def prune(directory: UrlPath, scores: Mapping[int, float | None], keep: int) -> None:
    """Removes all steps but the latest and the best from a store, half-written ones too.

    Args:
      directory: Folder of checkpoints.
      scores: Score of each complete step, None where it has none.
      keep: Number of latest steps that stay.
    """
    stay = set(sorted(scores)[-keep:])
    known = {step: score for step, score in scores.items() if score is not None and score == score}
    if known:
        stay.add(max(known, key=lambda step: (known[step], step)))
    for step in steps_in(directory):
        if step not in stay:
            place = directory / str(step)
            (place / LIST).unlink(missing_ok=True)
            place.rmtree(missing_ok=True)


def copied_for_inference(place: AnyPath, *items: str) -> pathlib.Path:
    """Returns a local copy of a step in the user's cache: of some items, or of all that inference needs.

    Raises:
      CheckpointError: It cannot be read.
    """
    if not is_remote(place):
        return place
    target = copy_of(str(place))

    def wanted(name: str) -> bool:
        item = name.partition("/")[0]
        return item == LIST or (item in items if items else item != "optimizer")

    with told(place):
        copy_folder(place, target, wanted)
    return target


@contextlib.contextmanager
def local_step(place: AnyPath) -> Iterator[pathlib.Path]:
    """Yields a step's folder, or, of one at a URL, a copy of all of it, which is removed again.

    Raises:
      CheckpointError: It cannot be read.
    """
    if not is_remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="cvjax-") as folder:
        target = pathlib.Path(folder) / place.name
        with told(place):
            copy_folder(place, target)
        with named(target, place):
            yield target


@contextlib.contextmanager
def named(copy: pathlib.Path, place: AnyPath) -> Iterator[None]:
    """Makes the errors in the body name the place at a URL, and not its local copy."""
    try:
        yield
    except CheckpointError as error:
        if str(copy) not in str(error):
            raise
        raise type(error)(str(error).replace(str(copy), str(place))) from error


@contextlib.contextmanager
def told(place: AnyPath) -> Iterator[None]:
    """Makes a CheckpointError of an OSError in the body."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(
            f"{place} cannot be read ({reason}); check the address, your permissions and the room on the disk"
        ) from error


def latest_scores(directory: UrlPath, read: Callable[[AnyPath], Mapping[str, Any]]) -> dict[int, float | None]:
    """Returns the score of each complete step by the metric that its run recorded.

    Args:
      directory: Folder of checkpoints.
      read: Function that reads a step's metadata.
    """
    scores: dict[int, float | None] = {}
    for step, complete in steps_in(directory).items():
        if complete:
            scores[step] = None
            with contextlib.suppress(CheckpointError):  # it is damaged, and so never the best
                metadata = read(directory / str(step))
                scores[step] = (metadata.get("scores") or {}).get(metadata.get("metric"))
    return scores
