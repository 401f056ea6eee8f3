"""Draws examples of data sets as they stand on a sheet: an image with its mask, its boxes or its objects."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvjax.data.annotations import Objects
from cvjax.data.dataset import Target
from cvjax.data.objects import MaskedObjects
from cvjax.visual import canvas
from cvjax.visual.boxes import Boxes, class_color, draw_boxes
from cvjax.visual.overlay import tint
from cvjax.visual.page import THUMBNAIL
from cvjax.visual.palette import VOID, voc_palette

_TEXT = 20
"""Height of text in a thumbnail, which is shown at about half of its size."""
_NAMED = 8
"""Number of boxes above which their names would hide the picture; the legend tells their colors."""


def fit(image: np.ndarray, side: int = THUMBNAIL) -> tuple[np.ndarray, float]:
    """Returns uint8 [H, W, 3] whose longer side is `side` (enlarged by a whole factor at most), and the scale."""
    longer = max(image.shape[:2])
    scale = side / longer if longer > side else float(max(1, side // longer))
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return canvas.resize_photo(image, (height, width)), scale


def legend_of(target: Target, class_names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Returns the color of each class by its name, of those that are drawn; none for labels of whole images."""
    if target == "label":
        return {}
    if target == "boxes":
        return {name: class_color(label) for label, name in enumerate(class_names)}
    palette = voc_palette().tolist()
    return {name: _color(palette[label]) for label, name in enumerate(class_names) if name != "background"}


def draw_sample(target: Target, image: np.ndarray, truth: Any, class_names: Sequence[str]) -> np.ndarray:
    """Draws an image with its truth at the size of a thumbnail.

    Args:
      target: Kind of the truth.
      image: uint8 [H, W, 3].
      truth: Mask, uint8 [H, W]; `Objects` or `Boxes`; `MaskedObjects`; or a label, which is not drawn.
      class_names: Names of the classes by label.
    """
    if target == "label":
        return fit(image)[0]
    if target == "boxes":
        boxes = (
            truth if isinstance(truth, Boxes) else Boxes(truth.boxes, truth.labels, faint=truth.difficult | truth.crowd)
        )
        return draw_scaled(image, boxes, class_names)
    if target == "objects":
        classes = np.full(truth.mask.shape, 0, np.uint8)
        for number, label in zip(truth.numbers.tolist(), truth.labels.tolist()):
            classes[truth.mask == number] = label
        classes[truth.mask == VOID] = VOID
        picture = _tinted(image, classes, class_names)
        scale = max(picture.shape[:2]) / max(image.shape[:2])
        return canvas.outline_boxes(picture, truth.boxes * scale, truth.labels.tolist())
    return _tinted(image, truth, class_names)


def draw_scaled(image: np.ndarray, boxes: Boxes, class_names: Sequence[str]) -> np.ndarray:
    """Draws boxes over an image that is brought to the size of a thumbnail; names of a few boxes alone."""
    small, scale = fit(image)
    moved = dataclasses.replace(boxes, boxes=boxes.boxes * scale)
    return draw_boxes(small, moved, class_names, text=_TEXT if len(boxes.labels) <= _NAMED else 0)


def around(image: np.ndarray, box: Sequence[float]) -> tuple[slice, slice]:
    """Returns the part of an image that shows a box with its surroundings, as slices of rows and columns.

    It has the image's shape, and is at least a third as high and wide.
    """
    height, width = image.shape[:2]
    share = min(1.0, max(1 / 3, 2.5 * (box[3] - box[1]) / height, 2.5 * (box[2] - box[0]) / width))
    slices = []
    for low, high, side in ((box[1], box[3], height), (box[0], box[2], width)):
        shown = share * side
        start = int(np.clip((low + high - shown) / 2, 0, side - shown))
        slices.append(slice(start, start + max(1, round(shown))))
    return slices[0], slices[1]


def augmented_truth(
    target: Target, image: np.ndarray, truth: np.ndarray, more: dict[str, np.ndarray]
) -> tuple[np.ndarray, Any]:
    """Returns an augmented image and its truth as `draw_sample` takes them.

    Args:
      target: Kind of the truth.
      image, truth, more: What a task's `train_transform` returned: image, target and further arrays.
    """
    if target == "boxes":
        here = more["box_valid"]
        rows = (truth[here], more["labels"][here], more["difficult"][here], more["crowd"][here])
        height, width = more["size"].tolist()
        return image[:height, :width], Objects(*rows)
    if target == "objects":
        here = more["labels"] >= 0
        return image, MaskedObjects(truth, more["boxes"][here], more["numbers"][here], more["labels"][here])
    if target == "mask":
        # Nets without padding see more of the surroundings than they label.
        around = [(have - want) // 2 for have, want in zip(image.shape, truth.shape)]
        height, width = truth.shape
        image = image[around[0] : around[0] + height, around[1] : around[1] + width]
    return image, truth


def classes_shown(target: Target, truth: Any) -> list[int]:
    """Returns the labels of the classes that an example shows, each once."""
    if target == "label":
        return [int(truth)]
    labels = truth if target == "mask" else truth.labels
    return [label for label in np.unique(labels).tolist() if label != VOID]


def strip(images: Sequence[np.ndarray], most: int = 4) -> np.ndarray:
    """Joins the first few images to one picture, two in a row, each at half of a thumbnail's width."""
    cell, gap = THUMBNAIL // 2 - 2, 4
    smalls = []
    for image in images[:most]:
        scale = min(cell / image.shape[1], 1.5 * cell / image.shape[0])
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        smalls.append(canvas.resize_photo(image, (height, width)))
    rows = [smalls[start : start + 2] for start in range(0, len(smalls), 2)]
    heights = [max(image.shape[0] for image in row) for row in rows]
    picture = np.full((sum(heights) + gap * (len(rows) - 1), 2 * cell + gap, 3), 128, np.uint8)
    top = 0
    for row, height in zip(rows, heights):
        for number, image in enumerate(row):
            left = number * (cell + gap)
            picture[top : top + image.shape[0], left : left + image.shape[1]] = image
        top += height + gap
    return picture


def _tinted(image: np.ndarray, mask: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    small = fit(image)[0]
    return tint(small, canvas.resize_mask(mask, (small.shape[0], small.shape[1])), class_names)


def _color(color: Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = color
    return red, green, blue
