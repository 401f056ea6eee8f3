"""Computes the proposals of a whole split once and keeps them on disk.

A set lies in `DATA_DIR/proposals/DATASET/SPLIT/MODE-KEY`, where the key stands for all parameters and for the images:
other files, or the same in another folder, have a set of their own. It holds these files:

- `boxes.npy`, float32 [total, 4], the boxes of all images.
- `ends.npy`, int64 [images], the index at which each image's boxes end.
- `ids.json`, the images' ids.
- `config.json`, the parameters or another origin of the boxes, and `images`, a digest of the images.

Boxes are mapped, not read, so that all processes that load share them. A set is renamed into place when it is whole, so
a set that can be found is whole.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from cvjax.data.dataset import Dataset, Record
from cvjax.data.decode import decode_image
from cvjax.data.identity import fingerprint_of
from cvjax.datasets.proposals.boxes import ProposalConfig, check_installed, propose
from cvjax.datasets.proposals.earlier import are_proposals_of
from cvjax.datasets.proposals.identity import digest_of_source, folder_of_key, proposal_folder
from cvjax.errors import DataError
from cvjax.files import locked
from cvjax.runtime.children import deaf_children, end_with_parent

WHOLE = "config.json"
"""File of a set that goes up to a store last."""


class ProposalSet:
    """Holds the proposals of a split, one array per image, in the order of its dataset.

    It pickles. It maps its file when it is first read.

    Args:
      folder: Folder of the set.

    Attributes:
      ids: Ids of the images.
      images: Digest of the images, see `digest_of_source`; None for a set that has none.

    Raises:
      DataError: The folder holds no set.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._boxes: np.ndarray | None = None
        try:
            self._ends = np.load(folder / "ends.npy")
            self.ids: tuple[str, ...] = tuple(json.loads((folder / "ids.json").read_text()))
            self.images: str | None = json.loads((folder / WHOLE).read_text()).get("images")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder}: proposals cannot be read ({error}); remove the folder and propose again"
            ) from error

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the boxes of an image, float32 [N, 4], in pixels of the image as the dataset stores it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        boxes = self._boxes
        if boxes is None:
            boxes = self._boxes = np.load(self.folder / "boxes.npy", mmap_mode="r")
        return np.array(boxes[self._ends[index - 1] if index else 0 : self._ends[index]])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_boxes": None}


class ProposedDataset:
    """Adds proposals to the records of a dataset; it pickles.

    Args:
      source: Dataset to add them to.
      proposals: Proposals of the same split.
    """

    def __init__(self, source: Dataset, proposals: ProposalSet) -> None:
        self.source, self.proposals = source, proposals
        self.name, self.split = source.name, source.split
        self.class_names, self.void = source.class_names, source.void

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        return {**self.source[index], "proposals": self.proposals[index]}

    def fingerprint(self) -> str:
        """Returns the digest of the dataset's fingerprint and of the proposals' files."""
        files = [self.proposals.folder / name for name in ("boxes.npy", "ends.npy", "ids.json")]
        return fingerprint_of(files, of=self.source.fingerprint())


def _earlier(source: Dataset, config: ProposalConfig, data_dir: str | os.PathLike[str] | None) -> ProposalSet | None:
    """Finds a set whose key stands for the parameters alone, if its boxes are of these images."""
    folder = folder_of_key(source, config, data_dir)
    try:
        found, made = ProposalSet(folder), os.path.getmtime(folder / "boxes.npy")
    except (DataError, OSError):
        return None
    boxes = [found[index] for index in range(len(found))]
    return found if are_proposals_of(source, config, found.ids, boxes, made) else None


def open_proposals(
    source: Dataset, config: ProposalConfig, data_dir: str | os.PathLike[str] | None = None
) -> ProposalSet:
    """Opens the proposals that were prepared for a dataset.

    Raises:
      DataError: There are none for these images with these parameters.
    """
    folder = proposal_folder(source, config, data_dir)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there are no such proposals of these images; cvjax data propose {source.name} --split"
            f" {source.split} --mode {config.mode} --limit {config.limit} makes them"
        )
    return ProposalSet(folder)


