"""Reads the sizes and EXIF orientations of images, and decides which way up the boxes of an annotation are.

A camera stores its pixels as the sensor lies, and notes in EXIF how a viewer has to turn them. Orientations 5 to 8
exchange height and width. People draw boxes on the image that a viewer shows, and decoding turns images upright, so
boxes are upright too. Some tools however ignore EXIF. Their annotations state the size of the stored pixels, and boxes
beside such a size are turned here.
"""

import io
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cvjax.errors import DataError

_SWAPPED = (5, 6, 7, 8)
_LEFT_RIGHT = (2, 3, 6, 7)
_UPSIDE_DOWN = (3, 4, 7, 8)
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_EXIF_PREFIX = b"Exif\x00\x00"


class Header(NamedTuple):
    """Holds what an image's header says.

    Attributes:
      height, width: Size of the stored pixels.
      orientation: EXIF's number of how the pixels lie, 1 (upright) to 8; 1 where the image does not say.
    """

    height: int
    width: int
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Returns height and width of the upright image, as `PIL.ImageOps.exif_transpose` makes it."""
        return (self.width, self.height) if self.orientation in _SWAPPED else (self.height, self.width)


def read_header(image: bytes | str | os.PathLike[str], name: str) -> Header:
    """Reads an image's header, without decoding the pixels.

    Args:
      image: Encoded image, or the path of its file, of which the first bytes alone are read.
      name: Name of the file, for messages.

    Raises:
      DataError: The file cannot be read, or its header is damaged.
    """
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as picture:
            if picture.format == "PNG":
                # Pillow decodes the pixels to find EXIF that stands behind them.
                orientation = _orientation(lambda: _png_exif(image))
                return Header(height=picture.height, width=picture.width, orientation=orientation)
            orientation = _orientation(picture.getexif)
            if picture.format == "TIFF":  # Pillow's own size is the upright one in some releases.
                exif = picture.getexif()
                height, width = int(exif[_TIFF_HEIGHT]), int(exif[_TIFF_WIDTH])
                return Header(height=height, width=width, orientation=orientation)
            return Header(height=picture.height, width=picture.width, orientation=orientation)
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not an image in a known format; export it again or take it away.") from error
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".") or "it breaks off"
        raise DataError(f"{name}: the image's header cannot be read ({reason}); fetch or export it again.") from error


def boxes_are_upright(header: Header, stated: tuple[int, int] | None) -> bool | None:
    """Decides whether an annotation's boxes are those of the upright image.

    Args:
      header: Header of the image.
      stated: Height and width that the annotation states; None where it states none, or 0x0.

    Returns:
      True if the size is that of the upright image or not stated; False if it fits the stored pixels alone; None if it
      fits neither.
    """
    if stated in (None, (0, 0), header.upright_size):
        return True
    return False if stated == (header.height, header.width) else None


def turned_upright(boxes: np.ndarray, header: Header) -> np.ndarray:
    """Turns boxes of the stored pixels, [..., 4], to where they are in the upright image; an inverted box stays so."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    if header.orientation in _SWAPPED:
        x1, y1, x2, y2 = y1, x1, y2, x2
    height, width = header.upright_size
    if header.orientation in _LEFT_RIGHT:
        x1, x2 = width - x2, width - x1
    if header.orientation in _UPSIDE_DOWN:
        y1, y2 = height - y2, height - y1
    return np.stack([x1, y1, x2, y2], axis=-1)


def check_stated_size(header: Header, stated: tuple[int, int] | None, annotation: str, image: str) -> bool:
    """Returns whether an annotation's boxes are upright, see `boxes_are_upright`.

    Args:
      header, stated: Arguments of `boxes_are_upright`.
      annotation, image: Names of the annotation and of the image's file, for the message.

    Raises:
      DataError: The annotation states another size than the image has.
    """
    upright = boxes_are_upright(header, stated)
    if upright is None:
        assert stated is not None
        height, width = header.upright_size
        raise DataError(
            f"{annotation}: its image is stated as {stated[0]}x{stated[1]} (height x width) and the file {image} has"
            f" {height}x{width}; put the image back that was annotated, or scale the boxes to this one, or state 0x0 if"
            " they fit it already."
        )
    return upright


def _orientation(read: Callable[[], Image.Exif]) -> int:
    try:
        value = read().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # Viewers show an image with damaged EXIF as it is stored.
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_exif(image: bytes | str | os.PathLike[str]) -> Image.Exif:
    """Reads the EXIF of a PNG, which may stand before or behind the pixels."""
    exif = Image.Exif()
    with io.BytesIO(image) if isinstance(image, bytes) else open(image, "rb") as file:
        file.seek(len(_PNG_MAGIC))
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4])
            if head[4:] == b"eXIf":
                exif.load(_EXIF_PREFIX + file.read(length))
                break
            file.seek(length + 4, os.SEEK_CUR)
    return exif
