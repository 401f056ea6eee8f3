"""Confusion matrices, which most scores are made of: counted on the device, added up in int64 on the host."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

# One-hot entries (bytes, as they are int8) alive at a time; beyond about 1 MiB a CPU's caches no longer hold
# them.
_CHUNK_BYTES = 1 << 20
# But no fewer pixels than this: a batch that is sharded over a pod is large here and small on each chip.
_MIN_CHUNK = 4096


def confusion_matrix(
    labels: jax.Array,
    predictions: jax.Array,
    num_classes: int,
    *,
    ignore: int = 255,
    valid: jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """Count pixels by (true class, predicted class).

    A product of one-hot int8 matrices per image, summed in int32 over chunks of pixels: exact, without
    scatter (slow on TPUs), and with a working set that does not grow with the image. Pure; made for
    `jax.jit`.

    Args:
        labels: [B, H, W] integers, the true class or `ignore`. Any other value outside [0, num_classes) is
            not counted either: data loading rejects such masks, as here there is nobody to tell.
        predictions: [B, H, W] integers in [0, num_classes).
        num_classes: C.
        ignore: the label whose pixels do not count.
        valid: [B] bool; images that are False do not count. None counts all.
        per_image: a matrix for each image instead of their sum.

    Returns:
        int32 [C, C], or [B, C, C]; rows are the truth, columns the prediction. Add batches up in int64 on the host.

    Raises:
        ValueError: the batch has 2^31 pixels or more, which int32 could not count.
    """
    chex.assert_rank([labels, predictions], 3)
    chex.assert_equal_shape([labels, predictions])
    chex.assert_type([labels, predictions], int)
    if labels.size >= 2**31:
        raise ValueError(f"confusion_matrix counts fewer than 2^31 pixels a call, not {labels.size}; split the batch")
    batch, pixels = labels.shape[0], labels.shape[1] * labels.shape[2]
    if valid is None:
        valid = jnp.ones((batch,), bool)
    chex.assert_shape(valid, (batch,))
    labels, predictions = labels.reshape(batch, pixels), predictions.reshape(batch, pixels)
    classes = jnp.arange(num_classes, dtype=jnp.int32)[:, None]
    chunk = max(1, min(pixels, max(_MIN_CHUNK, _CHUNK_BYTES // max(1, batch * num_classes))))

    def count(start: jax.Array | int, length: int) -> jax.Array:
        # The batch stays an axis of its own, so that a batch that is sharded over devices needs one small sum
        # only.
        truth = jax.lax.dynamic_slice_in_dim(labels, start, length, axis=1).astype(jnp.int32)[:, None]
        guess = jax.lax.dynamic_slice_in_dim(predictions, start, length, axis=1).astype(jnp.int32)[:, None]
        counted = (truth != ignore) & valid[:, None, None]
        truth_hot = ((truth == classes) & counted).astype(jnp.int8)
        guess_hot = (guess == classes).astype(jnp.int8)
        # Pixels last on both sides: on CPU 8 times as fast as classes last (8 x 513 x 513 x 21: 36 ms, not
        # 280).
        return jnp.einsum("bip,bjp->bij", truth_hot, guess_hot, preferred_element_type=jnp.int32)

    total = jnp.zeros((batch, num_classes, num_classes), jnp.int32)
    whole, rest = divmod(pixels, chunk)
    total = jax.lax.fori_loop(0, whole, lambda i, sum_: sum_ + count(i * chunk, chunk), total)
    total = total + count(whole * chunk, rest) if rest else total
    return total if per_image else total.sum(0)


def checked_confusion(confusion: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns the confusion matrix as int64.

    Raises:
      ValueError: It is not one of these classes, or its names are not different ones.
    """
    confusion = np.asarray(confusion)
    num_classes = len(class_names)
    if confusion.shape != (num_classes, num_classes) or not np.issubdtype(confusion.dtype, np.integer):
        raise ValueError(
            f"a report needs an integer [{num_classes}, {num_classes}] matrix for {num_classes} "
            f"class names, not {confusion.dtype} {list(confusion.shape)}"
        )
    if len(set(class_names)) != num_classes:
        raise ValueError(f"class names must differ, as the report is keyed by them: {list(class_names)}")
    if (confusion < 0).any():
        raise ValueError("the confusion matrix has negative counts: a sum overflowed; add batches up in int64")
    return confusion.astype(np.int64)


def ratio(part: np.ndarray, whole: np.ndarray | int) -> np.ndarray:
    """Returns part / whole in float64, nan where whole is 0."""
    whole = np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_of_present(values: np.ndarray) -> float:
    """Returns the mean of what is not nan; nan of nothing."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
