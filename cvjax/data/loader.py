"""Loads batches that depend on (seed, epoch, index) and on nothing else.

Batch number k is a pure function of k. Worker processes, threads, hosts and restarts only change who computes it and
when. Grain carries it out: a batch is one element of a random-access data set, which Grain's threads or worker
processes read ahead in order.
"""

import collections
import contextlib
import dataclasses
import functools
import math
import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags
from grain.experimental import DatasetOptions, WithOptionsIterDataset

from cvjax.data.dataset import Dataset, Target
from cvjax.data.drawing.draws import Draws
from cvjax.data.order import ONE_HOST, Bucket, HostShard, even_parts, example_rng, shuffled_index
from cvjax.data.prefetch import prefetch_to_device
from cvjax.data.reader import Augment, Batch, Decode, PerBatch, Reader, ResizeAndPad
from cvjax.errors import ConfigError, DataError, UserError
from cvjax.runtime.children import deaf_children, end_with_parent

__all__ = [
    "Augment",
    "Batch",
    "BatchIterator",
    "Decode",
    "HostShard",
    "ResizeAndPad",
    "eval_batches",
    "eval_shapes",
    "prefetch_to_device",
    "train_batches",
]

# Arrays below this many bytes travel between processes by pickle: a shared-memory file each costs more.
_MIN_SHARED_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class _TrainBatches:
    """Gives random access to this host's share of every global training batch."""

    reader: Reader
    transform: Augment
    batch_size: int
    rows: range
    seed: int
    repeats: int
    draws: Draws | None = None

    def __len__(self) -> int:
        return sys.maxsize  # The stream is endless, and Grain asks for a length.

    def __getitem__(self, index: int) -> Batch:
        length = len(self.reader.source)
        transform = self.transform
        if isinstance(transform, PerBatch):
            transform = transform.for_batch(self.seed, index)
        batch: Batch = {}
        for row, global_row in enumerate(self.rows):
            epoch, position = divmod(index * self.batch_size + global_row, length)
            drawn, repeat = divmod(position, self.repeats)
            if self.draws is None:
                wanted = shuffled_index(drawn, length, self.seed, epoch)
            else:
                wanted, before = self.draws.at(drawn, self.seed, epoch)
                repeat += before * self.repeats  # each draw of an epoch is varied in its own way
            image, target, used, skipped = self.reader.read_first_good(wanted)
            image, target, *more = transform(image, target, example_rng(self.seed, epoch, used, repeat))
            if not batch:
                batch = self.reader.empty_batch(len(self.rows), image, target, *more)
            self.reader.fill(batch, row, image, target, *more)
            batch["index"][row], batch["valid"][row], batch["skipped"][row] = used, True, skipped
        return batch


