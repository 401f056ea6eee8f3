"""Computes scores of predicted classes of pixels on the host, from sums of confusion matrices."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from cvjax.shapes import Array
from cvjax.tasks.confusion import checked_confusion, mean_of_present, ratio


def image_iou_sums(
    confusions: Integer[Array, "batch classes classes"], absent: Sequence[int] = ()
) -> dict[str, jax.Array]:
    """Computes the sums of `image_miou` from the confusion matrices [B, C, C] of single images.

    The mean IoU of an image is over the classes in its ground truth or prediction. An image without a counted pixel is
    left out, and so are the labels in `absent`.
    """
    confusions = confusions.astype(jnp.float32)
    hits = jnp.diagonal(confusions, axis1=1, axis2=2)
    union = confusions.sum(1) + confusions.sum(2) - hits
    if absent:
        union = union.at[:, list(absent)].set(0.0)
    present = (union > 0).sum(1)
    mean = (hits / jnp.maximum(union, 1.0)).sum(1) / jnp.maximum(present, 1).astype(jnp.float32)
    return {"image_iou": mean.sum(), "scored_images": (present > 0).sum(dtype=jnp.int32)}


def image_miou(sums: Mapping[str, np.ndarray]) -> float:
    """Computes the mean over images of their mean IoU, from added `image_iou_sums`; nan without an image."""
    return float(ratio(sums["image_iou"], sums["scored_images"]))


def segmentation_report(confusion: np.ndarray, class_names: Sequence[str], absent: Sequence[str] = ()) -> dict:
    """Computes IoU and accuracies from a confusion matrix.

    The IoU of class c is TP / (TP + FP + FN). A class that occurs in neither ground truth nor prediction has the IoU
    nan and is left out of `miou`, which is the mean over the classes in ground truth or prediction. So a class that is
    only predicted counts as 0, unless it is among `absent`: those have the IoU nan in any case. `mean_accuracy` is the
    mean recall of the classes in the ground truth. `fwiou` is the mean IoU of the classes, weighted by their share of
    the ground truth.

    Args:
      confusion: Confusion matrix, integers [C, C]; rows are the ground truth, columns the prediction.
      class_names: Names of the C classes, all different.
      absent: Names of the classes that the dataset does not have.

    Returns:
      `miou`, `pixel_accuracy`, `mean_accuracy`, `fwiou`: floats, nan without a counted pixel; `iou`: float by class
      name.

    Raises:
      ValueError: The matrix is not square, has entries that are not integers of at least 0, or does not match the
        names.
    """
    confusion = checked_confusion(confusion, class_names)
    hits, truth, guess = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    iou = ratio(hits, truth + guess - hits)
    iou[[name in absent for name in class_names]] = np.nan
    return {
        "miou": mean_of_present(iou),
        "iou": {name: float(value) for name, value in zip(class_names, iou)},
        "pixel_accuracy": float(ratio(hits.sum(), confusion.sum())),
        "mean_accuracy": mean_of_present(ratio(hits, truth)),
        "fwiou": float(ratio(np.nansum(truth * iou), truth.sum())),
    }


def border_report(
    sums: Mapping[str, np.ndarray], distances: Sequence[int] = (), absent: Sequence[int] = ()
) -> dict[str, float]:
    """Computes the scores near borders from the sums that are given.

    Args:
      sums: `boundary`, the result of `boundary_confusion`; `trimap`, the result of `trimap_confusions`; one, both or
        neither.
      distances: Distances of the trimaps.
      absent: Labels of the classes that the dataset does not have; they count in no mean.

    Returns:
      `boundary_iou`, the mean over the classes that have a boundary in ground truth or prediction, and `trimap_miou_R`
      for each distance R; nan if there are no such pixels.
    """
    report = {}
    if "boundary" in sums:
        # The last class stands for pixels outside the bands.
        outside = len(sums["boundary"]) - 1
        report["boundary_iou"] = _mean_iou(np.asarray(sums["boundary"], np.int64), (*absent, outside))
    for distance, confusion in zip(distances, sums.get("trimap", ())):
        report[f"trimap_miou_{distance}"] = _mean_iou(confusion, absent)
    return report


def _mean_iou(confusion: np.ndarray, left_out: Sequence[int]) -> float:
    hits = np.diag(confusion)
    iou = ratio(hits, confusion.sum(0) + confusion.sum(1) - hits)
    return mean_of_present(np.delete(iou, np.asarray(left_out, np.int64)))