def prepare_proposals(
    source: Dataset,
    config: ProposalConfig,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> ProposalSet:
    """Proposes boxes for every image of a dataset, unless that has been done.

    The set is written to a private folder of this process and renamed into place, so that half a set is never found.

    Args:
      source: Any dataset of images.
      config: Method and limits, see `ProposalConfig`.
      data_dir: Folder of prepared sets; by default `default_data_dir()`.
      workers: Number of processes; None for one per core, 0 for this process alone. They are spawned, so a script that
        gets here needs its `if __name__ == "__main__":`.
      overwrite: Whether to do it again.
      progress: Whether to show a bar on the terminal.

    Raises:
      ConfigError: The mode's package is missing.
      DataError: An image cannot be read, or the workers cannot start.
    """
    folder = proposal_folder(source, config, data_dir)
    if overwrite or not folder.is_dir():
        with locked(folder.with_name(f".{folder.name}.lock"), f"proposing boxes for {source.name}"):
            if overwrite or not folder.is_dir():  # as another process may have made them in between
                _make(folder, source, config, data_dir, workers, overwrite, progress)
    return ProposalSet(folder)


def _make(
    folder: pathlib.Path,
    source: Dataset,
    config: ProposalConfig,
    data_dir: str | os.PathLike[str] | None,
    workers: int | None,
    overwrite: bool,
    progress: bool,
) -> None:
    """Writes the set of `prepare_proposals` to its folder."""
    origin = dataclasses.asdict(config) | {"images": digest_of_source(source, here=False)}
    earlier = None if overwrite else _earlier(source, config, data_dir)
    if earlier is not None:
        write_proposals(folder, earlier.ids, [earlier[index] for index in range(len(earlier))], origin)
        return
    check_installed(config)
    count = os.cpu_count() or 1 if workers is None else workers
    ids, boxes = [], []
    for key, found in _bar(_all(source, config, count), len(source), progress):
        ids.append(key)
        boxes.append(found)
    write_proposals(folder, ids, boxes, origin, overwrite=overwrite)


def write_proposals(
    folder: pathlib.Path,
    ids: Sequence[str],
    boxes: Sequence[np.ndarray],
    origin: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> ProposalSet:
    """Writes a set; unless asked to overwrite, one that is there already stays.

    Args:
      folder: Folder of the set.
      ids: Ids of the images, in the order of their dataset.
      boxes: Boxes of each image, float32 [N, 4], best first where there is an order.
      origin: Origin of the boxes, written to `config.json`.
      overwrite: Whether to replace a set that is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    private = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    try:
        private.mkdir()
        np.save(private / "boxes.npy", np.concatenate([np.zeros((0, 4), np.float32), *boxes]))
        np.save(private / "ends.npy", np.cumsum([len(found) for found in boxes], dtype=np.int64))
        (private / "ids.json").write_text(json.dumps(list(ids)))
        (private / WHOLE).write_text(json.dumps(dict(origin), indent=2) + "\n")
        if overwrite:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            private.rename(folder)
        except OSError:
            # A folder is never renamed over one that holds files: somebody else was first.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return ProposalSet(folder)


def attach(source: Dataset, proposals: ProposalSet) -> ProposedDataset:
    """Returns the dataset with a set's boxes in its records.

    Raises:
      DataError: The set has another number of images, or is of other images.
    """
    what = f"{source.name}/{source.split}"
    if len(proposals) != len(source):
        raise DataError(
            f"{proposals.folder} has proposals of {len(proposals)} images and {what} has {len(source)}; make them anew"
        )
    if proposals.images is not None and proposals.images != digest_of_source(source, here=False):
        raise DataError(
            f"{proposals.folder}: these are proposals of other images than those of {what}; make them anew, or name the"
            " folder of the right ones with --input.proposals-from."
        )
    return ProposedDataset(source, proposals)


def _all(source: Dataset, config: ProposalConfig, workers: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields ids and boxes in the order of the dataset, with any number of workers."""
    if not workers:
        _set_up(source, config)
        yield from map(_of_image, range(len(source)))
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, _set_up_worker, (source, config)) as pool:
        try:
            with deaf_children():  # The pool starts its processes with the first work.
                found = pool.map(_of_image, range(len(source)), chunksize=4)
            yield from found
        except concurrent.futures.process.BrokenProcessPool as error:
            raise DataError(
                "the processes that propose boxes could not start, or were ended; put your script's code under"
                ' `if __name__ == "__main__":`, or run `cvjax data propose`'
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# Set once in each process, so that the tasks of the pool carry an index alone.
_work: tuple[Dataset, ProposalConfig]


def _set_up(source: Dataset, config: ProposalConfig) -> None:
    global _work
    _work = source, config


def _set_up_worker(source: Dataset, config: ProposalConfig) -> None:
    """Sets up a worker process. Workers fill the cores, so OpenCV starts no threads of its own."""
    end_with_parent()
    cv2.setNumThreads(1)
    _set_up(source, config)


def _of_image(index: int) -> tuple[str, np.ndarray]:
    source, config = _work
    record = source[index]
    return record["id"], propose(decode_image(record["image"], record["id"]), config)


def _bar(items: Iterator[tuple[str, np.ndarray]], total: int, show: bool) -> Iterator[tuple[str, np.ndarray]]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, "proposing boxes", total, console=Console(stderr=True), disable=not show)
