"""Prepares a photograph on the host as the weights expect it."""

import numpy as np

from cvjax.errors import DataError
from cvjax.imagenet import middle, resized_shape
from cvjax.models.info import Preprocessing


def preprocess(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes, crops and normalizes as the weights' own framework does: Pillow's resizing, torchvision's rounding.

    Args:
      image: Image, uint8 [H, W, 3], RGB.
      preprocessing: Preprocessing from `load_pretrained`, or of `cvjax.model_info(name)`.

    Returns:
      Image, float32 [size, size, 3]. Without a size it is as large as the resized image.

    Raises:
      DataError: The image is of another type or shape, or it is smaller than the crop and not resized before.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise DataError(f"an image is uint8 [H, W, 3], not {image.dtype} {image.shape}; decode it as RGB")
    if preprocessing.resize is not None:
        image = _resize(image, preprocessing.resize, preprocessing.interpolation)
    if preprocessing.size is not None:
        image = center_crop(image, preprocessing.size)
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    x = (image.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(x[..., ::-1]) if preprocessing.bgr else x


def in_words(preprocessing: Preprocessing) -> str:
    """Describes what a net sees of a photograph, in the order of its channels.

    Example: "blue first, from 0 to 255, less 104.007, 116.669, 122.679".
    """
    order = -1 if preprocessing.bgr else 1
    mean, std = (np.array(levels)[::order] for levels in (preprocessing.mean, preprocessing.std))
    # Caffe's nets see bytes, the others fractions.
    top, scale = ("255", 255) if np.ptp(std) == 0 and std[0] < 0.1 else ("1", 1)
    words = f"{'blue' if preprocessing.bgr else 'red'} first, from 0 to {top}, less {_listed(mean * scale)}"
    if not np.allclose(std * scale, 1):
        words += f", divided by {_listed(std * scale)}"
    sides = preprocessing.resize, preprocessing.size
    words += f", the shorter side brought to {sides[0]}" if sides[0] else ""
    return words + (f" and {sides[1]}x{sides[1]} cut from the middle" if sides[1] else "")


def _listed(levels: np.ndarray) -> str:
    return ", ".join(f"{level:.3f}" for level in levels)


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the middle [size, size, C] of [H, W, C].

    Raises:
      DataError: The image is smaller.
    """
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise DataError(f"an image of {height}x{width} pixels has no crop of {size}; resize it to {size} or more")
    top, left = middle((height, width), (size, size))
    return image[top : top + size, left : left + size]


def _resize(image: np.ndarray, shorter: int, interpolation: str) -> np.ndarray:
    from PIL import Image  # late: `import cvjax.weights` needs no more than the models do

    height, width = resized_shape(image.shape[0], image.shape[1], shorter)
    if (height, width) == image.shape[:2]:
        return image
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    return np.asarray(Image.fromarray(image).resize((width, height), method))
