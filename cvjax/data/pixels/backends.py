"""Decodes to the stored pixels with OpenCV, which is fast, or with Pillow, which is strict."""

import io

import cv2
import numpy as np
from PIL import Image

from cvjax.data.pixels import tiff
from cvjax.data.pixels.header import Header
from cvjax.data.pixels.levels import LEAST_16, dark, to_8_bits
from cvjax.data.pixels.refused import what_it_is
from cvjax.errors import DataError

MAX_PIXELS = 178_956_970
"""An image of more pixels is refused, as Pillow does: it is a fault, an attack, or must be cut into tiles."""

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# A complete PNG ends with this chunk: its length 0, its name and its checksum.
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"


def suits_opencv(data: bytes, header: Header) -> bool:
    """Returns whether OpenCV decodes a file right; of what it reads wrongly or without a complaint, Pillow decides."""
    if header.kind == "tiff":
        return not tiff.needs_pillow(data)
    return bool(header.kind) and ends_properly(data)


def opencv(data: bytes, flags: int) -> np.ndarray | None:
    """Decodes with OpenCV to the stored pixels; returns None where it fails."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def opencv_rgb(data: bytes, name: str, header: Header) -> np.ndarray | None:
    """Decodes to the stored pixels in RGB order with OpenCV; returns None where it fails.

    Raises:
      DataError: The image has 16 bits and is far too dark to use them.
    """
    image = opencv(tiff.upright(data) if header.kind == "tiff" else data, cv2.IMREAD_COLOR)
    if image is None:
        return None
    if header.bits == 16 and image.max() < LEAST_16 >> 8:
        deep = opencv(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if deep is not None and deep.any():
            raise dark(name, int(deep.max()))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def pillow(data: bytes, name: str, header: Header) -> Image.Image:
    """Decodes to the stored pixels with Pillow, which is strict about damage.

    Raises:
      DataError: The image is damaged. Half a picture is never returned.
    """
    try:
        picture = Image.open(io.BytesIO(tiff.upright(data) if header.kind == "tiff" else data))
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(data, name, error) from error
    return picture


def pillow_rgb(picture: Image.Image, name: str) -> np.ndarray:
    """Returns a picture of Pillow's as uint8 [H, W, 3]."""
    if picture.mode.startswith(("I", "F")):
        samples = np.asarray(picture)
        if picture.format == "PPM":  # Pillow spreads its levels over 16 bits.
            samples = samples.astype(np.uint16)
        return np.repeat(to_8_bits(samples, name)[..., None], 3, axis=-1)
    if picture.mode in ("RGBa", "La"):  # Colors times alpha, which Pillow converts by this way alone.
        picture = picture.convert("RGBA" if picture.mode == "RGBa" else "LA")
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def unreadable(data: bytes, name: str, error: Exception) -> DataError:
    """Returns the error for bytes that do not decode: what they are, or what is wrong with them, and the way out."""
    fix = "fetch or export the file again, or remove it from the data set"
    if not data:
        return DataError(f"{name}: the file is empty; {fix}.")
    if isinstance(error, Image.UnidentifiedImageError):
        known = what_it_is(data)
        if known is not None:
            return DataError(
                f"{name}: this is {known[0]}, and is not read; {known[1]}, or remove it from the data set."
            )
        if data[:2] in (b"II", b"MM"):
            return DataError(f"{name}: a TIFF with such pixels is not read; save it as gray or RGB with 8 or 16 bits.")
        return DataError(f"{name}: not an image in a known format; {fix}.")
    if isinstance(error, Image.DecompressionBombError):
        return DataError(
            f"{name}: its header claims more pixels than any photograph has, above {MAX_PIXELS:,}; cut it into tiles,"
            " or remove it from the data set."
        )
    reason = str(error).rstrip(".") or type(error).__name__
    return DataError(f"{name}: the image is cut short or damaged ({reason}); {fix}.")


def ends_properly(data: bytes) -> bool:
    """Returns whether a JPEG or PNG ends with its end marker, a WebP or BMP where its header says; else True."""
    if data.startswith(JPEG_MAGIC):
        return data.endswith(_JPEG_END)
    if data.startswith(PNG_MAGIC):
        return data.endswith(_PNG_END)
    if data.startswith(b"RIFF"):
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    if data.startswith(b"BM"):
        return len(data) >= int.from_bytes(data[2:6], "little")
    return True
