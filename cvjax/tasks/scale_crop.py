"""Scales and crops uint8 images and masks at random on the host, before batching.

Photometric augmentation and normalization happen on the device. Changes of geometry happen here, because they need the
image's own size. Every transform is a frozen, picklable dataclass. Randomness comes from the Generator that is passed
in.
"""

import dataclasses
import math
from fractions import Fraction

import cv2
import numpy as np

from cvjax.data.config import DataConfig
from cvjax.data.decode import IGNORE
from cvjax.errors import ConfigError, DataError
from cvjax.imagenet import MEAN_COLOR

# Scales are fractions with at most this denominator, so that the grid of the resized image meets the grid of
# the source every few pixels and a window of the one can be computed from a window of the other.
_MAX_DENOMINATOR = 64


def check_size(name: str, size: tuple[int, int] | None) -> None:
    """Raises ConfigError unless `size` is two positive integers."""
    wrong = f"{name} is {size!r}: give two positive whole numbers, height and width."
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ConfigError(wrong)
    if not all(isinstance(n, int | np.integer) and n > 0 for n in size):
        raise ConfigError(wrong)


def check_probability(name: str, value: float) -> None:
    """Raises ConfigError unless `value` lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value}: give a probability between 0 and 1.")


def _check_padding(fill: tuple[int, int, int], ignore: int) -> None:
    """Raises ConfigError unless the padding values fit in uint8."""
    if len(fill) != 3 or not all(0 <= value <= 255 for value in (*fill, ignore)):
        raise ConfigError(f"fill is {fill!r} and ignore {ignore!r}: give three levels and one label between 0 and 255.")


def blank_image(size: tuple[int, int], fill: tuple[int, int, int]) -> np.ndarray:
    """Returns an image, uint8 [*size, 3], of one color."""
    return np.broadcast_to(np.asarray(fill, np.uint8), (*size, 3))


def resize_pair(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resizes `image`, uint8 [H, W, 3] (bilinear), and `mask`, uint8 [H, W] (nearest center), to `size`."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image, mask
    # INTER_NEAREST takes the pixel at floor(x * ratio), which shifts labels by up to half a source pixel
    # against the image; INTER_NEAREST_EXACT takes the nearest center.
    return (
        cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR),
        cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT),
    )


def scaled_size(size: tuple[int, int], scale: Fraction) -> tuple[int, int]:
    """Returns height and width after scaling by exactly `scale`, rounded down so that no pixel lies outside."""
    height, width = (max(1, extent * scale.numerator // scale.denominator) for extent in size)
    return height, width


def resized_window(image: np.ndarray, scale: Fraction, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Computes a window of the image scaled by `scale`, without scaling the rest.

    The result is that of `cv2.resize(image, None, fx=scale, fy=scale)` followed by a crop, to within one gray level.
    The piece of the source that is resized starts where both pixel grids meet, so that the sampling positions are
    equal. Only the rounding of OpenCV's fixed-point weights can differ.

    Args:
      image: Image, uint8 [H, W, 3].
      scale: Size of the scaled image relative to the source.
      corner: Top and left of the window, in pixels of the scaled image.
      size: Height and width of the window, which lies inside `scaled_size`.

    Returns:
      uint8 [*size, 3]; a view of `image` where scale is 1.
    """
    source, cut = [], []
    for extent, first, count in zip(image.shape[:2], corner, size):
        if scale == 1:
            source.append(slice(first, first + count))
            continue
        # Output pixel x samples the source at (x + 1/2) / scale - 1/2 and its right neighbor. At least 64
        # pixels of the source go in, where it has them: OpenCV copies instead of resampling when the size
        # comes out unchanged.
        before = max(0, math.floor((first + 0.5) / scale - 0.5))
        after = math.ceil((first + count + 0.5) / scale) + 1
        period = min(before, max(0, extent - _MAX_DENOMINATOR)) // scale.denominator
        start = period * scale.denominator
        source.append(slice(start, min(extent, max(after, start + _MAX_DENOMINATOR))))
        begin = first - period * scale.numerator
        cut.append(slice(begin, begin + count))
    piece = image[tuple(source)]
    if scale == 1:
        return piece
    factor = float(scale)
    if min(piece.shape[:2]) * factor < 1:  # OpenCV would round this source of a pixel or so down to nothing.
        resized = cv2.resize(piece, (cut[1].stop, cut[0].stop), interpolation=cv2.INTER_LINEAR)
    else:
        resized = cv2.resize(piece, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return resized[tuple(cut)]


def nearest_window(mask: np.ndarray, scale: Fraction, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Computes the window of `resized_window` for labels, uint8 [H, W], exactly by nearest pixel centers."""
    if scale == 1:
        return mask[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    up, down = scale.numerator, scale.denominator
    # floor((x + 1/2) / scale), in whole numbers; gathering by index is faster than OpenCV's resize here.
    rows, columns = ((2 * np.arange(first, first + count) + 1) * down // (2 * up) for first, count in zip(corner, size))
    return mask[np.minimum(rows, mask.shape[0] - 1)][:, np.minimum(columns, mask.shape[1] - 1)]


@dataclasses.dataclass(frozen=True)
class ScaleAndCropData(DataConfig):
    """Configures how images with masks of any kind are scaled and cropped in training.

    Attributes: those of `DataConfig`, and
      resize: Height and width that images are resized to first, in pixels; None leaves them as they are.
      min_scale: Smallest random scale before the crop, relative to the source (or to `resize`).
      max_scale: Largest random scale before the crop.
      scale_step: Distance between the possible scales; 0 draws continuously, to the nearest 1/64. Every scale is
        replaced by the nearest fraction with a denominator up to 64.

    Raises:
      ConfigError: A value is outside its range.
    """

    resize: tuple[int, int] | None = None
    min_scale: float = 0.5
    max_scale: float = 2.0
    scale_step: float = 0.25

    def __post_init__(self) -> None:
        check_size("crop", self.crop)
        if self.resize is not None:
            check_size("resize", self.resize)
        if not 1 / _MAX_DENOMINATOR <= self.min_scale <= self.max_scale:
            raise ConfigError(
                f"min_scale is {self.min_scale} and max_scale {self.max_scale}: give 1/64 <= min_scale <= max_scale."
            )
        if self.scale_step < 0:
            raise ConfigError(f"scale_step is {self.scale_step}: give 0 (continuous) or a positive step.")
        check_probability("flip", self.flip)


@dataclasses.dataclass(frozen=True)
class ScaleAndCrop:
    """Draws and applies a random scale, a random crop and random mirroring; subclasses define the inputs.

    Attributes:
      data: Size of the crop, bounds of the scale, and probability of mirroring.
      fill: RGB color (0 to 255) of padded image pixels: the dataset's mean, which normalizes to about 0.
      ignore: Label of padded mask pixels.

    Raises:
      ConfigError: A value is outside its range.
    """

    data: ScaleAndCropData
    fill: tuple[int, int, int] = MEAN_COLOR
    ignore: int = IGNORE

    def __post_init__(self) -> None:
        _check_padding(self.fill, self.ignore)

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[Fraction, tuple[int, int], bool]:
        """Draws the scale, the top left corner in the scaled image, and whether to mirror, for an image of `size`."""
        scale = self._draw_scale(rng)
        full = scaled_size(size, scale)
        # Four draws whatever their outcome, so that the example's random stream does not depend on its size.
        top, left = (int(rng.integers(0, max(have - want, 0) + 1)) for have, want in zip(full, self.data.crop))
        return scale, (top, left), bool(rng.random() < self.data.flip)

    def cut(
        self, image: np.ndarray, mask: np.ndarray, scale: Fraction, corner: tuple[int, int], mirror: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the image and mask of the crop that `draw` chose, padded to the crop's size."""
        height, width = (min(have, want) for have, want in zip(scaled_size(mask.shape, scale), self.data.crop))
        image = resized_window(image, scale, corner, (height, width))
        mask = nearest_window(mask, scale, corner, (height, width))
        if mirror:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
        return _pad(image, mask, self.data.crop, self.fill, self.ignore, left=mirror)

    def _draw_scale(self, rng: np.random.Generator) -> Fraction:
        if self.data.scale_step == 0:
            drawn = rng.uniform(self.data.min_scale, self.data.max_scale)
            return Fraction(max(1, round(drawn * _MAX_DENOMINATOR)), _MAX_DENOMINATOR)
        # The small excess keeps 0.5 to 2.0 in steps of 0.1 from losing its last value to rounding.
        count = math.floor((self.data.max_scale - self.data.min_scale) / self.data.scale_step + 1e-6) + 1
        drawn = self.data.min_scale + int(rng.integers(count)) * self.data.scale_step
        return Fraction(drawn).limit_denominator(_MAX_DENOMINATOR)


@dataclasses.dataclass(frozen=True)
class TrainTransform(ScaleAndCrop):
    """Applies a random scale, a random crop and random mirroring.

    Smaller images are padded at the bottom and right; mirroring moves the padding to the left. Attributes and errors
    are those of `ScaleAndCrop`.
    """

    def __call__(self, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Transforms `image`, uint8 [H, W, 3], and `mask`, uint8 [H, W], to the crop's size; maybe as views."""
        if self.data.resize is not None:
            image, mask = resize_pair(image, mask, self.data.resize)
        return self.cut(image, mask, *self.draw(mask.shape, rng))


@dataclasses.dataclass(frozen=True)
class ResizeAndFill:
    """Resizes and pads images for evaluation; subclasses define the inputs.

    Attributes:
      size: Height and width of the result, in pixels.
      fill: RGB color (0 to 255) of padded image pixels.
      ignore: Label of padded mask pixels.
      resize: Height and width to resize to before padding, in pixels; None keeps the image's size.

    Raises:
      ConfigError: A value is outside its range.
    """

    size: tuple[int, int]
    fill: tuple[int, int, int] = MEAN_COLOR
    ignore: int = IGNORE
    resize: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_size("size", self.size)
        _check_padding(self.fill, self.ignore)
        if self.resize is not None:
            check_size("resize", self.resize)
            if self.resize[0] > self.size[0] or self.resize[1] > self.size[1]:
                raise ConfigError(f"resize {self.resize} exceeds size {self.size}: give a larger size.")

    def pad(self, image: np.ndarray, mask: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Resizes and pads `image`, uint8 [H, W, 3], and `mask`, uint8 [H, W].

        Args:
          image, mask: Decoded image and its mask.
          name: Name of the image in an error, such as the record's id.

        Returns:
          uint8 [*size, 3], uint8 [*size], and the height and width before padding.

        Raises:
          DataError: The image is larger than `size`.
        """
        if self.resize is not None:
            image, mask = resize_pair(image, mask, self.resize)
        height, width = mask.shape
        if height > self.size[0] or width > self.size[1]:
            raise DataError(
                f"{name} is {height}x{width} and does not fit in the evaluation size"
                f" {self.size[0]}x{self.size[1]}: raise the evaluation size to at least that, or set resize."
            )
        return *_pad(image, mask, self.size, self.fill, self.ignore), (height, width)

    def padding(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image and a mask that are all padding."""
        return blank_image(self.size, self.fill), np.full(self.size, self.ignore, np.uint8)


@dataclasses.dataclass(frozen=True)
class EvalTransform(ResizeAndFill):
    """Pads images at the bottom and right to one size, without scaling except the optional fixed `resize`.

    Attributes and errors are those of `ResizeAndFill`.
    """

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, name: str = "the image"
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Returns image, mask, and the height and width before padding; arguments and errors are those of `pad`."""
        return self.pad(image, mask, name)

    def blank(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the image and mask of a row that holds no example."""
        return self.padding()


def _pad(
    image: np.ndarray,
    mask: np.ndarray,
    size: tuple[int, int],
    fill: tuple[int, int, int],
    ignore: int,
    left: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Pads image and mask to `size`, at the bottom and at the right, or at the left if `left`."""
    below, beside = size[0] - mask.shape[0], size[1] - mask.shape[1]
    if below == beside == 0:
        return image, mask
    border = (0, below, beside, 0) if left else (0, below, 0, beside)
    return (
        cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=fill),
        cv2.copyMakeBorder(mask, *border, cv2.BORDER_CONSTANT, value=ignore),
    )
