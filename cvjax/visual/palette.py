"""This module colors label maps with PASCAL VOC's palette."""

import functools

import numpy as np

from cvjax.errors import DataError

VOID = 255
"""Label that is ignored; VOC paints it cream."""


@functools.cache
def _voc_palette() -> np.ndarray:
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    palette.flags.writeable = False
    return palette


def voc_palette() -> np.ndarray:
    """Returns PASCAL VOC's colors, uint8 [256, 3] RGB, read-only; 0 is black and 255 cream (224, 224, 192).

    The bits of a label are dealt in turn to red, green and blue, from each channel's highest bit down.
    `VOClabelcolormap` of the VOC development kit does the same. So nearby labels get colors that are far apart.
    """
    return _voc_palette()


def colorize(mask: np.ndarray, palette: np.ndarray | None = None) -> np.ndarray:
    """Paints a label map.

    Args:
      mask: Integers in 0..255, any shape.
      palette: Colors by label, uint8 [256, 3]; VOC's if None.

    Returns:
      Colors, uint8 [*mask.shape, 3], RGB.

    Raises:
      DataError: A label outside the palette.
    """
    palette = voc_palette() if palette is None else palette
    mask = np.asarray(mask)
    if not np.issubdtype(mask.dtype, np.integer):
        raise TypeError(f"a label map has integers, not {mask.dtype}; take the argmax of probabilities first")
    if mask.size and (mask.min() < 0 or mask.max() >= len(palette)):
        raise DataError(
            f"the label map has values {mask.min()} to {mask.max()} but the palette has 0 to "
            f"{len(palette) - 1}; check the mask's encoding"
        )
    return palette[mask]
