"""Augments images with boxes on the host by changes of geometry, which move the boxes too.

This is the counterpart of `cvjax.tasks.scale_crop`: frozen, picklable dataclasses from uint8 images to uint8 images,
before batching. All changes of geometry are one map: a rectangle of the image is resized to the upper left corner of
the result, and the rest is padded. Boxes go through the same map. Interpolation is bilinear, also for shrinking, as in
the training of the papers' and torchvision's detectors.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import cv2
import numpy as np

from cvjax.data.annotations import Objects, OnBadBoxes, make_objects
from cvjax.data.box_rows import mirrored, moved, padded
from cvjax.data.config import DataConfig
from cvjax.data.dataset import Dataset, image_sizes
from cvjax.data.order import Bucket, batches_by_size, even_parts
from cvjax.datasets.proposals.boxes import Mode
from cvjax.errors import ConfigError, DataError
from cvjax.imagenet import MEAN_COLOR
from cvjax.tasks.random_piece import draw_piece
from cvjax.tasks.scale_crop import blank_image, check_probability, check_size

_LEAST_SCALE = 0.25  # zooming out pads the image before it is resized, so half the scale is four times the work


@dataclasses.dataclass(frozen=True)
class DetectionData(DataConfig):
    """Configures how images with boxes are read and augmented.

    Attributes: those of `DataConfig`, and
      crop: Height and width of the model's input, in pixels.
      sizes: Heights and widths to use instead of `crop`; each batch takes one of them at random (multi-scale training).
        Empty is off.
      short_side: Length in pixels to which the image's shorter side is resized (600 in Fast and Faster R-CNN); None
        resizes the image to fill `crop`.
      long_side: Largest length of the image's longer side, in pixels; the image is made smaller to keep it. None sets
        no limit.
      keep_aspect: Whether to keep the aspect ratio of images; False stretches them to `crop` (YOLO) and allows neither
        `short_side` nor `long_side`.
      boxes: Largest number of boxes per image; a random subset is kept beyond it, and the dropped boxes are counted.
      proposals: Number of proposals per image, in training and evaluation, for detectors that need them; 0 for all
        others. Proposals missing on disk are made before the run.
      proposal_mode: Method that makes proposals, see `cvjax.datasets.proposals.boxes`.
      proposals_from: Folder of proposal sets DATASET/SPLIT to take instead, see `cvjax.datasets.proposals.files`.
      on_bad_boxes: Whether to stop at a box that is empty, inverted or outside its image, or to drop and count it.
      random_crop: Probability of cutting a random piece first (drawn as Inception's crop is).
      min_area: Smallest area of such a piece, as a fraction of the image's area.
      max_aspect: Largest aspect ratio of such a piece; the smallest is its inverse.
      min_scale: Smallest factor on the size of objects; the logarithm of the factor is uniform.
      max_scale: Largest factor on the size of objects.
      shift: Largest shift of the center in each direction, as a fraction of the sides (0.2 in YOLO).
      keep_boxes: Smallest fraction of a box's area that must be visible for the box to stay.

    Raises:
      ConfigError: A value is outside its range.
    """

    crop: tuple[int, int] = (512, 512)
    sizes: tuple[tuple[int, int], ...] = ()
    short_side: int | None = None
    long_side: int | None = None
    keep_aspect: bool = True
    boxes: int = 64
    proposals: int = 0
    proposal_mode: Mode = "fast"
    proposals_from: str | None = None
    on_bad_boxes: OnBadBoxes = "error"
    random_crop: float = 0.0
    min_area: float = 0.3
    max_aspect: float = 2.0
    min_scale: float = 1.0
    max_scale: float = 1.0
    shift: float = 0.0
    keep_boxes: float = 0.25

    def __post_init__(self) -> None:
        ResizeAndPad(self.crop, self.short_side, self.long_side, self.keep_aspect)  # says what is wrong with these
        _check_counts(self.boxes, self.proposals)
        for size in self.sizes:
            check_size("sizes", size)
        if self.sizes and self.short_side:
            raise ConfigError("short_side decides the size of images, not multi-scale training: leave out one of them.")
        for name in ("random_crop", "flip", "keep_boxes"):
            check_probability(name, getattr(self, name))
        if not _LEAST_SCALE <= self.min_scale <= self.max_scale:
            raise ConfigError(
                f"min_scale is {self.min_scale} and max_scale {self.max_scale}: give {_LEAST_SCALE} <= min <= max."
            )
        if not 0 < self.min_area <= 1 or self.max_aspect < 1 or not 0 <= self.shift <= 0.5:
            raise ConfigError(
                f"min_area is {self.min_area}, max_aspect {self.max_aspect} and shift {self.shift}: give a fraction "
                "above 0, 1 or more, and 0 to 0.5, so that the center stays in the image."
            )


@dataclasses.dataclass(frozen=True)
class ResizeAndPad:
    """Resizes an image and pads it at the bottom and right to a canvas of one size.

    Attributes:
      size: Height and width of the result, in pixels.
      short_side: Length of the image's shorter side, in pixels; None resizes the image to fill `size`.
      long_side: Largest length of the image's longer side, in pixels; None sets no limit.
      keep_aspect: Whether to keep the image's aspect ratio; False stretches it to `size`.
      fill: RGB color (0 to 255) of the padding: the dataset's mean, which normalizes to about 0.

    Raises:
      ConfigError: A value is outside its range.
    """

    size: tuple[int, int]
    short_side: int | None = None
    long_side: int | None = None
    keep_aspect: bool = True
    fill: tuple[int, int, int] = MEAN_COLOR

    def __post_init__(self) -> None:
        check_size("size", self.size)
        for name in ("short_side", "long_side"):
            side = getattr(self, name)
            if side is not None and side < 1:
                raise ConfigError(f"{name} is {side}: give a length in pixels, 1 or more.")
        if self.short_side and self.long_side and self.short_side > self.long_side:
            raise ConfigError(
                f"short_side is {self.short_side} and long_side {self.long_side}: give no more than that."
            )
        if not self.keep_aspect and (self.short_side or self.long_side):
            raise ConfigError("images are stretched to `size` (keep_aspect False): leave out short_side and long_side.")

    def fitted(self, shape: tuple[int, int], inside: bool) -> tuple[int, int]:
        """Returns height and width of an image of `shape` after resizing; `inside` keeps them within `size`."""
        if not self.keep_aspect:
            height, width = self.size
            return height, width
        limits = []
        if inside or not self.short_side:
            limits += [Fraction(have, want) for have, want in zip(self.size, shape)]
        if self.short_side:
            limits.append(Fraction(self.short_side, min(shape)))
        if self.long_side:
            limits.append(Fraction(self.long_side, max(shape)))
        scale = min(limits)
        height, width = (max(1, side * scale.numerator // scale.denominator) for side in shape)
        return height, width

    def place(self, image: np.ndarray) -> np.ndarray:
        """Returns the image, uint8 [h, w, 3], padded to uint8 [*size, 3]."""
        below, beside = (have - want for have, want in zip(self.size, image.shape))
        if below == beside == 0:
            return image
        return cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=self.fill)


@dataclasses.dataclass(frozen=True)
class BoxTrainTransform:
    """Crops, scales, shifts and mirrors an image and its boxes at random.

    With the configured probability a piece is cut first. The window to show is then scaled and shifted relative to that
    piece, and resized to the canvas. A box is dropped if its center is outside or too little of it is visible; other
    boxes are clipped at the border. If the canvas is too small for `short_side`, the image becomes smaller than that,
    such as an upright image in a wide canvas. If an example has more boxes than the batch has rows, a random subset is
    kept, and the dropped boxes are counted.

    Attributes:
      data: Size, bounds and probabilities.
      fill: RGB color (0 to 255) of the padding: the dataset's mean, which normalizes to about 0.
    """

    data: DetectionData
    fill: tuple[int, int, int] = MEAN_COLOR

    @property
    def frame(self) -> ResizeAndPad:
        """Returns the canvas of the result."""
        data = self.data
        return ResizeAndPad(data.crop, data.short_side, data.long_side, data.keep_aspect, self.fill)

    def __call__(
        self, image: np.ndarray, objects: Objects, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
        """Transforms `image`, uint8 [H, W, 3], and its objects.

        Returns:
          The image, uint8 [*crop, 3]; the boxes, float32 [boxes, 4]; and further arrays: `labels`, `difficult`,
          `crowd`, `box_valid`, `dropped_boxes` (bad ones of the source, and those beyond the configured number) and
          `size` (height and width without padding).
        """
        top, left, height, width = self._draw_window(image.shape[:2], rng)
        mirror = rng.random() < self.data.flip
        shown = self.frame.fitted((height, width), inside=True)
        image = _cut(image, (top, left, height, width), self.fill)
        if shown != (height, width):
            image = cv2.resize(image, shown[::-1], interpolation=cv2.INTER_LINEAR)
        objects = moved(objects, (top, left), _factors((height, width), shown), shown, self.data.keep_boxes)
        if mirror:
            image = cv2.flip(image, 1)
            proposals = objects.proposals if objects.proposals is None else mirrored(objects.proposals, shown[1])
            objects = objects._replace(boxes=mirrored(objects.boxes, shown[1]), proposals=proposals)
        excess = len(objects.boxes) - self.data.boxes
        if excess > 0:
            kept = np.sort(rng.permutation(len(objects.boxes))[: self.data.boxes])
            objects = objects.take(kept)._replace(dropped_boxes=objects.dropped_boxes + excess)
        boxes, more = padded(objects, self.data.boxes, self.data.proposals)
        return self.frame.place(image), boxes, {**more, "size": np.array(shown, np.int32)}

    def _draw_window(self, shape: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draws top, left, height and width of the window, in pixels of the image; it may reach beyond the image."""
        top, left, height, width = 0, 0, *shape
        if rng.random() < self.data.random_crop:
            top, left, height, width = draw_piece(shape, self.data.min_area, 1.0, self.data.max_aspect, rng)
        scale = math.exp(rng.uniform(math.log(self.data.min_scale), math.log(self.data.max_scale)))
        down, right = rng.uniform(-self.data.shift, self.data.shift, 2)
        high, wide = max(1, round(height / scale)), max(1, round(width / scale))
        middle_row, middle_column = top + height * (0.5 + down), left + width * (0.5 + right)
        return round(middle_row - high / 2), round(middle_column - wide / 2), high, wide


@dataclasses.dataclass(frozen=True)
class BoxEvalTransform(ResizeAndPad):
    """Resizes and pads the whole image, with all its boxes.

    Attributes: those of `ResizeAndPad`, and
      max_boxes: Number of rows for an image's boxes.
      max_proposals: Number of rows for an image's proposals; 0 leaves `proposals` and `proposal_valid` out.

    Raises:
      ConfigError: A value is outside its range.
    """

    max_boxes: int = 100
    max_proposals: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self.max_boxes, self.max_proposals)

    def __call__(
        self, image: np.ndarray, objects: Objects, name: str = "the image"
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int], Mapping[str, np.ndarray]]:
        """Transforms `image`, uint8 [H, W, 3], and its objects; `name` appears in errors.

        Returns:
          The image, uint8 [*size, 3]; the boxes in its pixels, float32 [max_boxes, 4]; the height and width without
          padding; and further arrays: `labels`, `difficult`, `crowd`, `box_valid`, `dropped_boxes`, `areas` (float32
          [max_boxes], in square pixels of the original, see `Objects`), `scale` (float32 [2], the result's height and
          width divided by the original's) and `original_size` (int32 [2], height and width). See
          `cvjax.data.box_rows.restore_boxes`.

        Raises:
          DataError: The image does not fit, or has more boxes than `max_boxes`.
        """
        shape = image.shape[:2]
        shown = self.fitted(shape, inside=False)
        if shown[0] > self.size[0] or shown[1] > self.size[1]:
            raise DataError(
                f"{name} comes to {shown[0]}x{shown[1]} and does not fit in {self.size[0]}x{self.size[1]}: raise the "
                "evaluation's size to at least that, or lower short_side or long_side."
            )
        count = len(objects.boxes)
        if count > self.max_boxes:
            raise DataError(too_many_boxes(name, count, self.max_boxes))
        if shown != shape:
            image = cv2.resize(image, shown[::-1], interpolation=cv2.INTER_LINEAR)
        scale = _factors(shape, shown)
        factors = scale[[1, 0, 1, 0]]
        areas = np.zeros(self.max_boxes, np.float32)
        areas[:count] = objects.sized()
        proposals = objects.proposals if objects.proposals is None else objects.proposals * factors
        objects = objects._replace(boxes=objects.boxes * factors, proposals=proposals)
        boxes, more = padded(objects, self.max_boxes, self.max_proposals)
        more |= {"areas": areas, "scale": scale.astype(np.float32), "original_size": np.array(shape, np.int32)}
        return self.place(image), boxes, shown, more

    def blank(self) -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
        """Returns the image, boxes and further arrays of a row that holds no example."""
        nothing = make_objects([], [])._replace(proposals=np.zeros((0, 4), np.float32))
        boxes, more = padded(nothing, self.max_boxes, self.max_proposals)
        areas = np.zeros(self.max_boxes, np.float32)
        more |= {"areas": areas, "scale": np.ones(2, np.float32), "original_size": np.zeros(2, np.int32)}
        return blank_image(self.size, self.fill), boxes, more


