"""Decodes encoded bytes to arrays: photographs to RGB, label maps to class numbers.

The functions are pure functions of bytes, safe in any process or thread. Any fault in a file becomes a `DataError`. Its
message is one sentence that names the file and the fix, so that a loader can stop with it or count the record as
skipped.

Images and masks are upright, as a viewer shows them, see `cvjax.data.pixels.turning`. A mask that fits only the stored
pixels of its image was drawn on these, and is turned with the image.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cvjax.data.pixels import tiff
from cvjax.data.pixels.backends import (
    JPEG_MAGIC,
    MAX_PIXELS,
    PNG_MAGIC,
    opencv_rgb,
    pillow,
    pillow_rgb,
    suits_opencv,
    unreadable,
)
from cvjax.data.pixels.header import Header, read_header, read_whole_header
from cvjax.data.pixels.lossless import lossless_numbers
from cvjax.data.pixels.numbers import stored_numbers
from cvjax.data.pixels.tags import ORIENTATION
from cvjax.data.pixels.turning import turn
from cvjax.errors import DataError

IGNORE = 255
"""The label of pixels that count neither in the loss nor in a metric."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
"""The suffixes, in lower case, of the image files that a data set's folder is searched for."""

_SUFFIXES = (
    *((JPEG_MAGIC, ".jpg"), (PNG_MAGIC, ".png"), (b"II*\0", ".tif"), (b"MM\0*", ".tif")),
    *((b"BM", ".bmp"), (b"GIF8", ".gif"), (b"RIFF", ".webp")),
)
_PNG_HEADER = 33  # Bytes of the signature and of the chunk that follows it.


