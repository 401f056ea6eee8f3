"""Decodes encoded bytes to arrays: photographs to RGB, label maps to class numbers.

The functions are pure functions of bytes, safe in any process or thread. Any fault in a file becomes a `DataError`. Its
message is one sentence that names the file and the fix, so that a loader can stop with it or count the record as
skipped.

EXIF orientation is ignored for images and masks alike. Annotators saw the stored pixels, and an image that alone is
turned would no longer fit its mask.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cvjax.data.mask_files import stored_numbers
from cvjax.errors import DataError

IGNORE = 255
"""The label of pixels that count neither in the loss nor in a metric."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""The suffixes, in lower case, of the image files that a data set's folder is searched for."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_SUFFIXES = (
    *((_JPEG_MAGIC, ".jpg"), (_PNG_MAGIC, ".png"), (b"II*\0", ".tif"), (b"MM\0*", ".tif")),
    *((b"BM", ".bmp"), (b"GIF8", ".gif"), (b"RIFF", ".webp")),
)
# A complete PNG ends with this chunk: its length 0, its name and its checksum.
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_PNG_GRAY, _PNG_PALETTE = 0, 3
# libpng spreads 1, 2 and 4-bit gray over 0..255; dividing by this gives the stored numbers back.
_GRAY_STEP = {1: 255, 2: 85, 4: 17, 8: 1}


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes a photograph to uint8 [H, W, 3] in RGB order.

    Gray becomes three equal channels. Palettes are looked up. CMYK is converted. 16-bit samples keep their high byte.
    An alpha channel is dropped: the colors under it stay as stored, composited on nothing.

    Args:
      data: Encoded image in any format that OpenCV reads (JPEG, PNG, WebP, BMP, TIFF, ...).
      name: Name of the file, for messages.

    Raises:
      DataError: The bytes are empty, cut short, or not an image.
    """
    image = None
    # Some OpenCV releases return a truncated picture with its missing part gray, so OpenCV is asked only when
    # the file's own end marker is in place; Pillow is slower and strict, and settles every doubtful case.
    if _ends_properly(data):
        image = _opencv(data, cv2.IMREAD_COLOR)
        if image is not None:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    picture = _pillow(data, name)
    if picture.mode.startswith("I") and _looks_like_png(data):
        image = _opencv(data, cv2.IMREAD_COLOR)  # Pillow clips 16-bit gray to 255 instead of scaling it.
        if image is not None:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def decode_mask(data: bytes, name: str, num_classes: int, void: tuple[int, ...] = ()) -> np.ndarray:
    """Decodes a label map to uint8 [H, W]: a class in [0, num_classes), or 255 where ignored.

    Palettes give their indices, not their colors. Gray pictures of 1 to 16 bits give the stored numbers.

    Args:
      data: Encoded PNG, or another lossless picture, see `cvjax.data.mask_files`.
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
        raise DataError(
            f"{name}: label {label} is outside [0, {num_classes}) and is not {IGNORE}; correct the mask, list {label} "
            "as void (--input.void) if it means 'ignored', or say which value each class has in your masks "
            "(--input.mask-values)."
        )
    return labels.astype(np.uint8, copy=False)


def decode_label_numbers(data: bytes, name: str) -> np.ndarray:
    """Decodes the numbers that a mask stores, without interpreting them, to uint8 or uint16 [H, W].

    Raises:
      DataError: The bytes are no lossless picture of numbers, or are damaged.
    """
    if not _looks_like_png(data):
        return stored_numbers(_pillow(data, name), data, name)
    depth, color = data[24], data[25]
    if color == _PNG_PALETTE:
        # OpenCV would turn the palette into colors.
        return np.asarray(_pillow(data, name))
    if color != _PNG_GRAY:
        if depth == 8:
            return stored_numbers(_pillow(data, name), data, name)
        raise DataError(f"{name}: this mask is a color PNG of {depth} bits a channel; save label maps as gray PNG.")
    labels = None
    if _ends_properly(data):
        labels = _opencv(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if labels is None:
        labels = np.asarray(_pillow(data, name))
        if labels.dtype == np.bool_:  # Pillow keeps 1-bit gray as it is.
            return labels.astype(np.uint8)
    step = _GRAY_STEP.get(depth, 1)
    return labels if step == 1 else labels.astype(np.uint8) // np.uint8(step)


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
    mask = decode_mask(record["mask"], mask_name, num_classes, void)
    check_sizes(mask_name, mask.shape, image.shape)
    return {"image": image, "mask": mask}


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
        raise DataError(f"{name}: label {label} is outside [0, {num_classes}); correct it or the number of classes.")
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
    """Reads (height, width) from an encoded image's header, without decoding the pixels.

    Raises:
      DataError: The header is damaged.
    """
    if _looks_like_png(data):
        return int.from_bytes(data[20:24]), int.from_bytes(data[16:20])
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(data, name, error) from error


def _opencv(data: bytes, flags: int) -> np.ndarray | None:
    """Decodes with OpenCV, ignoring EXIF orientation; returns None where it fails."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _pillow(data: bytes, name: str) -> Image.Image:
    """Decodes with Pillow, which is strict about damage.

    Raises:
      DataError: The image is damaged. Half a picture is never returned.
    """
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(data, name, error) from error
    return picture


def _unreadable(data: bytes, name: str, error: Exception) -> DataError:
    fix = "fetch or export the file again, or remove it from the data set"
    if not data:
        return DataError(f"{name}: the file is empty; {fix}.")
    if isinstance(error, Image.UnidentifiedImageError):
        return DataError(f"{name}: not an image in a known format; {fix}.")
    if isinstance(error, Image.DecompressionBombError):
        return DataError(f"{name}: its header claims more pixels than any photograph has; {fix}.")
    reason = str(error).rstrip(".") or type(error).__name__
    return DataError(f"{name}: the image is cut short or damaged ({reason}); {fix}.")


def _looks_like_png(data: bytes) -> bool:
    # The signature and the header chunk take 33 bytes, which callers index into.
    return data.startswith(_PNG_MAGIC) and len(data) > 32


def _ends_properly(data: bytes) -> bool:
    """Returns whether a JPEG or PNG ends with its end marker; True for formats that have none."""
    if data.startswith(_JPEG_MAGIC):
        return data.endswith(_JPEG_END)
    if data.startswith(_PNG_MAGIC):
        return data.endswith(_PNG_END)
    return True


def _suffix(data: bytes) -> str:
    """Returns the file suffix of the bytes' format, for messages; "" where it is unknown."""
    return next((suffix for magic, suffix in _SUFFIXES if data.startswith(magic)), "")
