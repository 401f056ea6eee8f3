"""Plain TIFF files of any samples, written by hand: no library writes all kinds."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

_CODES = {3: "H", 4: "I"}


def tiff_bytes(
    samples: np.ndarray,
    order: str = "<",
    *,
    tags: Mapping[int, Sequence[int]] | None = None,
    planes: bool = False,
) -> bytes:
    """Samples [H, W] or [H, W, C] as an uncompressed TIFF of one strip, or of one a channel.

    Args:
      samples: Samples of any type; three and more channels are RGB.
      order: "<" or ">", the order of the bytes.
      tags: Further tags, or others in the place of those that follow from the samples.
      planes: Whether channels lie one after another.
    """
    height, width, channels = (*samples.shape, 1)[:3]
    raw = samples.astype(samples.dtype.newbyteorder(order))
    pixels = (np.moveaxis(raw, -1, 0) if planes else raw).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    strips = channels if planes else 1
    table: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: [8 * samples.dtype.itemsize] * channels,
        259: [1],
        262: [2 if channels >= 3 else 1],
        273: [0] * strips,
        277: [channels],
        278: [height],
        279: [len(pixels) // strips] * strips,
        284: [2 if planes else 1],
        339: [kind] * channels,
    } | dict(tags or {})
    types = {tag: 4 if tag in (273, 279) else 3 for tag in table}
    at = 8 + 2 + 12 * len(table) + 4
    places = {}
    for tag in sorted(table):  # What does not fit into the table follows it.
        length = struct.calcsize(_CODES[types[tag]]) * len(table[tag])
        if length > 4:
            places[tag], at = at, at + length + length % 2
    table[273] = [at + number * (len(pixels) // strips) for number in range(strips)]
    rows, further = b"", b""
    for tag in sorted(table):
        values = struct.pack(f"{order}{len(table[tag])}{_CODES[types[tag]]}", *table[tag])
        if tag in places:
            further += values + b"\0" * (len(values) % 2)
            values = struct.pack(f"{order}I", places[tag])
        rows += struct.pack(f"{order}HHI", tag, types[tag], len(table[tag])) + values.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(table))
    return start + rows + b"\0\0\0\0" + further + pixels
