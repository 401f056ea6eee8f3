"""Reads TensorFlow's checkpoints of version 2 without TensorFlow.

A checkpoint PREFIX is a table `PREFIX.index` (see `cvjax.weights.readers.sstable`) and files
`PREFIX.data-00000-of-0000N`. The index has the type, shape, place and checksum of each variable, and the data files
have nothing but numbers. TensorFlow documents both in `tensor_bundle.proto`, whose fields are the numbers below.
"""

import math
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from cvjax.errors import CheckpointError
from cvjax.weights.readers.crc32c import masked_crc32c
from cvjax.weights.readers.sstable import MAGIC, DamagedError, Message, parse, read_table

_SUFFIX = re.compile(r"(.+)\.(?:index|data-\d+-of-\d+)")
_LFS = b"version https://git-lfs"
_LARGEST_INDEX = 1 << 28  # bytes; that of a net with a thousand variables has 100 kB
_LARGEST_RANK = 32
_LARGEST_ARRAY = 1 << 62  # bytes, which numpy can count
# Numbers of `types.proto`. numpy has no bfloat16: it is the upper half of a float32.
_BFLOAT16, _HALF = 14, 19
_TYPES = {
    **{1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 8: "<c8", 9: "<i8", 10: "?", 17: "<u2", 18: "<c16"},
    **{22: "<u4", 23: "<u8", _BFLOAT16: "<u2", _HALF: "<f2"},
}
_NO_NUMBERS = (7, 20, 21)  # strings, resources and variants


class _Entry(NamedTuple):
    """Describes a variable, or a part of one: its type, shape, and where its bytes are.

    A variable in parts has no bytes of its own, but the slices of its parts, each a message.
    """

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Message, ...]


class _Part(NamedTuple):
    """Describes bytes of a data file, and the place of their numbers in a variable."""

    entry: _Entry
    place: tuple[slice, ...]


def read_bundle(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the variables of a checkpoint of TensorFlow's version 2 (a "tensor bundle").

    Args:
      path: Path of the checkpoint as TensorFlow names it, without a suffix; or of its `.index`, or of a `.data` file.

    Returns:
      Arrays under TensorFlow's names. Half and bfloat16 become float32, and parts of a partitioned variable become one.
      What has no numbers is left out, such as the graph of objects that TensorFlow 2 adds.

    Raises:
      CheckpointError: A file is missing, damaged, or something else; every number is checked against its checksum.
    """
    index = path = pathlib.Path(path)
    try:
        prefix = _prefix(path)
        index = pathlib.Path(f"{prefix}.index")
        entries = read_table(_read_index(index))
        header = parse(entries.pop(b"", b""))
        shards = header.number(1)
        if not shards:
            raise DamagedError("it does not say how many data files there are, as an index of version 2 does")
        if header.number(2):
            raise DamagedError("a big-endian machine wrote it, which is not read here")
        if header.message(3).number(2) > 1:
            raise DamagedError("it asks for a newer reader")
        parts = {key: _entry(value, key) for key, value in entries.items() if key.startswith(b"\0")}
        named = {_text(key): _entry(value, key) for key, value in entries.items() if not key.startswith(b"\0")}
        plan = {
            name: [_Part(entry, ())] if not entry.slices else _parts(name, entry, parts)
            for name, entry in named.items()
            if entry.kind not in _NO_NUMBERS
        }
        files = _data_files(prefix, shards, [(name, part.entry) for name, row in plan.items() for part in row])
        return {name: _array(name, named[name], row, files) for name, row in plan.items()}
    except DamagedError as error:
        raise _fault(index, str(error)) from error
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or index} cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def _fault(path: pathlib.Path, trouble: str) -> CheckpointError:
    return CheckpointError(f"{path}: {trouble}; fetch or write the checkpoint again")


def _prefix(path: pathlib.Path) -> pathlib.Path:
    """Returns a checkpoint's path without the suffix of its files."""
    match = _SUFFIX.fullmatch(path.name)
    prefix = path.with_name(match[1]) if match else path
    index = pathlib.Path(f"{prefix}.index")
    if index.is_file():
        return prefix
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        example = f", such as {found[0].with_suffix('')}" if found else ""
        raise CheckpointError(f"{path} is a folder; name a checkpoint in it without its suffix{example}")
    if not match and path.is_file():
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - len(MAGIC)))
            is_table = file.read() == MAGIC
        if is_table:
            raise CheckpointError(
                f"{path} is a checkpoint of TensorFlow's version 1; restore and save it with TensorFlow's "
                "tf.compat.v1.train.Saver, which writes version 2"
            )
        raise CheckpointError(f"{path} is no checkpoint of TensorFlow's, which is PREFIX.index and PREFIX.data-...")
    raise CheckpointError(
        f"{index}: there is no such file; a checkpoint is this and {prefix.name}.data-..., side by side"
    )


def _read_index(path: pathlib.Path) -> bytes:
    if path.stat().st_size > _LARGEST_INDEX:
        raise DamagedError("it is larger than any index")
    data = path.read_bytes()
    if data.startswith(_LFS):
        raise _pointer(path)
    return data


def _pointer(path: pathlib.Path) -> CheckpointError:
    return CheckpointError(f"{path} is a pointer of Git LFS in place of the file; run git lfs pull")


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise DamagedError(f"the name {_short(key)} is no text") from error


def _short(name: str | bytes) -> str:
    return f"{name!r:.120}"


