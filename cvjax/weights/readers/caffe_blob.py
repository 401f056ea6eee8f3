"""Takes the arrays of Caffe's blobs apart without protobuf, which hands out numbers that are not packed one by one.

A blob has a few fields: its axes, and its numbers either in one piece or each behind a tag of its own. The second kind
is a row of records of one size, which numpy takes at once. A blob with anything else in it is left to protobuf.
"""

from typing import NamedTuple

import numpy as np

# The byte before each number that is not packed holds the field's number and its kind; gradients are passed over.
_DATA, _DIFF, _DOUBLE, _DOUBLE_DIFF = (8 * number + kind for number, kind in ((5, 5), (6, 5), (8, 1), (9, 1)))
_SINGLE, _WIDE = (np.dtype([("tag", "u1"), ("number", number)]) for number in ("<f4", "<f8"))
_RECORDS = {_DATA: _SINGLE, _DIFF: _SINGLE, _DOUBLE: _WIDE, _DOUBLE_DIFF: _WIDE}
_PACKED = {8 * 5 + 2: np.dtype("<f4"), 8 * 6 + 2: None, 8 * 8 + 2: np.dtype("<f8"), 8 * 9 + 2: None}
_AXES = {8 * 1, 8 * 2, 8 * 3, 8 * 4, 8 * 7 + 2}
_MOST = 64  # fields; Caffe writes six at most, and a damaged file may have millions


class Parts(NamedTuple):
    """Holds the parts of a blob.

    Attributes:
      axes: Fields with its shape, for protobuf.
      numbers: Its numbers in each form that it has them in: single or double, packed or not. Views of the blob, where
        they are of one piece.
    """

    axes: bytes
    numbers: list[np.ndarray]


def take_apart(blob: bytes) -> Parts | None:
    """Returns the parts of an encoded blob; None where it holds more than Caffe writes, or is damaged."""
    axes: list[bytes] = []
    found: dict[int, list[np.ndarray]] = {}
    place = 0
    for _ in range(_MOST):
        if place == len(blob):
            forms = [np.concatenate(pieces) if len(pieces) > 1 else pieces[0] for pieces in found.values()]
            return Parts(b"".join(axes), [form for form in forms if len(form)])
        tag, start = blob[place], place + 1
        if tag in _RECORDS:
            records = np.frombuffer(blob, _RECORDS[tag], (len(blob) - place) // _RECORDS[tag].itemsize, place)
            others = records["tag"] != tag
            count = int(others.argmax()) if others.any() else len(records)
            end = place + count * records.itemsize
            pieces = records["number"][:count] if tag in (_DATA, _DOUBLE) else None
            if not count:  # cut off within a number
                return None
        elif tag in _PACKED or tag in _AXES:
            value, start = _varint(blob, start)
            end = start + value if tag % 8 == 2 else start
            if value < 0 or end > len(blob):
                return None
            kind = _PACKED.get(tag)
            if kind is not None and value % kind.itemsize:
                return None
            pieces = None if kind is None else np.frombuffer(blob, kind, value // kind.itemsize, start)
            if tag in _AXES:
                axes.append(blob[place:end])
        else:
            return None
        if pieces is not None:
            found.setdefault(tag, []).append(pieces)
        place = end
    return None


def _varint(blob: bytes, place: int) -> tuple[int, int]:
    """Returns one of protobuf's integers and where it ends; -1 where it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(blob):
            break
        byte = blob[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
    return -1, place