@dataclasses.dataclass(frozen=True)
class _EvalBatches:
    """Gives random access to this host's share of every global evaluation batch."""

    reader: Reader
    transform: ResizeAndPad
    buckets: tuple[Bucket, ...]
    shard: HostShard
    shares: int

    def __len__(self) -> int:
        return len(self.buckets)

    def __getitem__(self, index: int) -> Batch:
        return self._batch(*self.buckets[index])

    def blanks(self) -> list[tuple[Batch, int]]:
        """Returns a batch without examples for each shape, in their order, and the number of batches of this shape."""
        counts = collections.Counter(size for size, _ in self.buckets)
        return [(self._batch(size, ()), count) for size, count in counts.items()]

    @functools.cached_property
    def _rows(self) -> dict[tuple[int, int], range]:
        """Returns this host's rows of a batch by its shape: all batches of a shape have as many, so one program."""
        most: dict[tuple[int, int], int] = {}
        for size, indices in self.buckets:
            most[size] = max(most.get(size, 1), len(indices))
        return {size: self.shard.rows(-(-count // self.shares) * self.shares) for size, count in most.items()}

    def _batch(self, size: tuple[int, int], indices: tuple[int, ...]) -> Batch:
        transform, rows = dataclasses.replace(self.transform, size=size), self._rows[size]
        blank, no_target, *nothing = transform.blank()
        batch = self.reader.empty_batch(len(rows), blank, no_target, *nothing)
        batch["size"] = np.zeros((len(rows), 2), np.int32)
        for row, global_row in enumerate(rows):
            inside = global_row < len(indices)
            example = self._read(indices[global_row]) if inside else None
            batch["index"][row] = indices[global_row] if inside else -1
            batch["valid"][row] = example is not None
            batch["skipped"][row] = inside and example is None
            if example is None:
                self.reader.fill(batch, row, blank, no_target, *nothing)
            else:
                image, target, batch["size"][row], *more = transform(*example)
                self.reader.fill(batch, row, image, target, *more)
        return batch

    def _read(self, index: int) -> tuple[np.ndarray, Any, str] | None:
        try:
            return self.reader.read(index)
        except DataError:
            if not self.reader.skip:
                raise
            return None


class BatchIterator(Iterator[Batch]):
    """Yields batches in order; `close()` (or leaving a `with` block) ends its threads and worker processes.

    An error that a record causes is raised here with its own type and message, also from a worker process. It ends the
    iteration.

    Args:
      dataset: Batches.
      processes: Whether worker processes make them.
    """

    def __init__(self, dataset: grain.IterDataset, *, processes: bool = False):
        self._starting = deaf_children if processes else contextlib.nullcontext
        with self._starting():
            self._held = [iter(dataset)]
        self._started = False
        # Also runs when this object is collected or the interpreter exits, whichever comes first.
        self._finalizer = weakref.finalize(self, _close, self._held)

    def __next__(self) -> Batch:
        if not self._held:
            raise StopIteration
        try:
            if self._started:
                return next(self._held[0])
            with self._starting():  # Grain starts all workers with the first batch.
                first = next(self._held[0])
            self._started = True
            return first
        except UserError as error:
            self.close()
            raise type(error)(*error.args) from None  # Grain hangs a note about its own traceback on it.
        except OSError as error:
            self.close()
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise DataError(f"an example cannot be read ({what}); check the files of the data set") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops reading ahead and waits for the worker processes to end; no further batch comes."""
        self._finalizer()

    def __enter__(self) -> "BatchIterator":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _close(held: list[grain.DatasetIterator]) -> None:
    """Closes the one iterator in `held` and lets go of it, because Grain's destructors fail while modules go down."""
    iterator = held.pop()
    # Grain starts all workers with the first batch but closes only those that have been read from; asking for
    # the state makes it take hold of every one. If workers failed to start, that error is on its way already.
    with contextlib.suppress(Exception):
        iterator.get_state()
    iterator.close()


def train_batches(
    source: Dataset,
    decode: Decode,
    transform: Augment,
    *,
    batch_size: int,
    seed: int,
    repeats: int = 1,
    start: int = 0,
    workers: int = 0,
    shard: HostShard = ONE_HOST,
    on_bad_record: str = "error",
    threads: int | None = None,
    target: Target = "mask",
    shares: np.ndarray | None = None,
) -> BatchIterator:
    """Returns the endless training stream: shuffled anew each epoch, augmented and batched.

    Batches may straddle epochs.

    Args:
      source: Dataset with the records. It is picklable if `workers` is not 0, and so are `decode` and `transform`.
      decode: Function from a record to {"image": u8[H,W,3], "mask": u8[H,W]}, or with a "label" or "boxes" in the
        mask's place.
      transform: Function from (image, target, generator) to image and target of one fixed size, such as
        `TrainTransform`. A third item of its result names further arrays, which the batch then has, too
        (`WarpTransform`). A `PerBatch` gives the transform of each batch (`MultiScale`).
      batch_size: Number of rows of the global batch; this host yields its `batch_size / shard.count` of them.
      seed: Number from 0 to 2**32 - 1 that decides order and augmentation, together with epoch and index.
      repeats: Number of times that an example is drawn in an epoch, augmented differently, in neighboring rows
        (repeated augmentation, 1902.05509). The length of an epoch stays the same, so it sees a `repeats`-th of the
        examples.
      start: Number of the first batch. A run that has drawn k batches goes on with `start=k`, at no cost.
      workers: Number of processes that make whole batches in turn; 0 makes them in threads of this process. They hand
        batches over through shared memory, about three each.
      shard: Share of this host.
      on_bad_record: "error" raises a damaged record's DataError. "skip" takes the next index of the dataset instead and
        counts it in the row's `skipped`.
      threads: Number of threads in each process. Each makes a whole batch, so one batch per thread is in memory. 0
        makes batches when they are asked for. The default without workers is one thread per core, at most 16. The
        default with workers is 0 in each of them.
      target: Key of the target that `decode` and the batches hold beside the image.
      shares: Probability of each example, float64 [N], with which it is drawn; None draws each once in an epoch.

    Returns:
      An iterator of batches with `image`, the target, `index`, `valid` and `skipped`; see docs/architecture.md.

    Raises:
      ConfigError: An argument is outside its range.
      DataError: The dataset is empty. While iterating: a record is damaged, or with "skip" all of them are.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed is {seed}: give a whole number from 0 to 4294967295.")
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}: give 1 or more.")
    if start < 0:
        raise ConfigError(f"start is {start}: give the number of batches drawn so far, 0 or more.")
    reader = _make_reader(source, decode, on_bad_record, target)
    draws = None if shares is None else Draws(shares)
    batches = _TrainBatches(reader, transform, batch_size, shard.rows(batch_size), seed, repeats, draws)
    return _iterate(grain.MapDataset.source(batches)[start:], workers, threads)


def eval_batches(
    source: Dataset,
    decode: Decode,
    transform: ResizeAndPad,
    *,
    batch_size: int,
    buckets: Sequence[Bucket] | None = None,
    workers: int = 0,
    shard: HostShard = ONE_HOST,
    on_bad_record: str = "error",
    threads: int | None = None,
    target: Target = "mask",
    shares: int = 1,
) -> BatchIterator:
    """Returns a stream with every example exactly once over all hosts.

    Each host gets the same number of batches, of the same shapes. The arguments are those of `train_batches`,
    `buckets`, as `batches_by_size` makes it, and `shares`. Buckets say which examples share a batch and its shape.
    Without them the examples come in the dataset's order, all of shape `transform.size`.

    A batch has as many rows as the largest bucket of its shape has examples, or a few more so that they are a multiple
    of `shares`, the parts that devices and hosts split it into. Rows without an example are not `valid`. These have the
    index -1 and the image and target of `transform.blank()`. With on_bad_record="skip" a damaged record becomes such a
    row, which keeps its index and has `skipped` 1.

    Returns:
      An iterator of batches as in training, and `size`: height and width before padding.

    Raises:
      ConfigError: An argument is outside its range.
      DataError: The dataset is empty. While iterating: a record is damaged, or an image is larger than
        `transform.size`. The latter is raised with "skip" too, because it calls for another setting and not for doing
        without the record.
    """
    options = {"shard": shard, "on_bad_record": on_bad_record, "target": target, "shares": shares}
    batches = _eval_batches(source, decode, transform, batch_size, buckets, **options)
    return _iterate(grain.MapDataset.source(batches), workers, threads)


def eval_shapes(
    source: Dataset,
    decode: Decode,
    transform: ResizeAndPad,
    *,
    batch_size: int,
    buckets: Sequence[Bucket] | None = None,
    **options: Any,
) -> list[tuple[Batch, int]]:
    """Returns a batch without examples for each shape of `eval_batches`, and how many batches have it.

    The arguments are those of `eval_batches`, but for those about processes and threads.
    """
    return _eval_batches(source, decode, transform, batch_size, buckets, **options).blanks()


def _eval_batches(
    source: Dataset,
    decode: Decode,
    transform: ResizeAndPad,
    batch_size: int,
    buckets: Sequence[Bucket] | None,
    *,
    shard: HostShard,
    on_bad_record: str,
    target: Target,
    shares: int,
) -> _EvalBatches:
    reader = _make_reader(source, decode, on_bad_record, target)
    shard.rows(batch_size)  # which hosts must be able to share
    if buckets is None:
        buckets = [(transform.size, part) for part in even_parts(range(len(source)), batch_size)]
    return _EvalBatches(reader, transform, tuple(buckets), shard, math.lcm(shares, shard.count))


def _make_reader(source: Dataset, decode: Decode, on_bad_record: str, target: Target) -> Reader:
    if on_bad_record not in ("error", "skip"):
        raise ConfigError(f'on_bad_record is {on_bad_record!r}: give "error" or "skip".')
    if len(source) == 0:
        raise DataError(f"{source.name} has no records: prepare the data set, or choose another split.")
    return Reader(source, decode, on_bad_record == "skip", target)


def _iterate(batches: grain.MapDataset, workers: int, threads: int | None) -> BatchIterator:
    if workers < 0 or (threads is not None and threads < 0):
        raise ConfigError(f"workers is {workers} and threads {threads}: give 0 or more.")
    if threads is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = 0 if workers else min(16, cores)
    _prepare_process()
    ahead = max(2, threads) if threads else 0
    dataset = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead))
    dataset = WithOptionsIterDataset(dataset, DatasetOptions(min_shm_size=_MIN_SHARED_BYTES))
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_prepare_worker)
    return BatchIterator(dataset, processes=workers > 0)


def _prepare_worker(number: int, count: int) -> None:
    """Prepares a worker process, one of `count`."""
    end_with_parent()
    _prepare_process()


def _prepare_process() -> None:
    """Sets the options that OpenCV and absl keep once per process; it is harmless to repeat."""
    # Examples already run in parallel, beside XLA's threads: OpenCV's own would only fight them.
    cv2.setNumThreads(0)
    # Grain's worker processes read absl flags, which a program that is not an absl app has never parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
