"""Augments images by random policies: RandAugment (1909.13719), TrivialAugment (2103.10158), AutoAugment.

AutoAugment (1805.09501) is the policy that was found for ImageNet. Operations, their ranges and their order are
torchvision's, so that its recipes mean the same here.
"""

import dataclasses
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from cvjax.errors import ConfigError

Fill = tuple[int, int, int]
Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]

BINS = 31
"""Strengths that an operation can have: magnitude 0 does nothing or little, 30 the most."""


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Applies `num_ops` random operations in sequence, each drawn from 14, all with the same magnitude.

    Attributes:
      num_ops: Number of operations.
      magnitude: Strength of the operations, from 0 to 30.
      fill: RGB color of the pixels that geometric operations uncover.

    Raises:
      ConfigError: `num_ops` or `magnitude` is outside its range.
    """

    num_ops: int = 2
    magnitude: int = 9
    fill: Fill = (128, 128, 128)

    def __post_init__(self) -> None:
        if self.num_ops < 0 or not 0 <= self.magnitude < BINS:
            raise ConfigError(
                f"num_ops is {self.num_ops} and magnitude {self.magnitude}: give 0 or more, and 0 to {BINS - 1}."
            )

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the augmented image, uint8 [H, W, 3], of an image of the same shape."""
        ranges = _ranges(image.shape[:2], _NARROW)
        for number in rng.integers(len(OPERATIONS), size=self.num_ops):
            name = OPERATIONS[number]
            image = apply_operation(name, image, _signed(name, ranges[name][self.magnitude], rng), self.fill)
        return image


@dataclasses.dataclass(frozen=True)
class TrivialAugment:
    """Applies one random operation of 14, with a random strength from wider ranges than RandAugment's.

    Attributes:
      num_ops, magnitude: Not used, since the policy has no parameters.
      fill: RGB color of the pixels that geometric operations uncover.
    """

    num_ops: int = 1
    magnitude: int = 0
    fill: Fill = (128, 128, 128)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the augmented image, uint8 [H, W, 3], of an image of the same shape."""
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        strength = _ranges(image.shape[:2], _WIDE)[name][rng.integers(BINS)]
        return apply_operation(name, image, _signed(name, strength, rng), self.fill)


@dataclasses.dataclass(frozen=True)
class AutoAugment:
    """Applies one of the 25 pairs of operations found for ImageNet, each with its own probability and magnitude.

    Attributes:
      num_ops, magnitude: Not used, since the policy has no parameters.
      fill: RGB color of the pixels that geometric operations uncover.
    """

    num_ops: int = 2
    magnitude: int = 0
    fill: Fill = (128, 128, 128)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the augmented image, uint8 [H, W, 3], of an image of the same shape."""
        ranges = _ranges(image.shape[:2], _NARROW, bins=10)
        for name, probability, magnitude in IMAGENET_PAIRS[rng.integers(len(IMAGENET_PAIRS))]:
            if rng.random() < probability:
                image = apply_operation(name, image, _signed(name, ranges[name][magnitude], rng), self.fill)
        return image


# Table 9 of the paper: each pair with probabilities, and magnitudes of 0 to 9, where the operation has one.
IMAGENET_PAIRS = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)

POLICIES: Mapping[str, Callable[[int, int, Fill], Policy]] = {
    "rand": RandAugment,
    "trivial": TrivialAugment,
    "auto": AutoAugment,
}

OPERATIONS = (
    "identity,shear_x,shear_y,translate_x,translate_y,rotate,brightness,color,contrast,sharpness,posterize,solarize,"
    "auto_contrast,equalize"
).split(",")
_SIGNED = frozenset("shear_x,shear_y,translate_x,translate_y,rotate,brightness,color,contrast,sharpness".split(","))
_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}


def apply_operation(name: str, image: np.ndarray, strength: float, fill: Fill) -> np.ndarray:
    """Applies one of `OPERATIONS`, or `invert`, to an image.

    Args:
      name: Name of the operation.
      image: Image, uint8 [H, W, 3].
      strength: Strength of the operation. A shear is in pixels per pixel, a translation in pixels, a rotation in
        degrees counterclockwise. A color operation uses the factor 1 + strength. Posterizing keeps this many bits.
        Solarizing inverts levels from this one on.
      fill: RGB color of the pixels that geometric operations uncover.

    Returns:
      uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
        if name == "rotate":
            # Around the middle between the pixels, counted from pixel centers.
            matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), strength, 1.0)
        else:
            matrix = np.eye(2, 3)
            row, column = {"x": (0, 1), "y": (1, 0)}[name[-1]]
            if name.startswith("shear"):
                matrix[row, column] = strength  # about the top left corner
            else:
                matrix[row, 2] = int(strength)
        return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=fill)
    if name in _ENHANCERS:
        return np.asarray(_ENHANCERS[name](Image.fromarray(image)).enhance(1.0 + strength))
    if name == "posterize":
        return image & np.uint8(256 - (1 << (8 - int(strength))))
    if name == "solarize":
        return np.where(image >= strength, 255 - image, image)
    if name == "invert":
        return 255 - image
    if name == "auto_contrast":
        return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))
    if name == "equalize":
        return np.asarray(ImageOps.equalize(Image.fromarray(image)))
    return image


# Largest shear, translation (a fraction of the side, or pixels), rotation, change of color, and number of bits lost.
_NARROW = (0.3, 150 / 331, 30.0, 0.9, 4)
_WIDE = (0.99, 32.0, 135.0, 0.99, 6)


def _ranges(
    size: tuple[int, int], widths: tuple[float, float, float, float, int], bins: int = BINS
) -> dict[str, np.ndarray]:
    """Returns the strengths of every operation at each of `bins` magnitudes, [bins] by the operation's name."""
    shear, shift, angle, color, bits = widths
    ramp = np.linspace(0.0, 1.0, bins)
    height, width = (shift * side if shift < 1 else shift for side in size)
    lost = np.round(np.arange(bins) / ((bins - 1) / bits))
    strengths = {
        "shear_x": shear * ramp,
        "shear_y": shear * ramp,
        "translate_x": width * ramp,
        "translate_y": height * ramp,
        "rotate": angle * ramp,
        "posterize": 8 - lost,
        "solarize": 255.0 * (1 - ramp),
    }
    return {
        name: strengths.get(name, color * ramp if name in _ENHANCERS else np.zeros(bins))
        for name in (*OPERATIONS, "invert")
    }


def _signed(name: str, strength: float, rng: np.random.Generator) -> float:
    return -float(strength) if name in _SIGNED and rng.integers(2) else float(strength)
