"""Computes accuracies and calibration of predicted classes."""

from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Integer, Real

from cvjax.shapes import Array
from cvjax.tasks.classification.calibration import calibration_report
from cvjax.tasks.confusion import checked_confusion, mean_of_present, ratio


def ranks(scores: Real[Array, "batch classes"], labels: Integer[Array, " batch"]) -> Int32[jax.Array, " batch"]:
    """Computes the rank of the true class: int32 [B], for scores [B, C] and labels [B].

    The rank is the number of classes that come before the true one. Of equal scores the lower class comes first, as for
    `argmax`, so rank 0 means that `argmax` is right.
    """
    chex.assert_rank(scores, 2)
    mine = jnp.take_along_axis(scores, jnp.maximum(labels, 0)[:, None], axis=-1)
    earlier = jnp.arange(scores.shape[-1])[None] < labels[:, None]
    return ((scores > mine) | ((scores == mine) & earlier)).sum(-1, dtype=jnp.int32)


def classification_report(sums: Mapping[str, np.ndarray], class_names: Sequence[str]) -> dict:
    """Computes the accuracies and the calibration of a split.

    Args:
      sums: `confusion` [C, C] (rows are the ground truth), `top5`, `surprise` (the sum of -log of the true class's
        probability), `examples`, `skipped`, and the results of `calibration_sums`.
      class_names: Names of the C classes, all different.

    Returns:
      `top1`, `top5`, `mean_accuracy` (over the classes that occur), `loss` and `ece`: floats, nan without an example;
      `accuracy`: recall by class name, nan for a class that does not occur; `bins`: see `calibration_report`;
        `confusion`: the matrix, int64; `examples` and `skipped`: ints.

    Raises:
      ValueError: The matrix is not square, has entries that are not integers of at least 0, or does not match the
        names.
    """
    confusion = checked_confusion(sums["confusion"], class_names)
    hits, truth, examples = np.diag(confusion), confusion.sum(axis=1), int(sums["examples"])
    recall = ratio(hits, truth)
    return {
        "top1": float(ratio(hits.sum(), examples)),
        "top5": float(ratio(sums["top5"], examples)),
        "mean_accuracy": mean_of_present(recall),
        "loss": float(ratio(sums["surprise"], examples)),
        **calibration_report(sums),
        "accuracy": dict(zip(class_names, map(float, recall))),
        "confusion": confusion,
        "examples": examples,
        "skipped": int(sums["skipped"]),
    }
