"""This module scores a whole split, with the same code for the training loop and for the evaluate command."""

import collections
import contextlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset, Record, image_sizes
from cvjax.data.loader import eval_batches, eval_shapes, prefetch_to_device
from cvjax.data.order import ONE_HOST, HostShard
from cvjax.engine.distributed import rows_of_all
from cvjax.engine.parallel import Strategy, check_divides
from cvjax.engine.state import TrainState
from cvjax.engine.step import make_eval_step
from cvjax.engine.task import Report, Task, Variables

_COUNTS = {"examples", "skipped", "dropped_boxes"}

Batch = dict[str, np.ndarray]
HostBatches = Callable[[], Iterator[Batch]]


def make_evaluator(
    task: Task,
    model: nn.Module,
    dataset: Dataset,
    strategy: Strategy,
    alive: Callable[[], None] = lambda: None,
    *,
    once: bool = False,
) -> Callable[[TrainState | Variables], Report]:
    """Returns a function that scores a placed state (or placed variables) on a whole split.

    Args:
      task: Task that is scored.
      model: Module that it predicts with.
      dataset: Split.
      strategy: Strategy that spreads the batches over devices.
      alive: Function that is called after each batch, so that nobody takes a long evaluation for one that hangs.
      once: Whether the function will be called once only. Then programs that run for a few batches are made of what
        compiles soon, see `cvjax.runtime.compiler.expected_runs`.

    Raises:
      ConfigError: The batch does not divide over the devices.
    """
    check_divides(task.config.eval.batch_size, strategy.shares, "eval.batch_size")
    batches = WholeSplit(task, dataset, strategy.shard, strategy.shares)
    step = strategy.compile_eval(make_eval_step(model, task, strategy.axis_name))

    def score(state: TrainState | Variables) -> Report:
        variables = state.inference_variables if isinstance(state, TrainState) else state
        with _compiled_ahead(step, variables, batches, strategy, once=once) as ready:
            return evaluate(ready, variables, batches(), task, strategy, alive)

    return score


class WholeSplit:
    """Gives this host's batches of every example once, as an evaluation sees them, at each call.

    The examples are grouped into batches once, so that a pass need not look at the images' sizes again. Of several
    hosts, which all make one, each reads the sizes of its part of the images.

    Args:
      task: Task that says how examples are decoded and padded.
      dataset: Split.
      shard: This host's share of every batch.
      shares: Number of parts that a batch is split into; its rows are a multiple of it.
    """

    def __init__(self, task: Task, dataset: Dataset, shard: HostShard = ONE_HOST, shares: int = 1) -> None:
        transform, buckets = task.eval_buckets(dataset if jax.process_count() == 1 else _SharedSizes(dataset))
        self._task, self._dataset, self._transform = task, dataset, transform
        self._groups: dict[str, Any] = {"buckets": buckets, "shard": shard, "shares": shares}

    def __call__(self) -> Iterator[Batch]:
        """Returns the batches, see `cvjax.data.loader.eval_batches`."""
        return eval_batches(*self._examples, workers=self._task.config.input.workers, **self._options)

    def shapes(self) -> list[tuple[Batch, int]]:
        """Returns a batch without examples for each shape, in the order of the batches, and the number of batches."""
        return eval_shapes(*self._examples, **self._options)

    @property
    def _examples(self) -> tuple[Dataset, Any, Any]:
        return self._dataset, self._task.decoder(), self._transform

    @property
    def _options(self) -> dict[str, Any]:
        config = self._task.config
        reading = {"target": self._task.target, "on_bad_record": config.input.on_bad_record}
        return self._groups | reading | {"batch_size": config.eval.batch_size}


def whole_split(task: Task, dataset: Dataset) -> HostBatches:
    """Returns a function that gives the batches of every example once, see `WholeSplit`."""
    return WholeSplit(task, dataset)


