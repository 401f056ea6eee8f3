"""Measures calibration by reliability bins and the expected calibration error (1706.04599)."""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from cvjax.shapes import Array

BINS = 15
"""Equal bins of confidence, as in the paper."""


def calibration_sums(
    confidence: Float[Array, " batch"], correct: Bool[Array, " batch"], valid: Bool[Array, " batch"]
) -> dict[str, jax.Array]:
    """Computes the counts and sums of each bin of confidence, which add up over batches and devices.

    Args:
      confidence: Probability of the predicted class, [B] in [0, 1].
      correct: Whether the predicted class is the true one, bool [B].
      valid: Whether the example counts, bool [B].

    Returns:
      `bin_count` and `bin_correct`, int32 [BINS], and `bin_confidence`, float32 [BINS], the sum of confidences. Bin k
      holds confidences above k / BINS and up to (k + 1) / BINS.
    """
    chex.assert_equal_shape((confidence, correct, valid))
    number = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    inside = (number[:, None] == jnp.arange(BINS)[None]) & valid[:, None]
    return {
        "bin_count": inside.sum(0, dtype=jnp.int32),
        "bin_correct": (inside & correct[:, None]).sum(0, dtype=jnp.int32),
        "bin_confidence": (inside.astype(confidence.dtype) * confidence[:, None]).sum(0),
    }


def calibration_report(sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Computes the expected calibration error and the bins of a reliability diagram.

    The error is the mean over examples of |accuracy - confidence| of their bin.

    Args:
      sums: Results of `calibration_sums`, added up.

    Returns:
      `ece`, the error, nan without an example; and `bins`, a list of {"count", "accuracy", "confidence"} of the bins
      that hold examples.
    """
    count = np.asarray(sums["bin_count"], np.int64)
    correct, confidence = (np.asarray(sums[key], np.float64) for key in ("bin_correct", "bin_confidence"))
    total = int(count.sum())
    bins = [
        {"count": int(n), "accuracy": float(right / n), "confidence": float(sure / n)}
        for n, right, sure in zip(count, correct, confidence)
        if n
    ]
    return {"ece": float(np.abs(correct - confidence).sum() / total) if total else float("nan"), "bins": bins}
