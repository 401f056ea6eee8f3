"""Reads label maps from lossless pictures other than PNGs, which `cvjax.data.pixels.numbers` reads."""

import numpy as np
from PIL import Image

from cvjax.errors import DataError

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""The suffixes, in lower case, of the files that a folder is searched for masks; all these formats can be lossless."""

_MOST = 65_535  # the largest number that is told from others
_BITS_PER_SAMPLE = 258  # TIFF's tag
_FIX = "save label maps as 8-bit gray or palette PNG"


def lossless_numbers(picture: Image.Image, data: bytes, name: str) -> np.ndarray:
    """Returns the numbers that a picture stores, uint8 or uint16 [H, W]: gray levels, or indices into its palette.

    A color picture whose channels are all equal is a gray one. Writers of GIF number the colors as they like, so that
    of a GIF gray levels alone are read.

    Args:
      picture: Opened and loaded picture.
      data: Bytes that it was opened from.
      name: Name of the file, for messages.

    Raises:
      DataError: The format loses what it stores, there are several pages, or pixels are colors or no whole numbers.
    """
    kind = picture.format or "picture"
    if kind in ("JPEG", "MPO") or picture.info.get("compression") in ("jpeg", "tiff_jpeg") or _is_lossy_webp(data):
        what = {"WEBP": "a lossy WebP", "TIFF": "a TIFF with JPEG's compression"}.get(kind, "a JPEG")
        raise DataError(f"{name}: this mask is {what}, whose compression changes labels; {_FIX}.")
    if getattr(picture, "n_frames", 1) > 1:
        pages = getattr(picture, "n_frames", 1)
        raise DataError(f"{name}: this mask has {pages} pages, and an image has one mask; save each as a file.")
    numbers = np.asarray(picture)
    depth = picture.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0] if kind == "TIFF" else 8  # type: ignore[attr-defined]
    if numbers.ndim == 3:
        if depth > 8:  # Pillow keeps the high bytes alone
            raise DataError(f"{name}: this mask is a color {kind} of {depth} bits a channel; {_FIX}.")
        return _gray(numbers, picture.mode, name, kind)
    if kind == "GIF" and picture.mode == "P":
        levels = np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return _gray(levels[numbers], "RGB", name, kind)
    if numbers.dtype == np.bool_:
        return numbers.astype(np.uint8)
    if numbers.dtype.kind == "f" or not (numbers.min() >= 0 and numbers.max() <= _MOST):
        shown = numbers.min() if numbers.min() < 0 else numbers.max()
        what = "fractions" if numbers.dtype.kind == "f" else f"the number {shown}"
        raise DataError(f"{name}: this mask holds {what}, and labels are whole numbers from 0 to {_MOST}; {_FIX}.")
    if picture.mode == "L" and kind == "TIFF":
        return numbers // np.uint8({2: 85, 4: 17}.get(depth, 1))  # Pillow spreads few bits over 0..255
    return numbers if numbers.dtype == np.uint8 else numbers.astype(np.uint16)


def _gray(colors: np.ndarray, mode: str, name: str, kind: str) -> np.ndarray:
    gray = colors[..., 0]
    channels = colors[..., :3] if mode in ("RGB", "RGBA", "RGBX") else colors[..., :1]
    is_opaque = mode not in ("LA", "RGBA") or (colors[..., -1] == 255).all()
    if mode not in ("RGB", "RGBX", "RGBA", "LA") or not is_opaque or (channels != gray[..., None]).any():
        raise DataError(
            f"{name}: this mask is a color or alpha {kind}, whose pixels are colors and no class numbers; {_FIX}."
        )
    return np.ascontiguousarray(gray)


def _is_lossy_webp(data: bytes) -> bool:
    """Returns whether the bytes are a WebP whose picture is a chunk "VP8 ", the lossy kind, and not "VP8L"."""
    place = 12
    while data[8:12] == b"WEBP" and place + 8 <= len(data):
        chunk, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if chunk in (b"VP8 ", b"VP8L"):
            return chunk == b"VP8 "
        place += 8 + size + size % 2
    return False