def too_many_boxes(name: str, count: int, limit: int) -> str:
    """Returns the sentence about an image with more boxes than an evaluation has room for."""
    return (
        f"{name} has {count} boxes and evaluation must see all; give --eval.boxes (of evaluate: --boxes) at least that"
        f" many, more than {limit}."
    )


@dataclasses.dataclass(frozen=True)
class MultiScale:
    """Draws another size for every batch from a few sizes, so that each shape is compiled once.

    Attributes:
      transform: Transform of an example; the size is drawn from the `sizes` of its data.

    Raises:
      ConfigError: There are no sizes.
    """

    transform: BoxTrainTransform

    def __post_init__(self) -> None:
        if not self.transform.data.sizes:
            raise ConfigError("multi-scale training has no sizes: give at least one, height and width.")

    def for_batch(self, seed: int, number: int) -> BoxTrainTransform:
        """Returns the transform of batch `number`, the same on every host and worker."""
        data = self.transform.data
        drawn = int(np.random.default_rng((seed, number)).integers(len(data.sizes)))
        return dataclasses.replace(self.transform, data=dataclasses.replace(data, crop=tuple(data.sizes[drawn])))

    def __call__(
        self, image: np.ndarray, objects: Objects, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
        """Transforms an example at the transform's own size; the loader calls `for_batch` instead."""
        return self.transform(image, objects, rng)


def box_buckets(
    source: Dataset, transform: BoxEvalTransform, batch_size: int, multiple: int | None = 32
) -> tuple[Bucket, ...]:
    """Returns the buckets of an evaluation: the images that share a batch, and the batch's height and width.

    The buckets are those of `batches_by_size` for the resized images. Without a `short_side` all images have the
    transform's own size and stay in the dataset's order.
    """
    if not transform.short_side:
        return tuple((transform.size, part) for part in even_parts(range(len(source)), batch_size))
    sizes = [size and transform.fitted(size, inside=False) for size in image_sizes(source)]
    return batches_by_size(sizes, batch_size, multiple)


def _check_counts(boxes: int, proposals: int) -> None:
    if boxes < 1 or proposals < 0:
        raise ConfigError(f"boxes are {boxes} and proposals {proposals}: give 1 or more, and 0 or more.")


def _factors(shape: Sequence[int], shown: Sequence[int]) -> np.ndarray:
    """Returns the scale factors of height and width from `shape` to `shown`, float64 [2]."""
    return np.array(shown, np.float64) / shape


def _cut(image: np.ndarray, window: tuple[int, int, int, int], fill: tuple[int, int, int]) -> np.ndarray:
    """Cuts a window (top, left, height, width) out of an image, uint8 [H, W, 3]; pixels beyond the image are filled."""
    top, left, height, width = window
    above, before = max(0, -top), max(0, -left)
    below, beside = max(0, top + height - image.shape[0]), max(0, left + width - image.shape[1])
    image = image[max(0, top) : top + height, max(0, left) : left + width]
    if above or below or before or beside:
        image = cv2.copyMakeBorder(image, above, below, before, beside, cv2.BORDER_CONSTANT, value=fill)
    return image
