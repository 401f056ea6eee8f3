"""Tensors of PyTorch's files as views of the storages that the files hold.

A tensor is a place, a shape and strides in a storage, and a storage is a stretch of a file. Both come from a pickle
that anyone may have written, so each is compared with the file before anything is allocated.
"""

import dataclasses
import math
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from cvjax.weights.readers.pytorch.pickle_records import PickleError
from cvjax.weights.readers.pytorch.stored_array import StoredArray

# PyTorch's dtypes: how numpy reads them, or their size in bytes where it does not.
_READ = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "u2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint64": "u8",
    "uint32": "u4",
    "uint16": "u2",
    "uint8": "u1",
    "bool": "u1",
    "float8_e4m3fn": "u1",
    "float8_e5m2": "u1",
    "float8_e4m3fnuz": "u1",
    "float8_e5m2fnuz": "u1",
}
_UNREAD = {"complex128": 16, "complex64": 8, "complex32": 4, "qint32": 4, "qint8": 1, "quint8": 1}
# Classes of storages are called as C calls their numbers.
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "Untyped": "uint8",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "QInt32": "qint32",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QUInt4x2": "quint8",
    "QUInt2x4": "quint8",
}
_MOST_AXES = 32
_MOST_REPEATED = 1 << 20
_BLOCK = 1 << 20


def dtype_of_storage(name: str) -> str:
    """Returns the dtype of a class of storages, such as "torch.cuda.FloatStorage".

    Raises:
      PickleError: The class is not known.
    """
    kind = name.rpartition(".")[2]
    if not name.startswith("torch.") or kind.removesuffix("Storage") not in _STORAGES:
        raise PickleError(f"its storage {name!r:.80} is of no known kind")
    return _STORAGES[kind.removesuffix("Storage")]


def itemsize(dtype: str) -> int:
    """Returns the size in bytes of a number of PyTorch's dtype, 1 where it is not known."""
    return np.dtype(_READ[dtype]).itemsize if dtype in _READ else _UNREAD.get(dtype, 1)


