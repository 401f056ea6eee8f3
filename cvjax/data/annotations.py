"""Defines the objects in boxes that every dataset gives, and checks their boxes.

A box is (x1, y1, x2, y2) in pixels of the upright image, see `cvjax.data.orientation`. It is half-open and float32, see
`cvjax.ops.detection.boxes`. The part of a box that lies beyond the image is cut off. A box that is empty, inverted or
wholly outside is bad. It raises an error that names the file. With "drop" it is left out and counted instead. With
"keep", which is for looking at data and no choice of a run, all boxes stay as they are stated.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from cvjax.data.decode import decode_image, image_size
from cvjax.data.orientation import Header, check_stated_size, turned_upright
from cvjax.errors import ConfigError, DataError

OnBadBoxes = Literal["error", "drop"]
KEEP: OnBadBoxes = "keep"  # pyright: ignore[reportAssignmentType]  # not in the type, from which flags are made


class Objects(NamedTuple):
    """Holds the objects of one image.

    Attributes:
      boxes: Boxes, float32 [N, 4].
      labels: Classes of the boxes, int32 [N]. They count from 0 without a background.
      difficult: Marks of objects that count neither as found nor as missed (VOC), bool [N].
      crowd: Marks of single boxes around many objects (COCO), bool [N].
      dropped_boxes: Number of bad boxes that were left out.
      proposals: Boxes that may hold an object, best first, float32 [P, 4]; None if nobody has proposed any.
      areas: Areas that decide the size of an object in scores, in square pixels of the image, float32 [N]. COCO states
        those of outlines. None stands for the areas of the boxes.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    dropped_boxes: int = 0
    proposals: np.ndarray | None = None
    areas: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Objects":
        """Returns the objects that a mask or an array of indices chooses, in its order."""
        boxes, labels, difficult, crowd = (array[rows] for array in self.arrays())
        areas = None if self.areas is None else self.areas[rows]
        return Objects(boxes, labels, difficult, crowd, self.dropped_boxes, self.proposals, areas)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns boxes, labels, difficult and crowd."""
        return self.boxes, self.labels, self.difficult, self.crowd

    def sized(self) -> np.ndarray:
        """Returns the areas that decide the sizes of the objects, float32 [N]: those stated, or those of the boxes."""
        return np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1) if self.areas is None else self.areas


def make_objects(
    boxes: Any, labels: Any, difficult: Any = None, crowd: Any = None, dropped_boxes: int = 0, areas: Any = None
) -> Objects:
    """Makes objects from anything that NumPy takes; `difficult` and `crowd` are False where they are not given.

    An area that is not a number is replaced by that of its box.
    """
    labels = np.asarray(labels, np.int32).reshape(-1)
    difficult, crowd = (
        np.zeros(labels.shape, bool) if flag is None else np.asarray(flag, bool) for flag in (difficult, crowd)
    )
    objects = Objects(np.asarray(boxes, np.float32).reshape(-1, 4), labels, difficult, crowd, dropped_boxes)
    if areas is None:
        return objects
    areas = np.asarray(areas, np.float32).reshape(labels.shape)
    return objects._replace(areas=np.where(np.isnan(areas), objects.sized(), areas))


def fit_objects(
    objects: Objects,
    image: Header,
    stated: tuple[int, int] | None,
    names: tuple[str, str],
    class_names: Sequence[str],
    on_bad_boxes: OnBadBoxes = "error",
    least_side: float = 0.0,
) -> Objects:
    """Checks the objects of an annotation against the header of its image, and turns them upright with the image.

    Args:
      objects: Objects as they were read.
      image: Header of the image's file.
      stated: Height and width that the annotation states for the image, see `boxes_are_upright`.
      names: Names of the annotation and of the image's file, for messages.
      class_names, on_bad_boxes, least_side: Arguments of `check_objects`.

    Raises:
      DataError: The annotation states another size than the file has, or a box is bad.
    """
    upright = check_stated_size(image, stated, *names)
    size = image.upright_size if upright else (image.height, image.width)
    objects = check_objects(objects, size, names[0], class_names, on_bad_boxes, least_side)
    return objects if upright else objects._replace(boxes=turned_upright(objects.boxes, image))


def check_objects(
    objects: Objects,
    size: tuple[int, int],
    name: str,
    class_names: Sequence[str],
    on_bad_boxes: OnBadBoxes = "error",
    least_side: float = 0.0,
) -> Objects:
    """Cuts the boxes off at the image's border, and refuses or drops bad ones.

    Args:
      objects: Objects as they were read.
      size: Height and width of the image, in pixels.
      name: Name of the annotation's file, for the message.
      class_names: Names of the classes by label, for the message.
      on_bad_boxes: "error" raises at the first bad box; "drop" leaves bad boxes out and adds to `dropped_boxes`;
        "keep" returns all boxes as they are stated, except that sides of an empty box become 0.
      least_side: Length that the sides of a good box exceed, in pixels. It is 1 where the corners are pixels that
        belong to the box. Tools write equal corners for an empty box, and these then do not pass for a box of one
        pixel.

    Returns:
      The objects with good boxes.

    Raises:
      DataError: A box is bad.
    """
    check_on_bad_boxes(on_bad_boxes)
    boxes = objects.boxes
    empty = ~np.asarray(np.all(boxes[:, 2:] - boxes[:, :2] > least_side, axis=1))  # not a number is not longer, either
    if on_bad_boxes == KEEP:
        # An inverted box stays so; one between equal corners is empty only to a reader who knows `least_side`.
        shut = (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] - boxes[:, :2] <= least_side)
        second = np.where(shut, boxes[:, :2], boxes[:, 2:])
        return objects._replace(boxes=np.concatenate([boxes[:, :2], second], axis=1))
    height, width = size
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    outside = ~np.asarray(np.all(clipped[:, 2:] > clipped[:, :2], axis=1))
    bad = empty | outside
    if not bad.any():
        return objects._replace(boxes=clipped)
    if on_bad_boxes == "error":
        first = int(np.flatnonzero(bad)[0])
        # The message shows the corners as the file has them: readers have subtracted this from x1 and y1.
        stated = boxes[first] + (least_side, least_side, 0, 0)
        corners = ", ".join(f"{value:g}" for value in stated)
        what = "empty or inverted" if empty[first] else f"outside its image of {height}x{width} (height x width)"
        raise DataError(
            f"{name}: box {first + 1} of {len(boxes)}, {class_names[objects.labels[first]]} at ({corners}), is {what}; "
            "mend the annotation, or drop such boxes and count them with --on-bad-boxes drop (of a run: --input."
            "on-bad-boxes drop)."
        )
    kept = objects._replace(boxes=clipped, dropped_boxes=objects.dropped_boxes + int(bad.sum()))
    return kept.take(~bad)


def decode_boxes_example(record: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Decodes a dataset's record, {"image": bytes, "id": str} and the entries of `Objects`.

    Returns:
      {"image": uint8 [H, W, 3], as `decode_image` gives it, "boxes": `Objects`}.

    Raises:
      DataError: The image is damaged, or a label is outside the classes.
    """
    name = str(record["id"])
    objects = Objects(**{field: record[field] for field in Objects._fields if field in record})
    wrong = (objects.labels < 0) | (objects.labels >= num_classes)
    if wrong.any():
        label = int(objects.labels[wrong][0])
        raise DataError(f"{name}: label {label} is outside [0, {num_classes}); correct it or the number of classes.")
    return {"image": decode_image(record["image"], name), "boxes": objects}


