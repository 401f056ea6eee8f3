"""Counts the pixels of each class in all masks of a split, once: the result is kept on disk with the files' digest."""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.data.decode import IGNORE, check_sizes, decode_mask, fit_mask, image_size
from cvjax.data.identity import digest_of_files
from cvjax.errors import DataError
from cvjax.files import replacing

_FOLDER = "mask_counts"
_VERSION = 1
"""Raised whenever the same masks would be counted differently."""
_SHOW_FROM = 1000  # so many pictures take seconds, and a bar is shown

Result = TypeVar("Result")


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

    histograms, damaged = [], 0
    for found in in_threads(histogram, len(source), "Reading masks"):
        if isinstance(found, DataError):
            if not skip:
                raise found
            damaged += 1
            continue
        histograms.append(found)
    return sum_masks(histograms, num_classes, damaged)


def sum_masks(histograms: Iterable[np.ndarray], num_classes: int, damaged: int = 0) -> MaskCounts:
    """Sums up what is in the masks of a split.

    Args:
      histograms: Number of pixels of each label of each mask, int [256].
      num_classes: Number of classes.
      damaged: Number of records that could not be read.
    """
    masks, total = 0, 0
    pixels, beside = np.zeros((2, IGNORE + 1), np.int64)
    for histogram in histograms:
        masks += 1
        pixels += histogram
        beside += np.where(histogram > 0, histogram.sum(), 0)
        total += int(histogram.sum())
    return MaskCounts(
        masks=masks,
        damaged=damaged,
        pixels=tuple(pixels[:num_classes].tolist()),
        beside=tuple(beside[:num_classes].tolist()),
        ignored=int(pixels[IGNORE]),
        total=total,
    )


def in_threads(work: Callable[[int], Result], count: int, description: str) -> Iterator[Result]:
    """Yields the results for the indices in their order, with a bar if there are many; decoding leaves Python's lock.

    Args:
      work: Function from an index to its result, which opens files at its first call and is safe in threads then.
      count: Number of indices.
      description: Text beside the bar.
    """
    from rich.console import Console
    from rich.progress import Progress

    if count:
        yield work(0)  # opens the files, before threads ask for them
    with (
        Progress(console=Console(stderr=True), transient=True, disable=count < _SHOW_FROM) as bar,
        concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
    ):
        try:
            yield from bar.track(pool.map(work, range(1, count)), total=count, completed=1, description=description)
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
