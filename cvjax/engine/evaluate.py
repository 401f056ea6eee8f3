"""Scores of a whole split: the same code for the training loop and for the evaluate command."""

import collections
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from cvjax.data.loader import prefetch_to_device
from cvjax.engine.parallel import Strategy
from cvjax.engine.step import Task


def evaluate(
    eval_step: Callable[[Any, Any], Any],
    variables: Any,
    batches: Iterable[dict[str, np.ndarray]],
    task: Task,
    strategy: Strategy,
) -> dict[str, Any]:
    """Runs a split through a net and reports on it.

    Args:
      eval_step: compiled by `strategy.compile_eval`.
      variables: placed by `strategy.place_state`.
      batches: this host's rows, the same number of batches on every host; see `cvjax.data.loader.eval_batches`.
      task: turns sums into scores.
      strategy: the one that compiled and placed.

    Returns:
      `task.report` of the sums, added in int64 (or float64), so that no count overflows, and of the rows of all batches
      end to end.
    """
    totals: dict[str, np.ndarray] = {}
    rows: dict[str, list[np.ndarray]] = {}
    waiting: collections.deque[Any] = collections.deque()

    def add(results: Any) -> None:
        sums, kept = strategy.fetch(results)
        # Every host has all rows of the batch, so every host finds the same sums.
        for name, value in {**sums, **task.examine(kept)}.items():
            wide = np.int64 if np.issubdtype(value.dtype, np.integer) else np.float64
            totals[name] = totals.get(name, 0) + value.astype(wide)
        for name, value in task.collect(kept).items():
            rows.setdefault(name, []).append(value)

    for batch in prefetch_to_device(batches, strategy.place_batch):
        # Fetching one batch behind keeps the device busy while the host adds.
        waiting.append(eval_step(variables, batch))
        if len(waiting) > 1:
            add(waiting.popleft())
    while waiting:
        add(waiting.popleft())
    return task.report({**totals, **{name: np.concatenate(parts) for name, parts in rows.items()}})


def scalars(report: dict[str, Any]) -> dict[str, float]:
    """The single numbers of a report, for logs and for choosing the best checkpoint."""
    keep = {
        k: v
        for k, v in report.items()
        if isinstance(v, int | float) and k not in {"examples", "skipped", "dropped_boxes"}
    }
    return jax.tree.map(float, keep)
