"""Scales, crops and mirrors images together with the boxes of their objects, padded to a fixed number of boxes."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cvjax.data.box_rows import NO_CLASS, mirrored
from cvjax.data.objects import MaskedObjects
from cvjax.errors import ConfigError, DataError
from cvjax.tasks.scale_crop import ResizeAndFill, ScaleAndCrop, ScaleAndCropData, resize_pair

_SMALLEST = 4.0
"""Least side of a box in training, in pixels; boxes with a shorter side are dropped."""


@dataclasses.dataclass(frozen=True)
class ObjectMasksData(ScaleAndCropData):
    """Configures how images with objects are read and augmented.

    Attributes: those of `ScaleAndCropData`, and
      boxes: Largest number of boxes per crop; a random subset is kept beyond it.
      jitter: Largest shift of each side of a box, as a fraction of the box's width or height; predicted boxes are never
        exact.
      visible: Smallest fraction of an object's box that must lie in the crop for the object to stay.

    Raises:
      ConfigError: A value is outside its range.
    """

    crop: tuple[int, int] = (321, 321)
    min_scale: float = 0.75
    max_scale: float = 1.33
    scale_step: float = 0.0
    boxes: int = 8
    jitter: float = 0.1
    visible: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_most(self.boxes)
        if not 0 <= self.jitter < 0.5 or not 0 < self.visible <= 1:
            raise ConfigError(
                f"jitter is {self.jitter} and visible {self.visible}: give a jitter from 0 to below 0.5, and a fraction"
                " above 0 and up to 1 that must be visible."
            )


@dataclasses.dataclass(frozen=True)
class ObjectCrop(ScaleAndCrop):
    """Scales, crops and mirrors an image and its objects at random. Attributes are those of `ScaleAndCrop`."""

    data: ObjectMasksData

    def __call__(
        self, image: np.ndarray, objects: MaskedObjects, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
        """Returns the crop, uint8 [*crop, 3], its mask of object numbers, uint8 [*crop], and `pad_objects`."""
        mask, size = objects.mask, objects.mask.shape
        if self.data.resize is not None:
            image, mask = resize_pair(image, mask, self.data.resize)
        scale, corner, mirror = self.draw(mask.shape, rng)
        order = rng.permutation(len(objects.boxes))
        moves = rng.uniform(-self.data.jitter, self.data.jitter, (len(order), 4)).astype(np.float32)
        factors = np.asarray([float(scale) * new / old for new, old in zip(mask.shape, size)], np.float32)
        boxes = objects.boxes * np.tile(factors[::-1], 2) - np.tile(np.asarray(corner, np.float32)[::-1], 2)
        if mirror:
            boxes = mirrored(boxes, self.data.crop[1])
        image, mask = self.cut(image, mask, scale, corner, mirror)
        seen = _clipped(boxes, self.data.crop)
        sides = seen[:, 2:] - seen[:, :2]
        kept = (sides.min(1, initial=np.inf) >= _SMALLEST) & (sides.prod(1) >= self.data.visible * _area(boxes))
        seen = _clipped(seen + moves * np.tile(sides, 2), self.data.crop)
        chosen = order[kept[order]][: self.data.boxes]
        return image, mask, pad_objects(seen[chosen], objects.numbers[chosen], objects.labels[chosen], self.data.boxes)


@dataclasses.dataclass(frozen=True)
class ObjectEvalTransform(ResizeAndFill):
    """Pads an image and its objects to one size.

    Attributes: those of `ResizeAndFill`, and
      most: Number of rows for an image's boxes.
    """

    most: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_most(self.most)

    def __call__(
        self, image: np.ndarray, objects: MaskedObjects, name: str = "the image"
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int], Mapping[str, np.ndarray]]:
        """Returns the results of `pad`, for the mask that numbers the objects, and of `pad_objects`.

        Raises:
          DataError: The image is larger than `size`, or has more objects than `most`.
        """
        if len(objects.boxes) > self.most:
            raise DataError(
                f"{name} has {len(objects.boxes)} objects; give --eval.boxes (of evaluate: --boxes) at least that many."
            )
        padded, mask, size = self.pad(image, objects.mask, name)
        factors = np.asarray([new / old for new, old in zip(size, objects.mask.shape)], np.float32)
        boxes = objects.boxes * np.tile(factors[::-1], 2)
        return padded, mask, size, pad_objects(boxes, objects.numbers, objects.labels, self.most)

    def blank(self) -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
        """Returns the image, mask and boxes of a row that holds no example."""
        none = np.zeros(0, np.int32)
        return *self.padding(), pad_objects(np.zeros((0, 4), np.float32), none, none, self.most)


def pad_objects(boxes: np.ndarray, numbers: np.ndarray, labels: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """Pads objects to a fixed number of rows: `boxes` float32 [most, 4], `numbers` and `labels` int32 [most].

    Padding is a box of one pixel with number 0 and label `NO_CLASS`.
    """
    missing = most - len(boxes)
    filling = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (missing, 1))
    return {
        "boxes": np.concatenate([boxes, filling]).astype(np.float32),
        "numbers": np.pad(numbers, (0, missing)).astype(np.int32),
        "labels": np.pad(labels, (0, missing), constant_values=NO_CLASS).astype(np.int32),
    }


def check_most(most: int) -> None:
    """Raises ConfigError unless there is room for at least one box."""
    if most < 1:
        raise ConfigError(f"boxes of an image are {most}: give 1 or more.")


def _clipped(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.clip(boxes, 0, np.asarray([size[1], size[0]] * 2, np.float32))


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
