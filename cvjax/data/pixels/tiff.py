"""Decodes TIFF, whose samples may be of many kinds: alpha, 16 and 32 bits, floats, several pages."""

import io

import cv2
import numpy as np

from cvjax.data.pixels.levels import to_8_bits
from cvjax.data.pixels.tags import ORIENTATION, Tags, read_tags
from cvjax.errors import DataError

_BITS, _PHOTOMETRIC, _CHANNELS, _EXTRA, _FORMAT = 258, 262, 277, 338, 339
_WHITE, _SUBFILE, _PLANES = 281, 254, 284
_OFFSETS = ((273, 279), (324, 325))  # strips, tiles: their positions and lengths
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_KINDS = ((1, 16), (1, 32), (2, 16), (2, 32), (3, 32), (3, 64))
"""Format (1 unsigned, 2 signed, 3 float) and bits of samples beyond 8 bits that are read."""
_PREMULTIPLIED = 1
_PLAIN = "save it as gray or RGB with 8 or 16 bits"
_REDUCED = 1  # The flag of a page that is a small copy of another.
_MOST_PAGES = 64  # So many pages are looked at: a ring of pages would have no end.


def needs_pillow(data: bytes) -> bool:
    """Returns whether Pillow decodes a TIFF right where OpenCV would not.

    OpenCV multiplies colors by alpha, and fills what a short file lacks.
    """
    tags = read_tags(io.BytesIO(data))
    return _EXTRA in tags.values or not _is_whole(data, tags)


def check(data: bytes, name: str) -> None:
    """Checks that a TIFF's tags are whole, and that its first page is its only picture, beside small copies.

    Raises:
      DataError: It is cut short, its first page is such a copy, or it has further pages.
    """
    file = io.BytesIO(data)
    page = read_tags(file)
    if page.is_cut:
        raise DataError(
            f"{name}: the image is cut short or damaged (its tags are not whole); fetch or export the file again, or"
            " remove it from the data set."
        )
    if page.first(_SUBFILE, 0) & _REDUCED or data[8:10] == b"CR":  # Canon's mark
        raise DataError(
            f"{name}: this TIFF begins with a small copy of its picture, as camera raw does; develop it to JPEG,"
            " or save it as a plain TIFF."
        )
    pages, seen = 1, 0
    while page.following and seen < _MOST_PAGES:
        page, seen = read_tags(file, page.following), seen + 1
        pages += bool(page.values) and not page.first(_SUBFILE, 0) & _REDUCED
    if pages > 1:
        raise DataError(f"{name}: this TIFF has {pages} pages; save each as a file of its own.")


def decode_deep(data: bytes, name: str) -> np.ndarray | None:
    """Decodes a TIFF of more than 8 bits to uint8 [H, W, 3] in RGB order, not turned; None if it has at most 8 bits.

    Raises:
      DataError: The samples are of a kind that is not read, their scale cannot be known, or the file is damaged.
    """
    tags = read_tags(io.BytesIO(data))
    bits, kind = max(tags.values.get(_BITS, (1,))), tags.first(_FORMAT, 1)
    if bits <= 8 and kind == 1:
        return None
    channels, photometric = tags.first(_CHANNELS, 1), tags.first(_PHOTOMETRIC, _BLACK_IS_ZERO)
    colors = 3 if photometric == _RGB else 1
    if (kind, bits) not in _KINDS or photometric not in (0, 1, 2) or channels not in (colors, colors + 1):
        what = {2: "signed ", 3: "floating-point "}.get(kind, "")
        raise DataError(
            f"{name}: a TIFF with {channels} {what}{'channel' if channels == 1 else 'channels'} of {bits} bits is not"
            f" read; {_PLAIN}."
        )
    if tags.first(_EXTRA, 0) == _PREMULTIPLIED:
        raise DataError(f"{name}: a TIFF of {bits} bits whose colors are multiplied by alpha is not read; {_PLAIN}.")
    if channels > 1 and tags.first(_PLANES, 1) != 1:  # OpenCV would mix them up without a word.
        raise DataError(f"{name}: a TIFF of {bits} bits with a plane for each channel is not read; {_PLAIN}.")
    samples = None
    if _is_whole(data, tags):
        try:
            samples = cv2.imdecode(np.frombuffer(upright(data), np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            samples = None
    if samples is None:
        raise DataError(
            f"{name}: the image is cut short, damaged, or packed in a way that is not read; save it again as a plain"
            " TIFF or PNG, or remove it from the data set."
        )
    samples = samples.reshape(*samples.shape[:2], -1)
    samples = samples[..., :colors][..., ::-1]  # OpenCV has blue first.
    white = tags.first(_WHITE, 0)
    levels = to_8_bits(samples, name, white if kind != 3 and 0 < white < (1 << bits) - 1 else None)
    if photometric == _WHITE_IS_ZERO:
        levels = np.uint8(255) - levels
    return np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:2], 3)))


def upright(data: bytes) -> bytes:
    """Returns a TIFF with its orientation set to 1; OpenCV and Pillow would turn the pixels, some releases of them."""
    tags = read_tags(io.BytesIO(data))
    if tags.first(ORIENTATION, 1) == 1:
        return data
    place, size = tags.places[ORIENTATION], tags.sizes[ORIENTATION]
    one = (1).to_bytes(size, "little" if tags.order == "little" else "big")
    return data[:place] + one + data[place + size :]


def _is_whole(data: bytes, tags: Tags) -> bool:
    """Returns whether the file is as long as its tags say."""
    for starts, lengths in _OFFSETS:
        ends = [start + length for start, length in zip(tags.values.get(starts, ()), tags.values.get(lengths, ()))]
        if ends:
            return max(ends) <= len(data)
    return True  # Nothing is known; the decoder decides.