def check_on_bad_boxes(value: str) -> None:
    """Raises ConfigError unless the value is one of `OnBadBoxes`, or "keep"."""
    if value not in ("error", "drop", KEEP):
        raise ConfigError(f'on_bad_boxes is {value!r}: give "error" or "drop".')


@dataclasses.dataclass(frozen=True)
class StoredObjects:
    """Reads the objects of a TFDS record: ours, of `BoxesBuilder`, or those of TFDS's own sets and of `scenes`.

    Ours hold pixels and have been checked. The others hold fractions of the image. These are converted to pixels and
    rounded to thousandths, so that whole numbers come back as such.

    Attributes:
      class_names: Names of the classes by label, for messages.
      first_label: Number that the first label is stored as.
      inclusive: Whether the corners were pixels counted from 1 that belong to the box, as in VOC's XML.
      on_bad_boxes: Treatment of bad boxes, see `check_objects`.
    """

    class_names: tuple[str, ...]
    first_label: int = 0
    inclusive: bool = False
    on_bad_boxes: OnBadBoxes = "error"

    def __call__(self, feature: Any, image: bytes, name: str) -> Objects:
        """Reads the objects from the features of a `tf.train.Example`, the encoded image and the record's name.

        Raises:
          DataError: A box is bad, or the image's header is damaged.
        """

        def numbers(key: str, kind: str) -> np.ndarray | None:
            return np.array(getattr(feature[f"objects/{key}"], kind).value) if f"objects/{key}" in feature else None

        labels = numbers("label", "int64_list")
        labels = np.zeros(0) if labels is None else labels
        if "objects/box" in feature:
            difficult, crowd = (numbers(key, "int64_list") for key in ("difficult", "crowd"))
            return make_objects(numbers("box", "float_list"), labels - self.first_label, difficult, crowd)
        height, width = image_size(image, name)
        fractions = numbers("bbox", "float_list")  # y first
        fractions = np.zeros((0, 4)) if fractions is None else fractions.reshape(-1, 4)[:, [1, 0, 3, 2]]
        boxes = np.round(fractions * (width, height, width, height), 3)
        boxes[:, :2] -= self.inclusive
        difficult, crowd, areas = (numbers(key, "int64_list") for key in ("is_difficult", "is_crowd", "area"))
        objects = make_objects(boxes, labels - self.first_label, difficult, crowd, areas=areas)
        return check_objects(
            objects, (height, width), name, self.class_names, self.on_bad_boxes, least_side=float(self.inclusive)
        )
