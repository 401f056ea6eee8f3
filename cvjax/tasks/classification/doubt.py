"""Finds labels of images that a trained net finds unlikely, by confident learning (Northcutt et al., 1911.00068).

Labels are ranked by their normalized margin: the probability of the label less the largest one of another class. A
label is flagged where it would be off the diagonal of the paper's confident joint. Each class has a threshold, the mean
probability of the class over the images that are labeled with it. Of the classes whose probability reaches their
threshold, the likeliest one is the image's own; a label that differs is taken for wrong.

The paper takes probabilities of nets that have not seen the image. On its own training split a net finds fewer wrong
labels, as it has learned many of them.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset
from cvjax.tasks.doubts import Doubt, likely, predicted, ranked

if TYPE_CHECKING:
    from cvjax.tasks.classification.task import Classification


def label_doubts(task: "Classification", model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[Doubt]:
    """Returns every example of a split, the least likely label first."""

    def rows(probabilities: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {"probability": probabilities, "label": batch["label"], "index": batch["index"]}

    parts = list(predicted(task, model, variables, dataset, rows))
    columns = ("probability", "label", "index")
    probability, label, index = (np.concatenate([part[name] for part in parts]) for name in columns)
    margins, rivals = normalized_margins(probability, label)
    own = confident_labels(probability, label)
    doubts, names = [], task.class_names
    for row in range(len(label)):
        flagged = own[row] not in (-1, label[row])
        other = int(own[row] if flagged else rivals[row])
        given, instead = int(label[row]), likely(names[other], probability[row, other])
        what = f"labeled {likely(names[given], probability[row, given])}, {instead}"
        score = float(margins[row])
        doubts.append(Doubt("label", int(index[row]), score, what, names[given], names[other], bool(flagged)))
    return ranked(doubts)


def normalized_margins(probability: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the normalized margin of each label, float [N], and the likeliest other class, int [N].

    Args:
      probability: Probabilities [N, C]; with one class the margin is its probability.
      label: Labels [N].
    """
    rows = np.arange(len(label))
    others = probability.astype(np.float64)
    own = others[rows, label].copy()
    others[rows, label] = -np.inf
    rivals = others.argmax(axis=1)
    best = others[rows, rivals]
    return own - np.where(np.isfinite(best), best, 0), rivals


def confident_labels(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns the class that each image counts as in the confident joint, int [N]; -1 for none.

    Args:
      probability: Probabilities [N, C].
      label: Labels [N].
    """
    classes = probability.shape[1]
    counts = np.bincount(label, minlength=classes)
    own = probability[np.arange(len(label)), label].astype(np.float64)
    sums = np.bincount(label, weights=own, minlength=classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = np.where(probability >= thresholds, probability, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)
