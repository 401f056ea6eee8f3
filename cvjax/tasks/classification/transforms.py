"""Augments labeled images on the host: a crop of one size, flipped, varied by a policy, partly erased.

This is the counterpart of `cvjax.tasks.scale_crop` for images with a label, which does not change. Every transform is a
frozen, picklable dataclass. Randomness comes from the Generator that is passed in.
"""

import dataclasses
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from cvjax.data.config import DataConfig
from cvjax.errors import ConfigError
from cvjax.imagenet import MEAN_COLOR, middle, resized_shape
from cvjax.tasks.classification.auto_augment import POLICIES, Policy
from cvjax.tasks.random_piece import draw_piece
from cvjax.tasks.scale_crop import blank_image, check_probability, check_size

Interpolation = Literal["bilinear", "bicubic"]
CropMode = Literal["resized", "padded"]

NO_LABEL = np.int32(-1)
"""The label of a row that stands for no example."""

_ENLARGING = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class ClassificationData(DataConfig):
    """Configures how labeled images are read and augmented.

    Attributes: those of `DataConfig`, and
      crop_mode: Kind of crop. `resized` cuts a piece of random area and shape and resizes it (Inception, 1409.4842).
        `padded` cuts a piece of the crop's size from the image with a border around it, as is usual for CIFAR.
      min_area: Smallest piece, as a fraction of the image's area; only for `resized`.
      max_aspect: Largest ratio of a piece's longer side to its shorter one; only for `resized`.
      padding: Width of the border in pixels; only for `padded`. An image of another size is first brought to the crop's
        size by `CenterCrop`.
      interpolation: Interpolation for enlarging, and for the resizing before an evaluation's crop.
      auto_augment: Augmentation policy. `rand` is RandAugment, `trivial` is TrivialAugment, `auto` is AutoAugment's
        policy for ImageNet. None is off.
      num_ops: Number of operations of RandAugment.
      magnitude: Magnitude of RandAugment's operations, from 0 to 30.
      random_erasing: Probability of erasing a rectangle (1708.04896).

    Raises:
      ConfigError: A value is outside its range.
    """

    crop_mode: CropMode = "resized"
    min_area: float = 0.08
    max_aspect: float = 4 / 3
    padding: int = 4
    interpolation: Interpolation = "bilinear"
    auto_augment: Literal["rand", "trivial", "auto"] | None = None
    num_ops: int = 2
    magnitude: int = 9
    random_erasing: float = 0.0

    def __post_init__(self) -> None:
        check_size("crop", self.crop)
        check_probability("flip", self.flip)
        check_probability("random_erasing", self.random_erasing)
        if not 0 < self.min_area <= 1:
            raise ConfigError(f"min_area is {self.min_area}: give 0 < min_area <= 1.")
        if self.max_aspect < 1 or self.padding < 0:
            raise ConfigError(f"max_aspect is {self.max_aspect} and padding {self.padding}: give at least 1 and 0.")
        if self.auto_augment is not None:
            if self.auto_augment not in POLICIES:
                raise ConfigError(f"there is no policy {self.auto_augment!r}; choose one of {', '.join(POLICIES)}.")
            POLICIES[self.auto_augment](self.num_ops, self.magnitude, MEAN_COLOR)  # says what is wrong with these two


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Cuts a random crop, brings it to one size, flips it, applies a policy and erases a part, in this order.

    Attributes:
      data: Kind and size of the crop, probabilities, and the policy.
      fill: RGB color (0 to 255) of borders and erased pixels: the dataset's mean, which normalizes to about 0.
    """

    data: ClassificationData
    fill: tuple[int, int, int] = MEAN_COLOR

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Transforms `image`, uint8 [H, W, 3], to uint8 [*crop, 3]; returns it with the unchanged label."""
        if self.data.crop_mode == "padded":
            image = self._cut_padded(image, rng)
        else:
            top, left, height, width = draw_piece(image.shape[:2], self.data.min_area, 1.0, self.data.max_aspect, rng)
            image = resize(image[top : top + height, left : left + width], self.data.crop, self.data.interpolation)
        if rng.random() < self.data.flip:
            image = cv2.flip(image, 1)
        if self.data.auto_augment is not None:
            image = self._make_policy(self.data.auto_augment)(image, rng)
        if rng.random() < self.data.random_erasing:
            image = _erased(image, self.fill, rng)
        return image, label

    def _make_policy(self, name: str) -> Policy:
        return POLICIES[name](self.data.num_ops, self.data.magnitude, self.fill)

    def _cut_padded(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if image.shape[:2] != tuple(self.data.crop):
            cut = CenterCrop(self.data.crop, fill=self.fill, interpolation=self.data.interpolation)
            image, _, _ = cut(image, np.asarray(NO_LABEL))
        around = self.data.padding
        image = cv2.copyMakeBorder(image, around, around, around, around, cv2.BORDER_CONSTANT, value=self.fill)
        top, left = (int(n) for n in rng.integers(0, 2 * self.data.padding + 1, 2))
        return image[top : top + self.data.crop[0], left : left + self.data.crop[1]]


@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """Resizes the shorter side of an image to a fixed length and cuts the center, as torchvision's presets do.

    Attributes:
      size: Height and width of the result, in pixels.
      resize: Length of the shorter side before the crop, in pixels; None takes the crop's longer side.
      fill: RGB color (0 to 255) around an image that is smaller than the crop.
      interpolation: Interpolation of Pillow, with antialiasing, so that pretrained weights see images as in their
        training.

    Raises:
      ConfigError: `size` or `resize` is not positive.
    """

    size: tuple[int, int]
    resize: int | None = None
    fill: tuple[int, int, int] = MEAN_COLOR
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        check_size("crop", self.size)
        if self.resize is not None and self.resize < 1:
            raise ConfigError(f"resize is {self.resize}: give the length of the shorter side in pixels.")

    def __call__(
        self, image: np.ndarray, label: np.ndarray, name: str = ""
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Returns the crop, uint8 [*size, 3], the unchanged label, and the height and width without padding."""
        shorter = self.resize or max(self.size)
        scaled = resized_shape(image.shape[0], image.shape[1], shorter)
        if image.shape[:2] != scaled:
            picture = Image.fromarray(image).resize((scaled[1], scaled[0]), _PILLOW[self.interpolation])
            image = np.asarray(picture)
        inside = min(scaled[0], self.size[0]), min(scaled[1], self.size[1])
        top, left = middle(scaled, inside)
        image = image[top : top + inside[0], left : left + inside[1]]
        if inside != tuple(self.size):
            below, beside = self.size[0] - inside[0], self.size[1] - inside[1]
            edges = (below // 2, below - below // 2, beside // 2, beside - beside // 2)
            image = cv2.copyMakeBorder(image, *edges, cv2.BORDER_CONSTANT, value=self.fill)
        return image, label, inside

    def blank(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the image and label of a row that holds no example."""
        return blank_image(self.size, self.fill), np.asarray(NO_LABEL)


def resize(image: np.ndarray, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> np.ndarray:
    """Resizes an image, uint8 [H, W, 3], to height and width `size`.

    It averages over areas to shrink, and interpolates to enlarge.
    """
    if image.shape[:2] == tuple(size):
        return image
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else _ENLARGING[interpolation])


def _erased(image: np.ndarray, fill: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Fills a rectangle of 2% to 33% of the image, whose aspect ratio is between 1 / 3.3 and 3.3."""
    top, left, height, width = draw_piece(image.shape[:2], 0.02, 1 / 3, 3.3, rng)
    image = image.copy()
    image[top : top + height, left : left + width] = fill
    return image