@contextlib.contextmanager
def _compiled_ahead(
    step: Any, variables: Any, batches: WholeSplit, strategy: Strategy, *, once: bool
) -> Iterator[Callable[[Any, Any], Any]]:
    """Yields the step, whose programs a thread compiles one after another while those before them run.

    That hides most of the compilation where there are two cores. The order is that of the batches, so a step waits for
    no other program than its own. Several hosts compile when they call, because all must do so in the same order.
    """
    ahead = getattr(step, "ahead", None)
    if ahead is None or jax.process_count() > 1:
        yield step
        return
    with ThreadPoolExecutor(1, "cvjax-compile") as pool:
        made = {}
        for blank, count in batches.shapes():
            batch = strategy.place_batch(blank)
            made[_shape(batch)] = pool.submit(ahead, variables, batch, runs=count if once else math.inf)

        def ready(variables: Any, batch: Any) -> Any:
            made[_shape(batch)].result()
            return step(variables, batch)

        try:
            yield ready
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _shape(batch: Any) -> tuple[int, ...]:
    return batch["image"].shape


class _SharedSizes:
    """Shows a dataset to `Task.eval_buckets` on several hosts: each reads its part of the sizes, and all get all."""

    def __init__(self, source: Dataset) -> None:
        self._source = source
        self.name, self.split = source.name, source.split
        self.class_names, self.void = source.class_names, source.void

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return self._source[index]

    def fingerprint(self) -> str:
        return self._source.fingerprint()

    @property
    def _sizes(self) -> list[tuple[int, int] | None]:
        """Returns what `image_sizes` is to find here; it is kept on the dataset itself."""
        known = getattr(self._source, "_sizes", None)
        if known is None:
            length = len(self._source)
            part = -(-length // jax.process_count())
            own = range(length)[jax.process_index() * part :][:part]
            rows = np.full((part, 2), -1, np.int32)  # an unreadable image's stay -1
            for row, size in enumerate(image_sizes(self._source, own)):
                rows[row] = -1 if size is None else size
            known = [None if height < 0 else (height, width) for height, width in rows_of_all(rows)[:length].tolist()]
            self._source._sizes = known  # type: ignore[attr-defined]
        return known


def evaluate(
    eval_step: Callable[[Any, Any], Any],
    variables: Any,
    batches: Iterator[dict[str, np.ndarray]],
    task: Task,
    strategy: Strategy,
    alive: Callable[[], None] = lambda: None,
) -> Report:
    """Runs a split through a net and reports on it.

    Args:
      eval_step: Step that `strategy.compile_eval` compiled.
      variables: Variables that `strategy.place_state` placed.
      batches: This host's rows; the same number of batches on every host, see `cvjax.data.loader.eval_batches`.
      task: Task that turns sums into scores.
      strategy: Strategy that compiled the step and placed the variables.
      alive: Function that is called after each batch.

    Returns:
      Report of `task.compute`, from the sums of all batches and from the rows of all batches, end to end. The sums are
        added in int64 (or float64), so that no count overflows.
    """
    totals: dict[str, Any] = {}
    joined: dict[str, list[np.ndarray]] = {}
    waiting: collections.deque[Any] = collections.deque()

    def add(results: Any) -> None:
        sums, gathered = strategy.fetch(results)
        alive()
        # Every host has all rows of the batch, so every host finds the same sums.
        more, rows = task.summarize(gathered)
        for name, value in {**sums, **more}.items():
            wide = np.int64 if np.issubdtype(value.dtype, np.integer) else np.float64
            totals[name] = totals.get(name, 0) + value.astype(wide)
        for name, value in rows.items():
            joined.setdefault(name, []).append(value)

    for batch in prefetch_to_device(batches, strategy.place_batch):
        # Fetching one batch behind keeps the device busy while the host adds.
        waiting.append(eval_step(variables, batch))
        if len(waiting) > 1:
            add(waiting.popleft())
    while waiting:
        add(waiting.popleft())
    return task.compute({**totals, **{name: np.concatenate(parts) for name, parts in joined.items()}})


def scalars(report: Report) -> dict[str, float]:
    """Returns the single numbers of a report, for logs and for choosing the best checkpoint."""
    return {
        name: float(value) for name, value in report.items() if isinstance(value, int | float) and name not in _COUNTS
    }


def plain(report: Report) -> Report:
    """Returns a report without its arrays, as JSON holds it."""
    return {name: value for name, value in report.items() if not isinstance(value, np.ndarray)}
