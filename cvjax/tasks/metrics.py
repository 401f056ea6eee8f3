"""How well predictions agree with the truth: sums such as a confusion matrix on the device, a report on the host.

Sums add up over batches, devices and hosts; the report is made once, from the sum.
"""

from collections.abc import Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.tasks.classification.calibration import calibration_report

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


def ranks(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """How many classes come before the true one: int32 [B] of scores [B, C] and labels [B].

    Of equal scores the lower class comes first, as for `argmax`; so rank 0 means that `argmax` is right.
    """
    chex.assert_rank(scores, 2)
    mine = jnp.take_along_axis(scores, jnp.maximum(labels, 0)[:, None], axis=-1)
    earlier = jnp.arange(scores.shape[-1]) < labels[:, None]
    return ((scores > mine) | ((scores == mine) & earlier)).sum(-1, dtype=jnp.int32)


def classification_report(sums: Mapping[str, np.ndarray], class_names: Sequence[str]) -> dict:
    """Accuracies and calibration of a split.

    Args:
        sums: `confusion` [C, C] (rows are the truth), `top5`, `surprise` (the sum of -log of the true class's
            probability), `examples`, `skipped`, and those of `calibration_sums`.
        class_names: C different names.

    Returns:
        `top1`, `top5`, `mean_accuracy` (over the classes that occur), `loss` and `ece`: floats, nan without an
            example; `accuracy`: recall by class name, nan for a class that does not occur; `bins`: see
            `calibration_report`; `confusion`: the matrix, int64; `examples` and `skipped`: ints.

    Raises:
        ValueError: not a square matrix of non-negative integers, or names that do not match it.
    """
    confusion = _checked(sums["confusion"], class_names)
    hits, truth, examples = np.diag(confusion), confusion.sum(axis=1), int(sums["examples"])
    recall = _ratio(hits, truth)
    return {
        "top1": float(_ratio(hits.sum(), examples)),
        "top5": float(_ratio(sums["top5"], examples)),
        "mean_accuracy": _mean(recall),
        "loss": float(_ratio(sums["surprise"], examples)),
        **calibration_report(sums),
        "accuracy": dict(zip(class_names, map(float, recall))),
        "confusion": confusion,
        "examples": examples,
        "skipped": int(sums["skipped"]),
    }


def image_iou_sums(confusions: jax.Array) -> dict[str, jax.Array]:
    """What `image_miou` is made of, from the confusion matrices [B, C, C] of single images.

    An image's mean IoU is that over the classes in its truth or prediction; an image without a counted pixel has none.
    """
    confusions = confusions.astype(jnp.float32)
    hits = jnp.diagonal(confusions, axis1=1, axis2=2)
    union = confusions.sum(1) + confusions.sum(2) - hits
    present = (union > 0).sum(1)
    mean = (hits / jnp.maximum(union, 1.0)).sum(1) / jnp.maximum(present, 1)
    return {"image_iou": mean.sum(), "scored_images": (present > 0).sum(dtype=jnp.int32)}


def image_miou(sums: Mapping[str, np.ndarray]) -> float:
    """The mean over images of their mean IoU, from added `image_iou_sums`; nan without an image."""
    return float(_ratio(sums["image_iou"], sums["scored_images"]))


def segmentation_report(confusion: np.ndarray, class_names: Sequence[str]) -> dict:
    """Intersection over union and accuracies from a confusion matrix.

    Convention: the IoU of class c is TP / (TP + FP + FN). A class that occurs in neither truth nor prediction
    has no IoU (nan) and does not enter `miou`, which is the mean over the classes present in truth or
    prediction; so a class that is only predicted counts as 0. `mean_accuracy` is the mean recall of the
    classes present in the truth, `fwiou` the mean IoU of classes weighed by their share of the truth.

    Args:
        confusion: [C, C] integers; rows are the truth, columns the prediction.
        class_names: C different names.

    Returns:
        `miou`, `pixel_accuracy`, `mean_accuracy`, `fwiou`: floats, nan without a counted pixel; `iou`: float by
            class name.

    Raises:
        ValueError: not a square matrix of non-negative integers, or names that do not match it.
    """
    confusion = _checked(confusion, class_names)
    hits, truth, guess = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    iou = _ratio(hits, truth + guess - hits)
    return {
        "miou": _mean(iou),
        "iou": {name: float(value) for name, value in zip(class_names, iou)},
        "pixel_accuracy": float(_ratio(hits.sum(), confusion.sum())),
        "mean_accuracy": _mean(_ratio(hits, truth)),
        "fwiou": float(_ratio(np.nansum(truth * iou), truth.sum())),
    }


def border_report(sums: Mapping[str, np.ndarray], distances: Sequence[int] = ()) -> dict[str, float]:
    """Scores near borders, of the sums that there are.

    Args:
        sums: `boundary`, of `boundary_confusion`; `trimap`, of `trimap_confusions`; or neither.
        distances: of the trimaps.

    Returns:
        `boundary_iou`, the mean over the classes that have a boundary in truth or prediction, and `trimap_miou_R` for
        each distance R; nan where there is no such pixel.
    """
    report = {}
    if "boundary" in sums:
        confusion = np.asarray(sums["boundary"], np.int64)
        hits, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
        report["boundary_iou"] = _mean(_ratio(hits, union)[:-1])  # the last stands for pixels outside the bands
    for distance, confusion in zip(distances, sums.get("trimap", ())):
        hits = np.diag(confusion)
        report[f"trimap_miou_{distance}"] = _mean(_ratio(hits, confusion.sum(0) + confusion.sum(1) - hits))
    return report


def _checked(confusion: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """The confusion matrix as int64, if it is one of these classes."""
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


def _ratio(part: np.ndarray, whole: np.ndarray | int) -> np.ndarray:
    """part / whole in float64, nan where whole is 0."""
    whole = np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
