"""Writes files as `torch.save` does, by the rules of its two forms, with nothing of PyTorch's or ours.

Arrays become tensors. tests/weights/test_published_files.py holds the files against PyTorch's own.
"""

import math
import pathlib
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

_STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "u1": "ByteStorage"}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_SIZES = {"short": 2, "int": 4, "long": 4}


class _Global:
    """Stands for a name that a pickle imports."""

    def __init__(self, module: str, name: str):
        self.line = f"c{module}\n{name}\n".encode()


class _Storage:
    """Stands for the numbers of a tensor, which lie outside of the pickle; its description is in it."""

    def __init__(self, *description: Any):
        self.description = description


class _Pickler(pickle._Pickler):
    """Pickles as Python does, and arrays as PyTorch's tensors."""

    def __init__(self, file: BinaryIO, legacy: bool):
        super().__init__(file, protocol=2)
        self.legacy = legacy
        self.arrays: dict[str, np.ndarray] = {}
        self.rebuild = _Global("torch._utils", "_rebuild_tensor_v2")
        self.storages = {kind: _Global("torch", name) for kind, name in _STORAGES.items()}

    def persistent_id(self, obj: Any) -> Any:
        return obj.description if isinstance(obj, _Storage) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, _Global | np.ndarray):
            super().save(obj, save_persistent_id)
        elif (found := self.memo.get(id(obj))) is not None:
            self.write(self.get(found[0]))
        else:
            self.write(obj.line) if isinstance(obj, _Global) else self._save_tensor(obj)
            self.memoize(obj)

    def _save_tensor(self, array: np.ndarray) -> None:
        # In legacy files a storage's name is its address.
        number = str(len(self.arrays) * 64 + 94_000_000_000_000 if self.legacy else len(self.arrays))
        kind, view = self.storages[array.dtype.str[1:]], (None,) * self.legacy
        self.arrays[number] = array
        strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
        self.save(self.rebuild)
        storage = _Storage("storage", kind, number, "cpu", array.size, *view)
        self.save((storage, 0, array.shape, strides, False, OrderedDict()))
        self.write(pickle.REDUCE)


def save(path: pathlib.Path, content: Any, *, legacy: bool = False) -> None:
    """Writes dicts, lists, numbers, texts and arrays; the form is that of PyTorch 1.6 and later, or the legacy one."""
    with open(path, "wb") as file:
        (_save_legacy if legacy else _save_zip)(file, content)


def _save_zip(file: BinaryIO, content: Any) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("archive/data.pkl", "w") as entry:
            pickler = _Pickler(entry, legacy=False)
            pickler.dump(content)
        archive.writestr("archive/byteorder", "little")
        for number, array in pickler.arrays.items():
            archive.writestr(f"archive/data/{number}", _bytes(array))
        archive.writestr("archive/version", "3\n")


def _save_legacy(file: BinaryIO, content: Any) -> None:
    for value in (_MAGIC, _PROTOCOL, {"protocol_version": _PROTOCOL, "little_endian": True, "type_sizes": _SIZES}):
        pickle.dump(value, file, protocol=2)
    pickler = _Pickler(file, legacy=True)
    pickler.dump(content)
    numbers = sorted(pickler.arrays)
    pickle.dump(numbers, file, protocol=2)
    for number in numbers:
        array = pickler.arrays[number]
        file.write(struct.pack("<q", array.size))
        file.write(_bytes(array))


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
