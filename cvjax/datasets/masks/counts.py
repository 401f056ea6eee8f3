"""Counts the pixels of each class in all masks of a split, once: the result is kept on disk with the files' digest."""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.data.decode import IGNORE, check_sizes, decode_mask, fit_mask, image_size
from cvjax.data.identity import digest_of_files
from cvjax.errors import DataError
from cvjax.files import replacing

_FOLDER = "mask_counts"
_VERSION = 1
"""Raised whenever the same masks would be counted differently."""
_SHOW_FROM = 1000  # so many masks take seconds, and a bar is shown


@dataclasses.dataclass(frozen=True)
class MaskCounts:
    """Holds what is in the masks of a split.

    Attributes:
      masks: Number of masks that were read.
      damaged: Number of records that could not be read, if these are passed over.
      pixels: Number of pixels of each class.
      beside: Number of pixels, of whatever label, in all masks in which a class occurs, for each class.
      ignored: Number of pixels that are ignored.
      total: Number of all pixels.
    """

    masks: int
    damaged: int
    pixels: tuple[int, ...]
    beside: tuple[int, ...]
    ignored: int
    total: int


def count_masks(
    source: Dataset,
    num_classes: int,
    void: tuple[int, ...] = (),
    *,
    data_dir: pathlib.Path | None = None,
    skip: bool = False,
) -> MaskCounts:
    """Counts the pixels of each class in all masks; images are looked at for their size alone.

    Args:
      source: Dataset with masks.
      num_classes: Number of classes.
      void: Labels that mean "ignored".
      data_dir: Folder of prepared sets, where the result is kept and found by the next start; None keeps nothing.
      skip: Whether damaged records are counted and passed over.

    Raises:
      DataError: A record is damaged, holds a label that is no class, or is a mask of another size than its image.
    """
    place = _place(source, num_classes, void, data_dir)
    known = _read(place)
    if known is not None and (skip or not known.damaged):
        return known
    found = _count(source, num_classes, void, skip)
    if place is not None:
        with contextlib.suppress(OSError), replacing(place) as partial:  # a folder that is only read is counted again
            partial.write_text(json.dumps(dataclasses.asdict(found)) + "\n")
    return found


def _count(source: Dataset, num_classes: int, void: tuple[int, ...], skip: bool) -> MaskCounts:
    pairs = getattr(source, "pairs", None)  # of files

    def histogram(index: int) -> np.ndarray | DataError:
        try:
            record = cast(Mapping[str, Any], source[index])
            name = str(record["id"]) if pairs is None else pairs[index][2]
            mask = decode_mask(record["mask"], name, num_classes, void)
            size = image_size(record["image"], str(record["id"]))
            check_sizes(name, fit_mask(mask, record["image"], size).shape, size)
        except DataError as error:
            return error
        return np.bincount(mask.ravel(), minlength=IGNORE + 1)

    pixels, beside, total = np.zeros(IGNORE + 1, np.int64), np.zeros(IGNORE + 1, np.int64), 0
    damaged = 0
    for found in _in_threads(histogram, len(source)):
        if isinstance(found, DataError):
            if not skip:
                raise found
            damaged += 1
            continue
        pixels += found
        beside += np.where(found > 0, found.sum(), 0)
        total += int(found.sum())
    return MaskCounts(
        masks=len(source) - damaged,
        damaged=damaged,
        pixels=tuple(pixels[:num_classes].tolist()),
        beside=tuple(beside[:num_classes].tolist()),
        ignored=int(pixels[IGNORE]),
        total=total,
    )


def _in_threads(work: Any, count: int) -> Iterator[np.ndarray | DataError]:
    """Yields the results for the indices in their order; decoding leaves Python's lock."""
    from rich.console import Console
    from rich.progress import Progress

    if count:
        yield work(0)  # opens the files, before threads ask for them
    with (
        Progress(console=Console(stderr=True), transient=True, disable=count < _SHOW_FROM) as bar,
        concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
    ):
        try:
            yield from bar.track(pool.map(work, range(1, count)), total=count, completed=1, description="Reading masks")
        finally:
            pool.shutdown(cancel_futures=True)


def _place(
    source: Dataset, num_classes: int, void: tuple[int, ...], data_dir: pathlib.Path | None
) -> pathlib.Path | None:
    """Returns the file of the counts, named after the digest of what is counted; None where that has no files."""
    files = getattr(source, "files", None)
    if data_dir is None or files is None:
        return None
    paths = files()
    try:
        root = pathlib.Path(os.path.commonpath([os.path.dirname(path) for path in paths]))
        digest = digest_of_files(
            root,
            paths,
            times=True,
            version=_VERSION,
            split=[source.split, len(source)],
            classes=num_classes,
            void=void,
            labels=getattr(source, "labels", None),
        )
    except (OSError, ValueError):  # a file is absent, which reading it reports
        return None
    return data_dir / _FOLDER / f"{source.name}-{digest}.json"


def _read(place: pathlib.Path | None) -> MaskCounts | None:
    if place is None:
        return None
    try:
        stored = json.loads(place.read_text())
        return MaskCounts(**{**stored, "pixels": tuple(stored["pixels"]), "beside": tuple(stored["beside"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
