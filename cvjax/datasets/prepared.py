"""Finds the data sets that were prepared on disk, by their names or by the content that they were made from.

A set of ours keeps `content.json` beside TFDS's files: the digest of the files and options that it was made from, and
what was left out on the way.
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator

from cvjax.data.dataset import PREPARED_VERSION, prepared_dir
from cvjax.errors import DataError
from cvjax.files import locked

_FILE = "content.json"
_STALE_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Content:
    """Says what a prepared set was made from.

    Attributes:
      digest: Digest of the files and options, see `cvjax.data.identity`.
      skipped: Messages of the damaged examples that were left out.
      dropped_boxes: Number of bad boxes that were left out.
    """

    digest: str
    skipped: tuple[str, ...] = ()
    dropped_boxes: int = 0


def read_content(place: pathlib.Path) -> Content | None:
    """Returns what the set in a version folder was made from; None where that is not known."""
    try:
        stored = json.loads((place / _FILE).read_text())
        return Content(stored["digest"], tuple(stored["skipped"]), int(stored["dropped_boxes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_content(place: pathlib.Path, content: Content) -> None:
    """Writes what the set in a version folder was made from."""
    (place / _FILE).write_text(json.dumps(dataclasses.asdict(content)) + "\n")


def is_prepared(place: pathlib.Path) -> bool:
    """Returns whether a version folder holds a whole prepared set."""
    return (place / "dataset_info.json").is_file()


def find_content(data_dir: pathlib.Path, name: str, digest: Callable[[], str]) -> pathlib.Path | None:
    """Returns the version folder of a set that was made from all of a content; None where there is none.

    Args:
      data_dir: TFDS's root folder.
      name: Name of the data set.
      digest: Function that computes the digest; it is called only if there are sets to compare with. What it cannot
        compute, because a file is damaged or absent, nothing was prepared from.
    """
    known = {place: read_content(place) for place in sorted((data_dir / name).glob(f"*/{PREPARED_VERSION}"))}
    whole = {place: content.digest for place, content in known.items() if content and not content.skipped}
    if whole:
        with contextlib.suppress(DataError, OSError):
            wanted = digest()
            return next((place for place, found in whole.items() if found == wanted and is_prepared(place)), None)
    return None


def choose_config(data_dir: pathlib.Path, name: str, config: str, digest: str | None, *, beside: bool) -> str:
    """Returns the configuration under which a content is, or is to be, prepared.

    Args:
      data_dir: TFDS's root folder.
      name: Name of the data set.
      config: Name that the set is to have.
      digest: Digest of the content; None where it is not compared.
      beside: Whether a set of other content stays, and a part of the digest is added to the name.
    """
    place = prepared_dir(data_dir, name, config)
    if not beside or digest is None or not is_prepared(place):
        return config
    content = read_content(place)
    return config if content and content.digest == digest else f"{config}-{digest[:8]}"


@contextlib.contextmanager
def preparing(data_dir: pathlib.Path, name: str) -> Iterator[None]:
    """Lets one process at a time prepare the set of a name below `data_dir`; others wait, and look again then.

    Raises:
      DataError: `data_dir` cannot be made or written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(data_dir / f".{name}.lock", f"preparing {name}"))
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{data_dir}: cannot be made or written to ({reason}); choose another data_dir.") from error
        yield


def made_from_other_files(place: pathlib.Path) -> DataError:
    """Returns the error of a prepared set that was not made from the files that the user names."""
    return DataError(
        f"{place}: was prepared from other files than those that you name; prepare it again with --overwrite, or name"
        " another --data-dir."
    )


def is_made_from(place: pathlib.Path, digest: str | None) -> bool:
    """Returns whether a prepared set was made from a content, as far as both are known."""
    content = read_content(place)
    return digest is None or content is None or content.digest in ("", digest)


def remove_stale(folder: pathlib.Path, pattern: str) -> None:
    """Removes folders that killed preparations have left, an hour after their last file was written."""
    for old in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            newest = max((path.stat().st_mtime for path in old.rglob("*")), default=old.stat().st_mtime)
            if time.time() - newest > _STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)


def newest_version(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the newest version folder that TFDS has prepared in a data set's folder; None where there is none."""
    return max((path.parent for path in folder.glob("*/dataset_info.json")), key=_version, default=None)


def find_config(data_dir: pathlib.Path, name: str, config: str | None) -> str:
    """Returns the prepared configuration of a user's own set: the one asked for, or the only one there is.

    Raises:
      DataError: The configuration is not there, or several are and none was asked for.
    """
    found = sorted(path.parts[-3] for path in (data_dir / name).glob("*/*/dataset_info.json"))
    if config is None and len(found) == 1:
        config = found[0]
    if config not in found:
        prepared = ", ".join(found) or "nothing"
        raise DataError(
            f"{name}: {config or 'no single data set'} is prepared in {data_dir} (there is {prepared}); "
            "name your folder with --input.manual-dir, or in Python a prepared one as config."
        )
    return config


def _version(place: pathlib.Path) -> tuple[int, ...]:
    return tuple(int(part) for part in place.name.split(".") if part.isdigit())
