"""Reads what the header of an image file says: its format, size, and the turn that a viewer gives it.

Cameras store pixels as the sensor lies and note in a tag of EXIF how the picture is to be turned. JPEG has it in its
segment APP1, PNG in the chunk eXIf, WebP in the chunk EXIF, TIFF among its own tags. A damaged tag counts as none, as
for viewers.
"""

import io
from typing import BinaryIO, NamedTuple

from PIL import Image

from cvjax.data.pixels.tags import ORIENTATION, read_tags

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
# JPEG's markers: start of scan, APP1 (EXIF), the starts of frame, and markers without a length.
_SCAN, _APP1 = 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
_HEAD = 10  # Bytes of a segment that are looked at.
_CHUNK = 4096


class Header(NamedTuple):
    """Holds what the header of an image file says.

    Attributes:
      kind: "jpeg", "png", "webp", "tiff", "bmp", or "" for any other format.
      height, width: Size in pixels as stored, before the turn; 0 where the format or the damage hides it.
      orientation: How a viewer turns the stored pixels, 1 (not at all) to 8, see `cvjax.data.pixels.turning`.
      bits: Bits of a PNG's sample; 0 for other formats.
    """

    kind: str
    height: int = 0
    width: int = 0
    orientation: int = 1
    bits: int = 0

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width as a viewer shows the picture."""
        size = self.height, self.width
        return size if self.orientation < 5 else (self.width, self.height)


def read_header(file: BinaryIO) -> Header:
    """Reads the header of an image file from its start; a damaged one ends where the damage is."""
    start = file.read(_CHUNK)
    if start.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(file, start)
    if start.startswith(_PNG):
        return _read_png(file)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        file.seek(12)
        return _read_webp(file)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff(file)
    return _read_bmp(file) if start.startswith(b"BM") else Header("")


def read_whole_header(file: BinaryIO) -> Header:
    """Reads the header of an image file from its start, with Pillow's help where `read_header` finds no size.

    Raises:
      OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError: As Pillow raises them; the file is no image
        that it knows, or is damaged.
    """
    header = read_header(file)
    if header.height and header.width:
        return header
    file.seek(0)
    with Image.open(file) as picture:
        orientation = header.orientation if header.kind else int(picture.getexif().get(ORIENTATION, 1))
        return header._replace(height=picture.height, width=picture.width, orientation=orientation)


def _read_jpeg(file: BinaryIO, data: bytes) -> Header:
    """Reads a JPEG's header; `data` are its first bytes, which is all that most files need."""
    orientation, begin, at = None, 0, 2
    while True:
        if at + _HEAD > len(data):
            begin, at = begin + at, 0
            file.seek(begin)
            data = file.read(_CHUNK)
        if len(data) < at + _HEAD or data[at] != 0xFF:
            break
        marker, length = data[at + 1], (data[at + 2] << 8) + data[at + 3]
        if marker in _FRAMES:
            # EXIF stands before the frame by its standard, so that what follows need not be read.
            height, width = (data[at + 5] << 8) + data[at + 6], (data[at + 7] << 8) + data[at + 8]
            return Header("jpeg", height, width, orientation or 1)
        if marker == _APP1 and orientation is None and data.startswith(_EXIF, at + 4):
            file.seek(begin + at + 4)
            orientation = _orientation(file.read(max(length - 2, 0)))
        if marker == _SCAN or (length < 2 and marker != 0xFF and marker not in _BARE):
            break
        # A byte may fill before a marker, and some markers have no length.
        at += 1 if marker == 0xFF else 2 if marker in _BARE else 2 + length
    return Header("jpeg", orientation=orientation or 1)


def _read_png(file: BinaryIO) -> Header:
    file.seek(16)
    start, orientation = file.read(17), 1  # sides, depth, and what else is in IHDR, with its checksum
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4])
        if head[4:] == b"eXIf":
            orientation = _orientation(file.read(length))
            break
        file.seek(length + 4, io.SEEK_CUR)
    bits = start[8] if len(start) > 8 else 0
    return Header("png", int.from_bytes(start[4:8]), int.from_bytes(start[:4]), orientation, bits)


def _read_webp(file: BinaryIO) -> Header:
    orientation, height, width = 1, 0, 0
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"VP8X":
            body = file.read(length)
            height, width = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (7, 4))
            if not body or not body[0] & 0x08:  # The flag that a chunk EXIF follows.
                break
            length = 0
        elif head[:4] == b"VP8 " and not height:
            body = file.read(10)
            height, width = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (8, 6))
            break
        elif head[:4] == b"VP8L" and not height:
            sides = int.from_bytes(file.read(5)[1:], "little")
            height, width = (sides >> 14 & 0x3FFF) + 1, (sides & 0x3FFF) + 1
            break
        elif head[:4] == b"EXIF":
            orientation = _orientation(file.read(length))
            break
        file.seek(length + length % 2, io.SEEK_CUR)
    return Header("webp", height, width, orientation)


def _read_bmp(file: BinaryIO) -> Header:
    file.seek(14)
    start = file.read(12)
    step = 2 if start[:1] == b"\x0c" else 4  # The oldest header has short numbers.
    width, height = (int.from_bytes(start[at : at + step], "little", signed=True) for at in (4, 4 + step))
    return Header("bmp", abs(height), abs(width))  # A negative height says that rows run downward.


def _read_tiff(file: BinaryIO) -> Header:
    tags = read_tags(file)
    return Header("tiff", tags.first(257, 0), tags.first(256, 0), _valid(tags.first(ORIENTATION, 1)))


def _orientation(exif: bytes) -> int:
    """Returns the orientation that a block of EXIF states, 1 where it states none or is damaged."""
    return _valid(read_tags(io.BytesIO(exif.removeprefix(_EXIF))).first(ORIENTATION, 1))


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1
