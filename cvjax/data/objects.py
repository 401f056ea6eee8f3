"""Objects of an image, each with a box, a class and the pixels that are its own.

A record of such a set (`target="objects"`) is {"image", "mask", "id"} with either of

- the entries of `cvjax.data.annotations.Objects`, as the drawn scenes have them. Their masks hold classes, so the
  pixels of an object are those of its class inside its box. Objects marked as difficult, and crowds, are left out.
- `classes`, a second mask: then `mask` numbers the objects, as VOC's `SegmentationObject` does, and `classes` is its
  `SegmentationClass`. Boxes are drawn around the pixels of each number.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvjax.data.dataset import FolderSource, Record, read_file
from cvjax.data.decode import IGNORE, decode_example, decode_mask
from cvjax.datasets.voc.files import IMAGES, LISTS, MASKS
from cvjax.datasets.voc.segmentation import NAME, VOC_CLASSES
from cvjax.errors import DataError

OBJECT_MASKS = "SegmentationObject"
_SPLITS = {"train": ("train",), "val": ("val",), "trainval": ("train", "val")}


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
      DataError: a part is damaged or wrongly labelled, or their sizes differ.
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


class VocObjects(FolderSource):
    """Pairs of image and `SegmentationObject`, with the `SegmentationClass` beside it."""

    def __getitem__(self, index: int) -> Record:
        record = super().__getitem__(index)
        objects = pathlib.Path(self._pairs[index][2])
        record["classes"] = read_file(str(objects.parent.parent / MASKS / objects.name))
        return record


def find_voc_objects(data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> pathlib.Path | None:
    """The folder `VOC2012` of an unpacked devkit that has the masks of objects, if there is one."""
    below = (pathlib.Path(), pathlib.Path("VOC2012"), pathlib.Path("VOCdevkit", "VOC2012"))
    roots = (place / folder for place in _places(data_dir, manual_dir) for folder in below)
    return next((root for root in roots if (root / OBJECT_MASKS).is_dir()), None)


def _places(data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> list[pathlib.Path]:
    return [place for place in (manual_dir, data_dir, data_dir / "downloads") if place is not None]


def open_voc_objects(split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> VocObjects:
    """Opens the objects of an unpacked VOC 2012: `train` (1,464 images), `val` (1,449) or `trainval`.

    Args:
      split: its name.
      data_dir, manual_dir: where the devkit is looked for; also in `data_dir`'s `downloads`.

    Raises:
      DataError: there is no such split, or no unpacked devkit with the masks of objects.
    """
    if split not in _SPLITS:
        raise DataError(f"the objects of {NAME} have no split {split!r}; choose one of {', '.join(_SPLITS)}.")
    root = find_voc_objects(data_dir, manual_dir)
    if root is None:
        looked = " or ".join(map(str, _places(data_dir, manual_dir)))
        raise DataError(
            f"no VOC 2012 with a folder {OBJECT_MASKS} is in {looked}; unpack"
            " VOCtrainval_11-May-2012.tar and name the folder with --input.manual-dir."
        )
    keys = [key for part in _SPLITS[split] for key in read_file(str(root / LISTS / f"{part}.txt")).decode().split()]
    pairs = [(key, root / IMAGES / f"{key}.jpg", root / OBJECT_MASKS / f"{key}.png") for key in keys]
    return VocObjects(NAME, split, pairs, class_names=VOC_CLASSES)
