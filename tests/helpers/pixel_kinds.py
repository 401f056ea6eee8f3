"""The same random pixels as samples of several kinds, and files of Pillow's pictures."""

import io

import numpy as np
from PIL import Image

DEEP = np.random.default_rng(0).integers(0, 65536, (6, 8, 4)).astype(np.uint16)
DEEP[0, 0] = 65535
BYTES = (DEEP >> 8).astype(np.uint8)
COLORS = BYTES[..., :3]


def shades(array: np.ndarray) -> np.ndarray:
    """Three channels from one."""
    return np.repeat(array[..., None], 3, axis=-1)


GRAY = shades(BYTES[..., 0])


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    """A picture as a file of Pillow's format `kind`."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
