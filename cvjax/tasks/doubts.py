"""Defines what a task reports of labels that a trained net finds unlikely."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset
from cvjax.engine.evaluate import whole_split
from cvjax.runtime.compiler import compiled
from cvjax.tasks.images import ImageTask

Kind = Literal["label", "mask", "region", "swapped", "badly located", "unsupported", "overlooked"]

TITLES: dict[Kind, str] = {
    "label": "Labels that are least likely",
    "region": "Regions with another class than labeled",
    "mask": "Masks that are least likely as a whole",
    "swapped": "Boxes where another class is detected",
    "badly located": "Boxes beside a detection of their class",
    "unsupported": "Boxes that no detection supports",
    "overlooked": "Detections without a box",
}
"""What each kind of doubt is called, in the order in which they are shown."""


@dataclasses.dataclass(frozen=True)
class Doubt:
    """Holds a label that a net finds unlikely.

    Attributes:
      kind: Kind of the label.
      index: Index of the example in the dataset.
      score: Likelihood by the task's rule; the lower, the more doubtful. Scores of one kind can be compared.
      what: Sentence that states the label and what the net says instead.
      given: Name of the labeled class; None where nothing is labeled.
      suggested: Name of the class that the net finds likelier; None where it finds nothing.
      flagged: Whether the task's rule calls the label wrong, and not merely less likely than others.
      box: Part of the image that it is about, x1, y1, x2, y2 in pixels of the original; None for the whole image.
      found: Box that was detected instead, likewise.
      confidence: Score of that detection.
    """

    kind: Kind
    index: int
    score: float
    what: str
    given: str | None = None
    suggested: str | None = None
    flagged: bool = False
    box: tuple[float, float, float, float] | None = None
    found: tuple[float, float, float, float] | None = None
    confidence: float | None = None


def predicted(
    task: ImageTask,
    model: nn.Module,
    variables: dict[str, Any],
    dataset: Dataset,
    reduce: Callable[[Any, Any], dict[str, jax.Array]],
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the rows of every example of a split once, by batches, as an evaluation sees them.

    Args:
      task: Task that predicts.
      model: Module that it predicts with.
      variables: Variables of the model.
      dataset: Split.
      reduce: Pure function from predictions and a batch to arrays with a row an example; it is compiled.
    """
    variables = jax.device_put(variables)

    @compiled
    def rows(variables: dict[str, Any], batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        inputs, _ = task.prepare(batch, None)
        return reduce(task.predict(model, variables, inputs), batch)

    for batch in whole_split(task, dataset)():
        found = jax.device_get(rows(variables, batch))
        yield {name: np.asarray(value)[batch["valid"]] for name, value in found.items()}


def ranked(doubts: list[Doubt]) -> list[Doubt]:
    """Returns doubts by kind, the most doubtful of each first."""
    order = list(TITLES)
    return sorted(doubts, key=lambda doubt: (order.index(doubt.kind), doubt.score, doubt.index))


def likely(name: str, probability: float) -> str:
    """Returns a class with its probability as text."""
    return f"{name} {probability:.0%}" if probability >= 0.01 else f"{name} {probability:.1%}"
