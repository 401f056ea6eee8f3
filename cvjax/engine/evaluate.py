"""This module scores a whole split, with the same code for the training loop and for the evaluate command."""

import collections
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset, Record, image_sizes
from cvjax.data.loader import eval_batches, prefetch_to_device
from cvjax.data.order import ONE_HOST, HostShard
from cvjax.engine.distributed import rows_of_all
from cvjax.engine.parallel import Strategy, check_divides
from cvjax.engine.state import TrainState
from cvjax.engine.step import make_eval_step
from cvjax.engine.task import Report, Task, Variables

_COUNTS = {"examples", "skipped", "dropped_boxes"}

HostBatches = Callable[[], Iterator[dict[str, np.ndarray]]]


def make_evaluator(
    task: Task, model: nn.Module, dataset: Dataset, strategy: Strategy, alive: Callable[[], None] = lambda: None
) -> Callable[[TrainState | Variables], Report]:
    """Returns a function that scores a placed state (or placed variables) on a whole split.

    Args:
      task: Task that is scored.
      model: Module that it predicts with.
      dataset: Split.
      strategy: Strategy that spreads the batches over devices.
      alive: Function that is called after each batch, so that nobody takes a long evaluation for one that hangs.

    Raises:
      ConfigError: The batch does not divide over the devices.
    """
    check_divides(task.config.eval.batch_size, strategy.shares, "eval.batch_size")
    batches = whole_split(task, dataset, strategy.shard)
    step = strategy.compile_eval(make_eval_step(model, task, strategy.axis_name))

    def score(state: TrainState | Variables) -> Report:
        variables = state.inference_variables if isinstance(state, TrainState) else state
        return evaluate(step, variables, batches(), task, strategy, alive)

    return score


def whole_split(task: Task, dataset: Dataset, shard: HostShard = ONE_HOST) -> HostBatches:
    """Returns a function that gives this host's batches of every example once, as an evaluation sees them.

    This function groups the examples into batches once, so that a pass need not look at the images' sizes again. Of
    several hosts, which all call it, each reads the sizes of its part of the images.
    """
    transform, buckets = task.eval_buckets(dataset if jax.process_count() == 1 else _SharedSizes(dataset))
    data = task.config.input
    return lambda: eval_batches(
        dataset,
        task.decoder(),
        transform,
        batch_size=task.config.eval.batch_size,
        buckets=buckets,
        target=task.target,
        workers=data.workers,
        shard=shard,
        on_bad_record=data.on_bad_record,
    )


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
