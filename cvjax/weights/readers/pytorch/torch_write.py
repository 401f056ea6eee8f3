"""Writes state dicts as `torch.save` does since PyTorch 1.6, for `torch.load(weights_only=True)`, without PyTorch."""

import math
import pathlib
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

from cvjax.errors import CheckpointError

_STORAGES = {
    "f8": "Double",
    "f4": "Float",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "i2": "Short",
    "i1": "Char",
    "u1": "Byte",
    "b1": "Bool",
}
_ROOT = "archive"
_ALIGNMENT = 64  # so that a file can be mapped into memory
_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
_NO_HOOKS = b"ccollections\nOrderedDict\n)R"


def write_zip(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict.

    Args:
      path: Path of the file.
      arrays: Arrays under PyTorch's keys, C-contiguous.

    Raises:
      CheckpointError: PyTorch has no storage for a dtype.
      OSError: The file cannot be written.
    """
    kinds = {key: _STORAGES.get(value.dtype.str[1:]) for key, value in arrays.items()}
    strange = [f"{key} ({arrays[key].dtype})" for key, kind in kinds.items() if kind is None]
    if strange:
        raise CheckpointError(f"{path}: PyTorch has no tensors of the dtype of {strange[0]}; convert it to float32")
    # One call a tensor: its storage, its offset there, its shape and strides, whether it has a gradient, its hooks.
    entries = b"".join(
        _text(key)
        + _TENSOR
        + b"(("
        + _text("storage")
        + f"ctorch\n{kinds[key]}Storage\n".encode()
        + _text(str(place))
        + _text("cpu")
        + _integer(value.size)
        + b"tQ"
        + _integer(0)
        + _sizes(value.shape)
        + _sizes([math.prod(value.shape[axis + 1 :]) for axis in range(value.ndim)])
        + b"\x89"
        + _NO_HOOKS
        + b"tR"
        for place, (key, value) in enumerate(arrays.items())
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", b"\x80\x02}(" + entries + b"u.")
        _add(archive, "byteorder", b"little")
        for place, value in enumerate(arrays.values()):
            little = value.astype(value.dtype.newbyteorder("<"), copy=False)
            _add(archive, f"data/{place}", little.reshape(-1).view(np.uint8).data)
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    entry = zipfile.ZipInfo(f"{_ROOT}/{name}")
    assert archive.fp is not None
    # A field that readers skip moves the data to where a multiple of the alignment is.
    start = archive.fp.tell() + 30 + len(entry.filename) + 4
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
    archive.writestr(entry, data)


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if value < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)


def _sizes(values: tuple[int, ...] | list[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