class NoClassError(DataError):
    """Reports a label that is no class, in a file that can be read."""


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes a photograph to uint8 [H, W, 3] in RGB order, upright.

    Gray becomes three equal channels. Palettes are looked up. CMYK is converted. 16-bit samples keep their high byte;
    other samples come to 8 bits as `cvjax.data.pixels.levels.to_8_bits` says. An alpha channel is dropped: the colors
    under it stay as stored, composited on nothing. Of an animation the first frame is taken.

    Args:
      data: Encoded image in any format that OpenCV or Pillow reads (JPEG, PNG, WebP, BMP, TIFF, GIF, ...).
      name: Name of the file, for messages.

    Raises:
      DataError: The bytes are empty, cut short, or not an image; the image is too large, or its samples have no known
        scale; or it is a TIFF of several pages.
    """
    header = _read_header(data, name)
    if header.kind == "tiff":
        tiff.check(data, name)
        deep = tiff.decode_deep(data, name)
        if deep is not None:
            return turn(deep, header.orientation)
    # Some OpenCV releases return a truncated picture with its missing part gray, so OpenCV is asked only when
    # the file's own end marker is in place; Pillow is slower and strict, and settles every doubtful case.
    image = opencv_rgb(data, name, header) if suits_opencv(data, header) else None
    if image is None:
        picture = pillow(data, name, header)
        if header.bits == 16:
            image = opencv_rgb(data, name, header)  # Pillow clips 16-bit gray to 255 instead of scaling it.
        if image is None:
            image = pillow_rgb(picture, name)
        if not header.kind:
            return turn(image, picture.getexif().get(ORIENTATION, 1))
    return turn(image, header.orientation)


def decode_mask(data: bytes, name: str, num_classes: int, void: tuple[int, ...] = ()) -> np.ndarray:
    """Decodes a label map to uint8 [H, W]: a class in [0, num_classes), or 255 where ignored.

    The numbers are those of `decode_label_numbers`.

    Args:
      data: Encoded PNG, or another lossless picture, see `decode_label_numbers`.
      name: Name of the file, for messages.
      num_classes: Number of classes, background included; at most 255.
      void: Labels that mean "ignored" in this data set and become 255.

    Raises:
      DataError: The bytes are no lossless picture of numbers or are damaged, or a label is neither a class, nor in
        `void`, nor 255.
    """
    if not 1 <= num_classes <= IGNORE:
        raise ValueError(f"num_classes must lie in [1, {IGNORE}], not {num_classes}.")
    labels = decode_label_numbers(data, name)
    if void:
        labels = np.where(np.isin(labels, void), labels.dtype.type(IGNORE), labels)
    if labels.dtype == np.uint8:
        # In wrapping arithmetic one comparison finds num_classes..254, the numbers that mean nothing.
        bad = np.subtract(labels, np.uint8(num_classes)) < np.uint8(IGNORE - num_classes)
    else:
        bad = (labels >= num_classes) & (labels != IGNORE)
    if bad.any():
        label = int(labels[bad][0])
        raise NoClassError(
            f"{name}: label {label} is outside [0, {num_classes}) and is not {IGNORE}; correct the mask, list {label} "
            "as void (--input.void) if it means 'ignored', or say which value each class has in your masks "
            "(--input.mask-values)."
        )
    return labels.astype(np.uint8, copy=False)


def decode_label_numbers(data: bytes, name: str) -> np.ndarray:
    """Decodes the numbers that a mask stores, without interpreting them, to uint8 or uint16 [H, W], upright.

    Palette PNGs give their indices, not their colors. Gray PNGs of 1 to 16 bits give the stored numbers. Of RGB with
    three equal channels one is taken. An alpha channel is passed over where it is opaque everywhere. For other lossless
    formats see `cvjax.data.pixels.lossless`.

    Raises:
      DataError: The bytes are no lossless picture of numbers, or are damaged.
    """
    header = _read_header(data, name)
    if data.startswith(PNG_MAGIC) and len(data) >= _PNG_HEADER:
        return turn(stored_numbers(data, name, header), header.orientation)
    return turn(lossless_numbers(pillow(data, name, header), data, name), header.orientation)


def decode_example(record: Mapping[str, Any], num_classes: int, void: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    """Decodes a dataset's record, {"image": bytes, "mask": bytes, "id": str}.

    Returns:
      {"image": uint8 [H, W, 3], "mask": uint8 [H, W]}, as `decode_image` and `decode_mask` give them.

    Raises:
      DataError: The image or the mask is damaged or wrongly labeled, or their sizes differ.
    """
    name = str(record["id"])
    mask_name = f"{name}{_suffix(record['mask'])}"
    image = decode_image(record["image"], f"{name}{_suffix(record['image'])}")
    mask = fit_mask(decode_mask(record["mask"], mask_name, num_classes, void), record["image"], image.shape[:2])
    check_sizes(mask_name, mask.shape, image.shape)
    return {"image": image, "mask": mask}


def fit_mask(mask: np.ndarray, image: bytes, size: tuple[int, int]) -> np.ndarray:
    """Turns a mask, [H, W], that fits only the stored pixels of its image; any other mask is returned as it is.

    Args:
      mask: Mask as decoded.
      image: Encoded image.
      size: Height and width of the image in pixels, upright.
    """
    if mask.shape == size or mask.shape != size[::-1]:
        return mask
    header = read_header(io.BytesIO(image))
    return turn(mask, header.orientation) if header.orientation > 4 else mask


def check_sizes(name: str, mask: Sequence[int], image: Sequence[int]) -> None:
    """Compares the height and width of a mask and of its image; the mask's name is for the message.

    Raises:
      DataError: They differ.
    """
    if tuple(mask[:2]) != tuple(image[:2]):
        raise DataError(
            f"{name}: the mask is {mask[0]}x{mask[1]} (height x width) and its image is "
            f"{image[0]}x{image[1]}; make both the same size, or remove the pair."
        )


def decode_labeled(record: Mapping[str, Any], num_classes: int) -> dict[str, np.ndarray]:
    """Decodes a dataset's record, {"image": bytes, "label": int, "id": str}.

    Returns:
      {"image": uint8 [H, W, 3], as `decode_image` gives it, "label": int32 scalar}.

    Raises:
      DataError: The image is damaged, or the label is outside the classes.
    """
    name = f"{record['id']}{_suffix(record['image'])}"
    label = int(record["label"])
    if not 0 <= label < num_classes:
        raise NoClassError(f"{name}: label {label} is outside [0, {num_classes}); correct it or the number of classes.")
    return {"image": decode_image(record["image"], name), "label": np.asarray(label, np.int32)}


def encode_mask(mask: np.ndarray) -> bytes:
    """Encodes a label map, uint8 [H, W], as an 8-bit gray PNG.

    Rows are stored unfiltered. Label maps are flat, so this is both the smallest and the fastest to decode.
    """
    options = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.10 lacks it.
        options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return cv2.imencode(".png", mask, options)[1].tobytes()


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Reads (height, width) of the upright picture from an encoded image's header, without decoding the pixels.

    Raises:
      DataError: The header is damaged.
    """
    try:
        return read_whole_header(io.BytesIO(data)).upright_size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(data, name, error) from error


def _read_header(data: bytes, name: str) -> Header:
    header = read_header(io.BytesIO(data))
    if header.height * header.width > MAX_PIXELS:
        raise unreadable(data, name, Image.DecompressionBombError())
    return header


def _suffix(data: bytes) -> str:
    """Returns the file suffix of the bytes' format, for messages; "" where it is unknown."""
    return next((suffix for magic, suffix in _SUFFIXES if data.startswith(magic)), "")
