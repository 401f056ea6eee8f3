"""Whether a net is as often right as it is sure: reliability bins and the expected calibration error (1706.04599)."""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

BINS = 15
"""Equal bins of confidence, as in the paper."""


def calibration_sums(confidence: jax.Array, correct: jax.Array, valid: jax.Array) -> dict[str, jax.Array]:
    """What the bins of confidence hold; adds up over batches and devices.

    Args:
      confidence: [B] in [0, 1], the probability of the predicted class.
      correct: bool [B], whether that is the true one.
      valid: bool [B]; what is False does not count.

    Returns:
      `bin_count` and `bin_correct`, int32 [BINS], and `bin_confidence`, float32 [BINS], the sum of confidences. Bin k
      holds confidences above k / BINS up to (k + 1) / BINS.
    """
    chex.assert_equal_shape((confidence, correct, valid))
    number = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    inside = (number[:, None] == jnp.arange(BINS)) & valid[:, None]
    return {
        "bin_count": inside.sum(0, dtype=jnp.int32),
        "bin_correct": (inside & correct[:, None]).sum(0, dtype=jnp.int32),
        "bin_confidence": (inside * confidence[:, None]).sum(0),
    }


def calibration_report(sums: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`ece`, the mean over examples of |accuracy - confidence| of their bin, and the bins for a diagram.

    Args:
      sums: as `calibration_sums` gives them, added up.

    Returns:
      `ece`, nan without an example, and `bins`: a list of {"count", "accuracy", "confidence"}, empty ones left out.
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
