"""Tells which images a set of proposals belongs to, and where it lies."""

import dataclasses
import hashlib
import json
import os
import pathlib

from cvjax.data.dataset import Dataset
from cvjax.data.identity import digest_of_files
from cvjax.datasets.proposals.boxes import ProposalConfig
from cvjax.errors import DataError
from cvjax.storage import checked_url, data_folder

_VERSION = 1
"""Raised whenever the same parameters would give other boxes."""


def files_of(source: Dataset) -> list[str] | None:
    """Returns the absolute paths of the files that a dataset reads its images from; None where it names none."""
    files = getattr(source, "image_files", lambda: None)()
    return None if files is None else [os.path.abspath(path) for path in files]


def digest_of_source(source: Dataset, *, here: bool) -> str:
    """Returns a digest of a dataset's images and their order, see `digest_of_files`.

    Args:
      source: Dataset whose method `image_files` names its files. Of one without files all records are read, and their
        content counts.
      here: Whether the folder and the times of the last changes count too: two folders are then never the same, and a
        changed file is noticed even if it keeps its size. Without them a copy has the digest of its original.

    Raises:
      DataError: A file or a record cannot be read.
    """
    files = files_of(source)
    options = {"name": source.name, "split": source.split, "count": len(source)}
    if not files:
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for index in range(len(source)):
            record = source[index]
            digest.update(json.dumps([record["id"], hashlib.sha256(record["image"]).hexdigest()]).encode())
        return digest.hexdigest()[:16]
    root = os.path.commonpath([os.path.dirname(path) for path in files])
    options["order"] = [os.path.relpath(path, root) for path in files]
    if here:
        options["folder"] = os.path.realpath(root)
    try:
        return digest_of_files(pathlib.Path(root), files, times=here, **options)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); restore the file.") from error


def proposal_folder(
    source: Dataset, config: ProposalConfig, data_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path:
    """Returns the folder for the proposals of these images with these parameters; it need not exist.

    Of images in the local copy of a store's data folder, neither the copy's place nor its times count, so that all
    machines find the same set.
    """
    return folder_of_key(source, config, data_dir, digest_of_source(source, here=not _are_copies(source, data_dir)))


def _are_copies(source: Dataset, data_dir: str | os.PathLike[str] | None) -> bool:
    files, root = files_of(source), data_folder(data_dir)
    is_copy = checked_url(data_dir or os.environ.get("CVJAX_DATA_DIR")) is not None
    return is_copy and all(pathlib.Path(path).is_relative_to(root.absolute()) for path in files or ())


def folder_of_key(
    source: Dataset, config: ProposalConfig, data_dir: str | os.PathLike[str] | None, *images: str
) -> pathlib.Path:
    """Returns the folder whose key stands for the parameters, and for the images if their digest is given."""
    root = data_folder(data_dir, f"proposals/{source.name}/{source.split}")
    stands_for = json.dumps([_VERSION, dataclasses.asdict(config), *images], sort_keys=True)
    key = hashlib.sha256(stands_for.encode()).hexdigest()[:12]
    return root / "proposals" / source.name / source.split / f"{config.mode}-{key}"