def _entry(value: bytes, key: bytes) -> _Entry:
    """Reads a BundleEntryProto; its shape is one that numpy takes."""
    message = parse(value)
    kind = message.number(1)
    shape = tuple(dim.number(1) for dim in message.message(2).messages(2))
    if kind not in _TYPES and kind not in _NO_NUMBERS:
        raise DamagedError(f"{_short(key)} has TensorFlow's type {kind}, which is not read here")
    if len(shape) > _LARGEST_RANK or math.prod(max(side, 1) for side in shape) > _LARGEST_ARRAY // 16:
        raise DamagedError(f"the shape of {_short(key)} is impossible")
    shard, offset, size, crc = (message.number(field) for field in (3, 4, 5, 6))
    return _Entry(kind, shape, shard, offset, size, crc, tuple(message.messages(7)))


def _bytes(entry: _Entry) -> int:
    return math.prod(entry.shape) * np.dtype(_TYPES[entry.kind]).itemsize


def _parts(name: str, whole: _Entry, parts: Mapping[bytes, _Entry]) -> list[_Part]:
    """Returns the parts of a partitioned variable, which have all of its numbers between them."""
    rank, row = len(whole.shape), []
    for message in whole.slices:
        # An axis that is not cut has no length here, and the length -1 in the part's key.
        extents = [(axis.number(1), axis.numbers.get(2, -1)) for axis in message.messages(1)]
        entry = parts.get(_part_key(name, extents)) if len(extents) == rank else None
        if entry is None or entry.kind != whole.kind:
            raise DamagedError(f"a part of {_short(name)} is missing")
        place = tuple(
            slice(0, side) if length == -1 else slice(start, start + length)
            for side, (start, length) in zip(whole.shape, extents)
        )
        sides = tuple(axis.stop - axis.start for axis in place)
        if entry.slices or entry.shape != sides or any(axis.stop > side for axis, side in zip(place, whole.shape)):
            raise DamagedError(f"a part of {_short(name)} does not fit")
        row.append(_Part(entry, place))
    if sum(_bytes(part.entry) for part in row) != _bytes(whole):
        raise DamagedError(f"the parts of {_short(name)} are not the whole")
    return row


def _part_key(name: str, extents: Iterable[tuple[int, int]]) -> bytes:
    """Returns the key of a part: zero, name, rank and extents, in a code whose bytes sort as the values do."""
    escaped = name.encode().replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff")
    numbers = [number for extent in extents for number in extent]
    rank = len(numbers) // 2
    # An unsigned number has its length in front.
    head = b"\x00" + escaped + b"\x00\x01" + (bytes([1, rank]) if rank else b"\x00")
    return head + b"".join(map(_signed, numbers))


def _signed(number: int) -> bytes:
    """Returns a number in that code: as many ones as it has bytes, a zero, and the number in 7 bits a byte."""
    size = (number if number >= 0 else ~number).bit_length() // 7 + 1
    header = ((1 << size) - 1) << 7 * size
    return (number % (1 << 8 * size) ^ header).to_bytes(size, "big")


def _data_files(prefix: pathlib.Path, count: int, wanted: Iterable[tuple[str, _Entry]]) -> dict[int, pathlib.Path]:
    """Returns the data files with anything of that is wanted, which all lies within them and nowhere overlaps."""
    files: dict[int, pathlib.Path] = {}
    sizes: dict[int, int] = {}
    total = 0
    for name, entry in wanted:
        if entry.size != _bytes(entry):
            raise DamagedError(f"{_short(name)} has {entry.size} bytes, which are not those of its shape {entry.shape}")
        if entry.shard not in files:
            if entry.shard >= count:
                raise DamagedError(f"{_short(name)} is in data file {entry.shard} of {count}")
            file = pathlib.Path(f"{prefix}.data-{entry.shard:05d}-of-{count:05d}")
            if not file.is_file():
                raise CheckpointError(f"{file}: there is no such file, which the index needs; fetch all files together")
            with open(file, "rb") as stream:
                if stream.read(len(_LFS)) == _LFS:
                    raise _pointer(file)
            files[entry.shard], sizes[entry.shard] = file, file.stat().st_size
        if entry.offset + entry.size > sizes[entry.shard]:
            raise _fault(files[entry.shard], f"it has {sizes[entry.shard]} bytes and ends before {_short(name)} does")
        total += entry.size
    if total > sum(sizes.values()):
        raise DamagedError("variables overlap in the data files")
    return files


def _array(name: str, whole: _Entry, parts: list[_Part], files: Mapping[int, pathlib.Path]) -> np.ndarray:
    if not whole.slices:
        return _numbers(name, whole, files)
    array: np.ndarray | None = None
    covered = np.zeros(whole.shape, bool)
    for entry, place in parts:
        numbers = _numbers(name, entry, files)
        array = np.empty(whole.shape, numbers.dtype) if array is None else array
        array[place], covered[place] = numbers, True
    if array is None or not covered.all():
        raise DamagedError(f"the parts of {_short(name)} are not the whole")
    return array


def _numbers(name: str, entry: _Entry, files: Mapping[int, pathlib.Path]) -> np.ndarray:
    file = files[entry.shard]
    octets = np.fromfile(file, np.uint8, entry.size, offset=entry.offset)
    if masked_crc32c(octets) != entry.crc:
        raise _fault(file, f"the checksum of {_short(name)} is wrong")
    array = octets.view(_TYPES[entry.kind]).reshape(entry.shape)
    if entry.kind == _BFLOAT16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32) if entry.kind == _HALF else array
