"""This module prepares `scenes` on disk: once, whole or not at all, even if many processes ask at the same time."""

import concurrent.futures
import contextlib
import io
import logging
import multiprocessing
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Mapping
from functools import partial

import cv2
import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cvjax.datasets.prepared import remove_stale
from cvjax.datasets.scenes import render
from cvjax.datasets.scenes.builder import Encode, Scenes, serial
from cvjax.errors import DataError
from cvjax.files import locked
from cvjax.runtime.children import deaf_children, end_with_parent
from cvjax.runtime.host_memory import keep_host_memory

_CHUNK = 8  # examples that a worker takes at once


def prepare_scenes(
    data_dir: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool = True,
    sizes: Mapping[str, int] | None = None,
) -> Scenes:
    """Returns the builder of `scenes`, and prepares the dataset below `data_dir` if it is not there yet.

    The dataset is written to a folder of this process's own and then renamed into place. So an interrupted preparation
    leaves nothing that could be taken for a dataset. If several processes ask at once, one draws and the others wait
    and use its files. On a disk without locks all draw, the first to end wins, and the others use its files.

    Args:
      data_dir: Folder of prepared datasets; created if missing. The dataset lies in `scenes/<version>` below it.
      workers: Number of processes that draw; None for one per core, 0 to draw in this process.
      progress: Whether to show a progress bar on the terminal.
      sizes: Number of examples of each split, for tests; None for the real dataset.

    Returns:
      The builder, ready for `as_data_source`.

    Raises:
      DataError: `data_dir` holds the dataset with other sizes, or cannot be written to.
    """
    root = pathlib.Path(data_dir).expanduser()
    wanted = dict(render.SIZES if sizes is None else sizes)
    with _quiet():
        builder = Scenes(data_dir=root, sizes=wanted)
        place = pathlib.Path(builder.data_dir)
        if not _is_ready(builder):
            try:
                with locked(root / ".scenes.lock", "drawing the scenes"):
                    if not _is_ready(Scenes(data_dir=root, sizes=wanted)):
                        _write(root, place, os.cpu_count() or 1 if workers is None else workers, wanted, progress)
            except PermissionError as error:
                raise DataError(f"cannot write the set `scenes` to {root}: name a folder that is yours") from error
            builder = Scenes(data_dir=root, sizes=wanted)
    found = {name: split.num_examples for name, split in builder.info.splits.items()}
    if found != wanted:
        raise DataError(f"{place} holds splits {found} where {wanted} is wanted: remove it or name another folder")
    return builder


def _is_ready(builder: Scenes) -> bool:
    """Returns whether the builder found its files: then it has read their splits."""
    return bool(builder.info.splits)


def _write(root: pathlib.Path, place: pathlib.Path, workers: int, sizes: dict[str, int], progress: bool) -> None:
    """Prepares in a private folder, then renames it into `place`. A process that comes second throws its own away."""
    root.mkdir(parents=True, exist_ok=True)
    remove_stale(root, ".scenes-*")
    private = root / f".scenes-{uuid.uuid4().hex}"
    try:
        with _bar(sum(sizes.values()), progress) as tick, _drawers(workers) as encode:
            made = Scenes(data_dir=private, sizes=sizes, encode=encode, tick=tick)
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints, whatever the level of its logger
                made.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(made.data_dir, place)
        except OSError:
            # A folder is never renamed over one that holds files: somebody else was first.
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(private, ignore_errors=True)


@contextlib.contextmanager
def _drawers(workers: int) -> Iterator[Encode]:
    """Starts processes that draw examples, and yields the function that gives the examples in order.

    With 0 workers it draws in this process.

    The processes are spawned, never forked: the caller may hold JAX's threads. As always with spawning, a script that
    gets here needs its `if __name__ == "__main__":`.
    """
    if workers == 0:
        yield serial
        return
    # An executor, since a `multiprocessing.Pool` whose workers cannot start (a script without that line) would
    # start new ones for ever.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, _set_up_worker) as pool:

        def encode(split: str, size: int) -> Iterator:
            with deaf_children():  # The pool starts its processes with the first work.
                return pool.map(partial(render.encode, split), range(size), chunksize=_CHUNK)

        try:
            yield encode
        except concurrent.futures.process.BrokenProcessPool as error:
            raise DataError(
                "the processes that draw the scenes could not start; put your script's code under"
                ' `if __name__ == "__main__":`, or run `cvjax data prepare scenes` first'
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _set_up_worker() -> None:
    """Sets up a worker. Workers fill the cores, so OpenCV starts no threads."""
    end_with_parent()
    keep_host_memory()  # drawing allocates and frees canvases: a seventh of its time went into page faults
    cv2.setNumThreads(1)


class _Rate(ProgressColumn):
    """Shows examples per second."""

    def render(self, task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.0f} images/s")


@contextlib.contextmanager
def _bar(total: int, show: bool) -> Iterator:
    """Shows a progress bar; yields the function that moves it on by one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, disable=not show) as bar:
        task = bar.add_task("drawing scenes", total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's own bars and messages off the terminal, and puts its settings back afterwards."""
    loggers = [logging.getLogger("absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with _no_tfds_bars():
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


@contextlib.contextmanager
def _no_tfds_bars() -> Iterator[None]:
    from tensorflow_datasets.core.utils import tqdm_utils

    shown = tqdm_utils._active
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            tfds.enable_progress_bar()