@dataclasses.dataclass
class StorageFile:
    """Reads stretches of a file as storages, each once.

    Attributes:
      path: Path of the file.
      size: Size of the file in bytes.
      order: Order of bytes: "<" or ">".
      places: Offset and size in bytes, and the CRC-32 if there is one, of each storage by its key.
    """

    path: pathlib.Path
    size: int
    order: Literal["<", ">"] = "<"
    places: dict[str, tuple[int, int, int | None]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._read: dict[tuple[str, str], np.ndarray] = {}
        # Tensors may share a storage, and then weigh more than the file, but not at will.
        self._may_claim = 8 * self.size + (1 << 24)
        self._may_read = 2 * self.size

    def claim(self, count: int) -> None:
        """Counts the numbers of a tensor.

        Raises:
          PickleError: The tensors have together far more numbers than the file.
        """
        self._may_claim -= count
        if self._may_claim < 0:
            raise PickleError("its tensors claim far more numbers than it holds")

    def storage(self, key: str, dtype: str) -> np.ndarray:
        """Returns the numbers of a storage, [N]; halves and bytes that stand for floats become float32.

        Raises:
          ValueError: The storage is damaged, not there, or of a dtype that numpy lacks.
        """
        if (key, dtype) not in self._read:
            self._read[key, dtype] = decode(self._raw(key, itemsize(dtype)), dtype, self.order)
        return self._read[key, dtype]

    def _raw(self, key: str, item: int) -> np.ndarray:
        if key not in self.places:
            raise ValueError(f"its storage {key!r:.80} is missing")
        offset, count, crc = self.places[key]
        self._may_read -= count
        if offset < 0 or count < 0 or offset + count > self.size or self._may_read < 0:
            raise ValueError(f"its storage {key!r:.80} lies beyond its end")
        raw = np.empty(count // item * item, np.uint8)
        found = 0
        with open(self.path, "rb") as file:
            file.seek(offset)
            for start in range(0, len(raw), _BLOCK):
                block = raw.data[start : start + _BLOCK]
                if file.readinto(block) != len(block):
                    raise ValueError(f"its storage {key!r:.80} is cut short")
                if crc is not None:
                    found = zlib.crc32(block, found)
            if crc is not None and zlib.crc32(file.read(count - len(raw)), found) != crc:
                raise ValueError(f"its storage {key!r:.80} does not have the checksum that the file states")
        return raw


@dataclasses.dataclass(frozen=True)
class Storage:
    """Describes a storage, or a part of one.

    Attributes:
      file: File that holds it.
      key: Name of the storage within the file.
      dtype: PyTorch's dtype of its numbers.
      start: First number that belongs to it.
      length: Number of numbers.
    """

    file: StorageFile
    key: str
    dtype: str
    start: int
    length: int

    def tensor(self, offset: Any, shape: Any, strides: Any, dtype: str | None = None) -> StoredArray:
        """Returns a tensor of this storage.

        Args:
          offset: Place of the first number.
          shape: Size along each axis.
          strides: Steps along each axis, in numbers.
          dtype: PyTorch's dtype, for a storage of bytes.

        Raises:
          PickleError: The tensor does not lie within the storage, or is larger than it.
        """
        dtype = dtype or self.dtype
        length = self.length * itemsize(self.dtype) // itemsize(dtype)
        shape, strides = _sizes(shape), _sizes(strides)
        if not _is_size(offset) or len(shape) != len(strides) or len(shape) > _MOST_AXES:
            raise PickleError("a tensor's shape and strides do not fit together")
        count = math.prod(shape)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
        # Strides of 0 would make a tensor of any size out of one number; what `expand` made of a buffer is small.
        if count and (last >= length or count > max(length, _MOST_REPEATED)):
            raise PickleError("a tensor is larger than its storage")
        if not count and max(shape, default=0) > 1 << 31:
            raise PickleError("an empty tensor has too large a shape")
        self.file.claim(count)
        first = self.start * itemsize(self.dtype) // itemsize(dtype) + offset

        def read() -> np.ndarray:
            if not count:
                return np.zeros(shape, decode(np.zeros(0, np.uint8), dtype).dtype)
            numbers = self.file.storage(self.key, dtype)
            if first + last - offset >= len(numbers):
                raise ValueError(f"its storage {self.key!r:.80} is cut short")
            steps = tuple(stride * numbers.itemsize for stride in strides)
            return np.lib.stride_tricks.as_strided(numbers[first:], shape, steps)

        return StoredArray(shape, read)


def decode(raw: np.ndarray, dtype: str, order: Literal["<", ">"] = "<") -> np.ndarray:
    """Returns bytes, uint8 [N], as numbers of PyTorch's dtype; floats of fewer bits than float32 become float32.

    Raises:
      ValueError: Numpy has no such numbers.
    """
    if dtype not in _READ:
        raise ValueError(f"its dtype {dtype!r:.80} has no counterpart here")
    array = raw.view(np.dtype(_READ[dtype]).newbyteorder(order))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if dtype == "float16":
        return array.astype(np.float32)
    if dtype == "bfloat16":  # the upper half of a float32
        wide = array.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if dtype.startswith("float8"):
        return np.arange(256, dtype=np.uint8).view(getattr(jnp, dtype).dtype).astype(np.float32)[array]
    return array != 0 if dtype == "bool" else array


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > _MOST_AXES or not all(map(_is_size, value)):
        raise PickleError("a tensor's shape or strides are no sizes")
    return tuple(value)


def unreadable(shape: Sequence[int], why: str) -> StoredArray:
    """Returns an array that raises ValueError when it is read."""

    def read() -> np.ndarray:
        raise ValueError(why)

    return StoredArray(tuple(shape), read)
