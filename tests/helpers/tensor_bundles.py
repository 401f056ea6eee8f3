"""Writes TensorFlow's checkpoints of version 2 as a test wants them, faults included."""

import pathlib

import numpy as np

from cvjax.weights.readers.crc32c import masked_crc32c

_TYPES = {"float32": 1, "int64": 9}


def varint(number: int) -> bytes:
    """A number in seven bits a byte."""
    octets = []
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    return bytes([*octets, number])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer of (field, number or bytes)."""
    parts = []
    for field, value in fields:
        if isinstance(value, int):
            parts.append(varint(field << 3) + varint(value))
        else:
            parts.append(varint(field << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def entry(array: np.ndarray, offset: int, **changes: int) -> bytes:
    """A BundleEntryProto; `changes` are numbers of the fields kind, shard, offset, size and crc."""
    data = np.ascontiguousarray(array).tobytes()
    fields = {"kind": _TYPES[array.dtype.name], "shard": 0, "offset": offset, "size": len(data)}
    fields |= {"crc": masked_crc32c(data)} | changes
    shape = message(*((2, message((1, side))) for side in array.shape))
    kind, shard, offset, size, crc = fields.values()
    fixed = varint(6 << 3 | 5) + crc.to_bytes(4, "little")
    return message((1, kind), (2, shape), (3, shard), (4, offset), (5, size)) + fixed


def block(rows: list[tuple[bytes, bytes]], compression: int = 0, whole_every: int = 2) -> bytes:
    """A block with its trailer; every so many keys one is whole."""
    content, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(rows):
        shared = 0
        if number % whole_every:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        else:
            restarts.append(len(content))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    content += np.array([*restarts, len(restarts)], "<u4").tobytes() + bytes([compression])
    return content + masked_crc32c(content).to_bytes(4, "little")


def table(
    rows: list[tuple[bytes, bytes]], rows_per_block: int = 3, compression: int = 0, whole_every: int = 2
) -> bytes:
    """A table of rows in the order given."""
    data, root = b"", []
    for start in range(0, len(rows), rows_per_block):
        part = block(rows[start : start + rows_per_block], compression, whole_every)
        last = rows[start : start + rows_per_block][-1][0]
        root.append((last, varint(len(data)) + varint(len(part) - 5)))
        data += part
    handles = b""
    for part in (block([]), block(root)):
        handles += varint(len(data)) + varint(len(part) - 5)
        data += part
    return data + handles.ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")


HEADER = message((1, 1), (3, message((1, 1))))


def write_bundle(prefix: pathlib.Path, arrays: dict[str, np.ndarray], **changes: int) -> None:
    """Writes a checkpoint with one data file; `changes` are those of `entry`, for every variable."""
    rows, data = [(b"", HEADER)], b""
    for name, array in sorted(arrays.items()):
        rows.append((name.encode(), entry(array, len(data), **changes)))
        data += np.ascontiguousarray(array).tobytes()
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(rows))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
