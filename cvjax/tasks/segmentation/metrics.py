"""How well predicted classes of pixels agree with the truth: reports on the host, from sums of confusion matrices."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.tasks.confusion import checked_confusion, mean_of_present, ratio


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
    return float(ratio(sums["image_iou"], sums["scored_images"]))


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
    confusion = checked_confusion(confusion, class_names)
    hits, truth, guess = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    iou = ratio(hits, truth + guess - hits)
    return {
        "miou": mean_of_present(iou),
        "iou": {name: float(value) for name, value in zip(class_names, iou)},
        "pixel_accuracy": float(ratio(hits.sum(), confusion.sum())),
        "mean_accuracy": mean_of_present(ratio(hits, truth)),
        "fwiou": float(ratio(np.nansum(truth * iou), truth.sum())),
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
        report["boundary_iou"] = mean_of_present(
            ratio(hits, union)[:-1]
        )  # the last stands for pixels outside the bands
    for distance, confusion in zip(distances, sums.get("trimap", ())):
        hits = np.diag(confusion)
        report[f"trimap_miou_{distance}"] = mean_of_present(ratio(hits, confusion.sum(0) + confusion.sum(1) - hits))
    return report
