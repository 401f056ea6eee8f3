"""Reads the sizes and EXIF orientations of images, and decides which way up the boxes of an annotation are.

A camera stores its pixels as the sensor lies, and notes in EXIF how a viewer has to turn them. Orientations 5 to 8
exchange height and width. People draw boxes on the image that a viewer shows, and decoding turns images upright, so
boxes are upright too. Some tools however ignore EXIF. Their annotations state the size of the stored pixels, and boxes
beside such a size are turned here.
"""

import io
import os

import numpy as np
from PIL import Image, UnidentifiedImageError

from cvjax.data.pixels.header import Header, read_whole_header
from cvjax.errors import DataError

_SWAPPED = (5, 6, 7, 8)
_LEFT_RIGHT = (2, 3, 6, 7)
_UPSIDE_DOWN = (3, 4, 7, 8)


def read_header(image: bytes | str | os.PathLike[str], name: str) -> Header:
    """Reads an image's header, without decoding the pixels.

    Args:
      image: Encoded image, or the path of its file, of which the first bytes alone are read.
      name: Name of the file, for messages.

    Raises:
      DataError: The file cannot be read, or its header is damaged.
    """
    try:
        with io.BytesIO(image) if isinstance(image, bytes) else open(image, "rb") as file:
            return read_whole_header(file)
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
