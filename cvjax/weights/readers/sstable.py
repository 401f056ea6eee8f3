"""Reads tables of sorted keys, LevelDB's file format, which TensorFlow keeps the index of a checkpoint in.

A table ends with a footer, which points to a block that points to all others. A block is a row of (key, value), in
which a key only has what differs from the key before. Values are protocol buffers in TensorFlow's tables; `parse`
takes one apart. Sizes are compared with what there is before anything is allocated.
"""

from collections.abc import Iterator
from typing import NamedTuple

from cvjax.weights.readers.crc32c import masked_crc32c

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5  # the kind of compression and a checksum, behind each block
# Keys share their beginnings, and so are longer together than their block: in real ones 2 to 5 times as long.
_LARGEST_FACTOR = 64


class DamagedError(Exception):
    """Reports what is wrong with some bytes; who knows the file's name makes it a sentence."""


class Message(NamedTuple):
    """Holds a protocol buffer's fields by number: the last of the numbers, and all strings, bytes and messages."""

    numbers: dict[int, int]
    blobs: dict[int, list[bytes]]

    def number(self, field: int) -> int:
        """Returns a number, or the default, 0."""
        return self.numbers.get(field, 0)

    def message(self, field: int) -> "Message":
        """Returns a message, or an empty one; one that comes in several parts is their sum."""
        return parse(b"".join(self.blobs.get(field, [])))

    def messages(self, field: int) -> list["Message"]:
        """Returns the messages of a repeated field."""
        return [parse(blob) for blob in self.blobs.get(field, [])]


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Returns the values of a table by their keys, in order.

    Raises:
      DamagedError: It is no table, or it breaks off, has wrong checksums, or is compressed.
    """
    if len(data) < _FOOTER or not data.endswith(MAGIC):
        raise DamagedError("it does not end as an index does, so it is cut off or something else")
    footer, end = data[-_FOOTER:-8], len(data) - _FOOTER
    _, position = _handle(footer, 0)  # of a block that describes the others, empty in TensorFlow
    root, _ = _handle(footer, position)
    entries: dict[bytes, bytes] = {}
    reached = 0
    for _, value in _block(data, end, *root):
        (offset, size), _ = _handle(value, 0)
        # Blocks that overlap would let a small file grow beyond all bounds.
        if offset < reached:
            raise DamagedError("its blocks overlap")
        reached = offset + size + _TRAILER
        entries.update(_block(data, end, offset, size))
    return entries


def parse(data: bytes) -> Message:
    """Returns the fields of a protocol buffer.

    Raises:
      DamagedError: It breaks off, or has a kind of field that is no longer in use.
    """
    message, position = Message({}, {}), 0
    while position < len(data):
        tag, position = read_varint(data, position)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            message.numbers[field], position = read_varint(data, position)
        elif kind in (1, 5):
            content, position = _take(data, position, 8 if kind == 1 else 4)
            message.numbers[field] = int.from_bytes(content, "little")
        elif kind == 2:
            size, position = read_varint(data, position)
            content, position = _take(data, position, size)
            message.blobs.setdefault(field, []).append(content)
        else:
            raise DamagedError("an entry is no protocol buffer")
    return message


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns a number below 2^64 that has seven bits in each byte, and the position behind it.

    Raises:
      DamagedError: It breaks off.
    """
    number = 0
    for shift in range(0, 70, 7):
        (octet,), position = _take(data, position, 1)
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number % 2**64, position
    raise DamagedError("a number has no end")


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Returns a block's offset and size, and the position behind them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(data: bytes, end: int, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of the block that has `size` bytes from `offset` on; blocks lie before `end`."""
    if offset + size + _TRAILER > end:
        raise DamagedError("a block lies beyond its end")
    trailer = data[offset + size : offset + size + _TRAILER]
    if masked_crc32c(data[offset : offset + size + 1]) != int.from_bytes(trailer[1:], "little"):
        raise DamagedError("a block's checksum is wrong")
    if trailer[0]:
        raise DamagedError("it is compressed, which an index of version 2 never is")
    block = data[offset : offset + size]
    # Behind the entries are the positions of those with whole keys, for a binary search, and their count.
    size -= 4 * (1 + int.from_bytes(block[-4:], "little"))
    if size < 0:
        raise DamagedError("a block breaks off")
    block, position, key, room = block[:size], 0, b"", _LARGEST_FACTOR * size
    while position < size:
        shared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        extent, position = read_varint(block, position)
        rest, position = _take(block, position, length)
        value, position = _take(block, position, extent)
        if shared > len(key):
            raise DamagedError("a name lacks its beginning")
        key = key[:shared] + rest
        room -= len(key)
        if room < 0:
            raise DamagedError("its names are too long")
        yield key, value


def _take(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - position:
        raise DamagedError("an entry breaks off")
    return data[position : position + size], position + size
