"""Decodes the objects of an image, each with a box, a class and the pixels that belong to it.

A record of such a dataset (`target="objects"`) is {"image", "mask", "id"} with one of these:

- The entries of `cvjax.data.annotations.Objects`, as the drawn scenes have them. Their masks hold classes, so the
  pixels of an object are those of its class inside its box. Objects marked as difficult, and crowds, are left out.
- `classes`, a second mask. Then `mask` numbers the objects, as VOC's `SegmentationObject` does, and `classes` is its
  `SegmentationClass`. Boxes are drawn around the pixels of each number.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvjax.data.decode import IGNORE, decode_example, decode_mask, fit_mask
from cvjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class MaskedObjects:
    """Holds the objects of an image and the mask that tells them apart.

    Attributes:
      mask: Number of the object that each pixel belongs to, uint8 [H, W]; 0 for none, 255 where nobody knows.
      boxes: Boxes in pixels, float32 [n, 4], see `cvjax.ops.detection.boxes`.
      numbers: Number of each object in the mask, int32 [n].
      labels: Class of each object, int32 [n].
    """

    mask: np.ndarray
    boxes: np.ndarray
    numbers: np.ndarray
    labels: np.ndarray


def decode_objects(record: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Decodes a record with objects.

    Args:
      record: Record as in the module's description.
      num_classes: Number of classes with the background, which is class 0.

    Returns:
      {"image": uint8 [H, W, 3], "objects": MaskedObjects}.

    Raises:
      DataError: A part is damaged or wrongly labeled, or their sizes differ.
    """
    name = str(record["id"])
    if "classes" in record:
        pair = decode_example(record, IGNORE)
        classes = decode_mask(record["classes"], f"{name}.png", num_classes)
        classes = fit_mask(classes, record["image"], pair["image"].shape[:2])
        if classes.shape != pair["mask"].shape:
            raise DataError(f"{name}.png: objects and classes are of different sizes; fetch the data set again.")
        return {"image": pair["image"], "objects": objects_of(pair["mask"], classes)}
    pair = decode_example(record, num_classes)
    clear = ~(record["difficult"] | record["crowd"])
    labels = record["labels"][clear]
    if labels.size and not 0 < labels.min() <= labels.max() < num_classes:
        raise DataError(f"{name}: an object's label is outside [1, {num_classes}); prepare the data set again.")
    return {"image": pair["image"], "objects": MaskedObjects(pair["mask"], record["boxes"][clear], labels, labels)}


def objects_of(mask: np.ndarray, classes: np.ndarray) -> MaskedObjects:
    """Finds the objects that a mask numbers; the class of an object is the commonest one among its pixels.

    Objects without a class are left out.

    Args:
      mask: Numbers of the objects from 1 on, uint8 [H, W]; 0 stands for no object, 255 for unknown.
      classes: Classes of the same pixels, uint8 [H, W]; 0 is background, 255 unknown.
    """
    boxes, numbers, labels = [], [], []
    for number in np.unique(mask):
        here = mask == number
        known = classes[here & (classes != 0) & (classes != IGNORE)]
        if number in (0, IGNORE) or not known.size:
            continue
        rows, columns = np.flatnonzero(here.any(1)), np.flatnonzero(here.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        numbers.append(number)
        labels.append(np.bincount(known).argmax())
    return MaskedObjects(
        mask, np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(numbers, np.int32), np.asarray(labels, np.int32)
    )
