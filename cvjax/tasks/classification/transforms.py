"""Augmentation of labelled images on the host: a crop of one size, flipped, recoloured, partly erased.

The counterpart of `cvjax.tasks.segmentation.transforms` for images with a label, which passes through. Every transform
is a frozen, picklable dataclass; randomness comes in as a Generator.
"""

import dataclasses
import math
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from cvjax.errors import ConfigError
from cvjax.imagenet import MEAN_COLOUR, middle, resized_shape
from cvjax.tasks.classification.auto_augment import POLICIES, Policy
from cvjax.tasks.segmentation.transforms import blank_image, check_probability, check_size

Interpolation = Literal["bilinear", "bicubic"]
Cut = Literal["resized", "padded"]

NO_LABEL = np.int32(-1)
"""The label of a row that stands for no example."""

_ENLARGING = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TRIES = 10  # as torchvision


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """A random crop brought to one size, flipped, varied by a policy, partly erased, in this order.

    Attributes:
      size: height and width of the result, in pixels.
      cut: `resized` cuts a piece of random area and shape and resizes it (Inception's crop, 1409.4842); `padded`
        cuts a piece of the result's size from the image with a border around it, as is usual for CIFAR.
      min_area, max_area: of the piece, as fractions of the image's; `resized` alone.
      max_aspect: the piece's width by its height lies between 1 / max_aspect and this; `resized` alone.
      padding: width of the border in pixels; `padded` alone, to which the image is first brought by `CentreCrop`.
      flip: probability of mirroring left and right.
      policy: a random policy of `cvjax.tasks.classification.auto_augment`, or None.
      num_ops, magnitude: of the policy.
      erase: probability of erasing a rectangle (1708.04896).
      fill: RGB level (0 to 255) of borders and of what is erased: the data set's mean, which normalises to about 0.
      interpolation: for enlarging; a piece that shrinks is averaged.

    Raises:
      ConfigError: when made, if a value is outside its range.
    """

    size: tuple[int, int]
    cut: Cut = "resized"
    min_area: float = 0.08
    max_area: float = 1.0
    max_aspect: float = 4 / 3
    padding: int = 4
    flip: float = 0.5
    policy: str | None = None
    num_ops: int = 2
    magnitude: int = 9
    erase: float = 0.0
    fill: tuple[int, int, int] = MEAN_COLOUR
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        check_size("crop", self.size)
        check_probability("flip", self.flip)
        check_probability("erase", self.erase)
        if not 0 < self.min_area <= self.max_area <= 1:
            raise ConfigError(f"min_area is {self.min_area} and max_area {self.max_area}: give 0 < min <= max <= 1.")
        if self.max_aspect < 1 or self.padding < 0:
            raise ConfigError(f"max_aspect is {self.max_aspect} and padding {self.padding}: give at least 1 and 0.")
        if self.policy is not None:
            self._make_policy()

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Transform `image` u8[H,W,3] into u8[*size,3]; the label as it was."""
        if self.cut == "padded":
            image = self._cut_padded(image, rng)
        else:
            top, left, height, width = draw_piece(image.shape[:2], self.min_area, self.max_area, self.max_aspect, rng)
            image = resize(image[top : top + height, left : left + width], self.size, self.interpolation)
        if rng.random() < self.flip:
            image = cv2.flip(image, 1)
        if self.policy is not None:
            image = self._make_policy()(image, rng)
        if rng.random() < self.erase:
            image = _erased(image, self.fill, rng)
        return image, label

    def _make_policy(self) -> Policy:
        if self.policy not in POLICIES:
            raise ConfigError(f"there is no policy {self.policy!r}; choose one of {', '.join(POLICIES)}.")
        return POLICIES[self.policy](self.num_ops, self.magnitude, self.fill)

    def _cut_padded(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if image.shape[:2] != tuple(self.size):
            image = CentreCrop(self.size, fill=self.fill, interpolation=self.interpolation)(image, NO_LABEL)[0]
        image = cv2.copyMakeBorder(image, *4 * (self.padding,), cv2.BORDER_CONSTANT, value=self.fill)
        top, left = (int(n) for n in rng.integers(0, 2 * self.padding + 1, 2))
        return image[top : top + self.size[0], left : left + self.size[1]]


@dataclasses.dataclass(frozen=True)
class CentreCrop:
    """The middle of an image whose shorter side has been brought to a fixed length, as torchvision's presets do it.

    Attributes:
      size: height and width of the result, in pixels.
      resize: length of the shorter side before the crop; None is the crop's longer side.
      fill: RGB level (0 to 255) around an image that is smaller than the crop.
      interpolation: of Pillow, with antialiasing, so that weights from elsewhere see what they were trained for.

    Raises:
      ConfigError: when made, if a size is no size.
    """

    size: tuple[int, int]
    resize: int | None = None
    fill: tuple[int, int, int] = MEAN_COLOUR
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        check_size("crop", self.size)
        if self.resize is not None and self.resize < 1:
            raise ConfigError(f"resize is {self.resize}: give the length of the shorter side in pixels.")

    def __call__(
        self, image: np.ndarray, label: np.ndarray, name: str = ""
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Image u8[H,W,3] to u8[*size,3]; the label as it was; the height and width that are not padding."""
        shorter = self.resize or max(self.size)
        scaled = resized_shape(*image.shape[:2], shorter)
        if image.shape[:2] != scaled:
            picture = Image.fromarray(image).resize(scaled[::-1], _PILLOW[self.interpolation])
            image = np.asarray(picture)
        inside = tuple(min(have, want) for have, want in zip(scaled, self.size))
        top, left = middle(scaled, inside)
        image = image[top : top + inside[0], left : left + inside[1]]
        if inside != tuple(self.size):
            below, beside = self.size[0] - inside[0], self.size[1] - inside[1]
            edges = (below // 2, below - below // 2, beside // 2, beside - beside // 2)
            image = cv2.copyMakeBorder(image, *edges, cv2.BORDER_CONSTANT, value=self.fill)
        return image, label, inside

    def blank(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and label of a row that stands for no example."""
        return blank_image(self.size, self.fill), np.asarray(NO_LABEL)


def draw_piece(
    size: tuple[int, int], min_area: float, max_area: float, max_aspect: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random piece of an image, as torchvision's RandomResizedCrop draws it.

    Area is uniform, the logarithm of the aspect too; what does not fit is drawn again, and after ten times the middle
    of the image is taken, at the nearest aspect that is allowed.
    """
    height, width = size
    for _ in range(_TRIES):
        area = height * width * rng.uniform(min_area, max_area)
        aspect = math.exp(rng.uniform(-math.log(max_aspect), math.log(max_aspect)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            return int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide
    high, wide = min(height, max(1, round(width * max_aspect))), min(width, max(1, round(height * max_aspect)))
    return (height - high) // 2, (width - wide) // 2, high, wide


def resize(image: np.ndarray, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> np.ndarray:
    """Resize u8[H,W,3] to height and width `size`: averaging over areas to shrink, interpolating to enlarge."""
    if image.shape[:2] == tuple(size):
        return image
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else _ENLARGING[interpolation])


def _erased(image: np.ndarray, fill: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """A rectangle of 2 to 33% of the image, as wide as high up to a factor of 3.3, filled."""
    top, left, height, width = draw_piece(image.shape[:2], 0.02, 1 / 3, 3.3, rng)
    image = image.copy()
    image[top : top + height, left : left + width] = fill
    return image
