"""Decodes the numbers in masks, which are PNGs of any depth, as they are stored."""

import cv2
import numpy as np

from cvjax.data.pixels.backends import ends_properly, opencv, pillow, unreadable
from cvjax.data.pixels.header import Header
from cvjax.errors import DataError

_PNG_GRAY, _PNG_PALETTE = 0, 3
# libpng spreads 1, 2 and 4-bit gray over 0..255; dividing by this gives the stored numbers back.
_GRAY_STEP = {1: 255, 2: 85, 4: 17, 8: 1}


def stored_numbers(data: bytes, name: str, header: Header) -> np.ndarray:
    """Returns a PNG's numbers, uint8 or uint16 [H, W], not turned.

    Raises:
      DataError: The PNG holds colors, or is damaged.
    """
    color = data[25]
    if color == _PNG_PALETTE:
        # OpenCV would turn the palette into colors.
        return np.asarray(pillow(data, name, header))
    if color != _PNG_GRAY:
        return _one_channel(data, name, header)
    labels = None
    if ends_properly(data):
        labels = opencv(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if labels is None:
        labels = np.asarray(pillow(data, name, header))
        if labels.dtype == np.bool_:  # Pillow keeps 1-bit gray as it is.
            return labels.astype(np.uint8)
    step = _GRAY_STEP.get(header.bits, 1)
    return labels if step == 1 else labels.astype(np.uint8) // np.uint8(step)


def _one_channel(data: bytes, name: str, header: Header) -> np.ndarray:
    """Returns the numbers of a PNG with color or alpha channels that mean nothing.

    Raises:
      DataError: They do mean something, or the file is damaged.
    """
    pillow(data, name, header)  # which is strict about damage
    channels = opencv(data, cv2.IMREAD_UNCHANGED)
    if channels is None:
        raise unreadable(data, name, OSError("its pixels do not decode"))
    if channels.ndim == 3 and channels.shape[-1] == 4:
        if (channels[..., 3] != np.iinfo(channels.dtype).max).any():
            raise DataError(
                f"{name}: parts of this mask are transparent, and whether they count cannot be known; save label maps "
                "as 8-bit gray or palette PNG, with 255 where nothing is to count."
            )
        channels = channels[..., :3]
    if channels.ndim == 3:
        if (channels != channels[..., :1]).any():
            raise DataError(
                f"{name}: this mask is a color PNG, whose pixels are colors and no class numbers; save label maps as "
                "8-bit gray or palette PNG."
            )
        channels = np.ascontiguousarray(channels[..., 0])
    return channels
