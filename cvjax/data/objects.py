"""Objects of an image, each with a box, a class and the pixels that are its own.

A record of such a set (`target="objects"`) is {"image", "mask", "id"} with either of

- the entries of `cvjax.data.annotations.Objects`, as the drawn scenes have them. Their masks hold classes, so the
  pixels of an object are those of its class inside its box. Objects marked as difficult, and crowds, are left out.
- `classes`, a second mask: then `mask` numbers the objects, as VOC's `SegmentationObject` does, and `classes` is its
  `SegmentationClass`. Boxes are drawn around the pixels of each number.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvjax.data.decode import IGNORE, decode_example, decode_mask
from cvjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class MaskedObjects:
    """The objects of an image and the mask that tells them apart.

    Attributes:
      mask: uint8 [H, W], the number of the object that a pixel belongs to; 0 for none, 255 where nobody knows.
      boxes: float32 [n, 4], see `cvjax.ops.detection.boxes`, in pixels.
      numbers: int32 [n], the number of each in the mask.
      labels: int32 [n], the class of each.
    """

    mask: np.ndarray
    boxes: np.ndarray
    numbers: np.ndarray
    labels: np.ndarray


def decode_objects(record: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Decodes a record with objects.

    Args:
      record: see the module's description.
      num_classes: with the background, which is class 0.

    Returns:
      {"image": uint8 [H, W, 3], "objects": MaskedObjects}.

    Raises:
      DataError: a part is damaged or wrongly labeled, or their sizes differ.
    """
    name = str(record["id"])
    if "classes" in record:
        pair = decode_example(record, IGNORE)
        classes = decode_mask(record["classes"], f"{name}.png", num_classes)
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
    """The objects that a mask numbers, each of the class that most of its pixels are of.

    Args:
      mask: uint8 [H, W], numbers from 1 on; 0 is none, 255 unknown.
      classes: uint8 [H, W] of the same pixels; 0 is background, 255 unknown. Objects without a class are left out.
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
