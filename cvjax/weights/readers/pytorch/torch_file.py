"""Reads PyTorch's files without PyTorch, and without running anything that they name.

Since 1.6 such a file is a zip archive: `data.pkl` has the object, in which tensors are calls of a few functions on
storages, and `data/KEY` has each storage as it lies in memory. Before, it was a row of pickles (a magic number, a
version, a description of the machine, the object, the keys of the storages), followed by the storages in that order.

Of the functions that the object names, those that rebuild tensors are known here by name. Whatever else lies in the
file (the optimizer, options, objects of someone's classes) stays a record, see `cvjax.weights.readers.pytorch.pickled`.
"""

import io
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from cvjax.weights.readers.pytorch.pickle_records import Global, Opaque, PickleError, plain_key
from cvjax.weights.readers.pytorch.pickled import read_pickle
from cvjax.weights.readers.pytorch.stored_array import StoredArray
from cvjax.weights.readers.pytorch.torch_storage import Storage, StorageFile, dtype_of_storage, itemsize, unreadable

MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_LARGEST_PICKLE = 1 << 30
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "__builtin__.dict", "builtins.dict")
_LISTS = ("collections.deque", "__builtin__.list", "builtins.list", "__builtin__.set", "builtins.set", "torch.Size")
_WRAPPERS = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._utils._rebuild_xla_tensor",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "torch.autograd.variable.Variable",
)
_ODD = {
    "torch._utils._rebuild_qtensor": "it is quantized; dequantize it there and save it again",
    "torch._utils._rebuild_sparse_tensor": "it is sparse; call to_dense() there and save it again",
    "torch._utils._rebuild_sparse_csr_tensor": "it is sparse; call to_dense() there and save it again",
    "torch._utils._rebuild_nested_tensor": "it is a nested tensor; save its parts instead",
    "torch._utils._rebuild_meta_tensor_no_storage": "it was saved from the meta device, without numbers",
    "torch._utils._rebuild_wrapper_subclass": "it is of a class that keeps no numbers; save an ordinary tensor",
}


def read_zip(path: pathlib.Path) -> Any:
    """Returns the object of a zip file, with tensors as `StoredArray`.

    Raises:
      ValueError: The file is damaged, or another kind of archive.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if not pickles:
        raise ValueError("it is a zip archive without PyTorch's data.pkl")
    root = min(pickles, key=len).removesuffix("data.pkl")
    source = StorageFile(path, size)
    with open(path, "rb") as file:

        def find(key: str) -> None:
            if key not in source.places and root + key in entries:
                source.places[key] = _place(file, entries[root + key])

        def load(name: Any) -> Any:
            storage = _storage(source, name, "data/")
            find(storage.key)
            return storage

        for key in ("byteorder", "data.pkl"):
            find(key)
        if _entry(source, "byteorder") == b"big":
            source.order = ">"
        if source.places["data.pkl"][1] > _LARGEST_PICKLE:
            raise ValueError("its data.pkl has more than a gigabyte")
        data = _entry(source, "data.pkl")
        return read_pickle(io.BytesIO(data), len(data), _Caller(len(data)), load)


def read_pickles(path: pathlib.Path) -> Any:
    """Returns the object of a file from before 1.6, or of a plain pickle, with tensors as `StoredArray`.

    Raises:
      ValueError: The file is damaged.
    """
    size = path.stat().st_size
    source = StorageFile(path, size)
    lengths: dict[str, int] = {}

    def load(name: Any) -> Any:
        if isinstance(name, tuple) and len(name) > 1 and name[0] == "module":
            return name[1]
        storage = _storage(source, name)
        lengths.setdefault(storage.key, itemsize(storage.dtype))
        view = name[5] if len(name) > 5 else None
        if view is None:
            return storage
        _, start, length = view  # a storage that is a part of another one
        if not all(isinstance(number, int) and 0 <= number <= storage.length for number in (start, length)):
            raise PickleError("a part of a storage lies outside it")
        return Storage(source, storage.key, storage.dtype, start, length)

    with open(path, "rb") as file:
        caller = _Caller(size)
        content = read_pickle(file, size, caller)
        if content != MAGIC:
            return content
        if read_pickle(file, size, caller) != _VERSION:
            raise ValueError("it has another version of the format than 1001, the only one that there was")
        read_pickle(file, size, caller)  # of the machine, whose numbers are little-endian in any case
        content = read_pickle(file, size, caller, load)
        keys = read_pickle(file, size, caller)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("its list of storages is damaged")
        for key in keys:
            head = file.read(8)
            if len(head) < 8 or key not in lengths:
                raise ValueError(
                    "it is cut short" if len(head) < 8 else f"its storage {key!r:.80} is of an unknown kind"
                )
            length, place = struct.unpack("<q", head)[0] * lengths[key], file.tell()
            if length < 0 or place + length > size:
                raise ValueError(f"it is cut short: its storage {key!r:.80} ends beyond byte {size}")
            source.places[key] = (place, length, None)
            file.seek(length, os.SEEK_CUR)
    return content


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> tuple[int, int, int | None]:
    """Returns the offset, the size and the checksum of what an archive holds under a name."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
        raise PickleError(
            "it is compressed inside, as PyTorch never writes it; unpack it and pack it without compression"
        )
    file.seek(max(0, entry.header_offset))
    head = file.read(30)
    if entry.header_offset < 0 or len(head) < 30 or not head.startswith(b"PK\x03\x04"):
        raise PickleError(f"its entry {entry.filename!r:.80} is not where its directory says")
    names, extra = struct.unpack("<26xHH", head)
    # PyTorch can be told to compute no checksums, and then writes 0.
    return entry.header_offset + 30 + names + extra, entry.file_size, entry.CRC or None


def _entry(source: StorageFile, name: str) -> bytes:
    return source.storage(name, "uint8").tobytes() if name in source.places else b""


def _storage(source: StorageFile, name: Any, folder: str = "") -> Storage:
    """Returns the storage that a persistent id names: a word, its class, its key, its device, its length."""
    if not isinstance(name, tuple) or len(name) < 5 or name[0] != "storage":
        raise PickleError("it refers to data of an unknown kind")
    kind, key, length = name[1], name[2], name[4]
    if not isinstance(kind, Global) or not isinstance(key, str) or not isinstance(length, int) or length < 0:
        raise PickleError("it refers to a storage in an unknown way")
    key = folder + key
    dtype = dtype_of_storage(kind.name)
    if length * itemsize(dtype) > source.size:
        raise PickleError(f"its storage {key!r:.80} is larger than the file")
    return Storage(source, key, dtype, 0, length)


class _Caller:
    """Returns what the calls of a pickle result in.

    A call may copy what it is given, and a small pickle can make the same call many times over. So the copies of all
    calls together are bounded by the size of the pickle.
    """

    def __init__(self, size: int) -> None:
        self.may_copy = size

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> Any:
        # Tensors of subclasses and with attributes: the function that rebuilds the tensor, its type, its arguments.
        while name == "torch._tensor._rebuild_from_type_v2" and len(arguments) > 2:
            function, _, arguments = arguments[:3]
            name = function.name if isinstance(function, Global) else "?"
            if not isinstance(arguments, tuple):
                raise PickleError("a tensor of a subclass is damaged")
        if name in _REBUILDERS:
            return _REBUILDERS[name](arguments)
        if name in _WRAPPERS and arguments:
            return arguments[0]
        if name in _ODD:
            return unreadable((0, 0), _ODD[name])
        if name in _DICTS:
            return self._dict(arguments)
        if name in _LISTS:
            return list(self._copied(arguments[0] if arguments else []))
        if name == "_codecs.encode" and len(arguments) == 2 and isinstance(arguments[0], str):
            return self._copied(arguments[0]).encode("latin-1")  # how Python 3 pickles bytes for Python 2
        if name.startswith("torch.") and "._rebuild" in name:
            return unreadable(
                (0, 0), f"it is rebuilt by {name!r:.80}, which is not known here; save an ordinary tensor"
            )
        return Opaque(name, arguments)

    def _copied(self, items: Any) -> Any:
        if not isinstance(items, list | tuple | str):
            raise PickleError("its pickle is damaged: a list of what has no items")
        self.may_copy -= len(items)
        if self.may_copy < 0:
            raise PickleError("its pickle copies more than it holds")
        return items

    def _dict(self, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        given = arguments[-1] if arguments else None
        if not isinstance(given, list):  # nothing, or the default of a defaultdict
            return {}
        pairs = [tuple(pair) for pair in self._copied(given) if isinstance(pair, list | tuple) and len(pair) == 2]
        return {plain_key(key): value for key, value in pairs}


def _rebuild_tensor(arguments: tuple[Any, ...]) -> StoredArray:
    offset, shape, strides, *_ = arguments[1:]
    return _given_storage(arguments).tensor(offset, shape, strides)


def _given_storage(arguments: tuple[Any, ...]) -> Storage:
    storage = arguments[0]
    if isinstance(storage, Opaque) and storage.name == "torch.storage._load_from_bytes":
        raise PickleError("it was written by pickle.dump; load it there, and write it by torch.save")
    if not isinstance(storage, Storage):
        raise PickleError("a tensor has no storage")
    return storage


def _rebuild_tensor_v2(arguments: tuple[Any, ...]) -> StoredArray:
    tensor = _rebuild_tensor(arguments)
    if len(arguments) > 6 and arguments[6]:  # of its numbers or their imaginary parts
        return unreadable(tensor.shape, "it is a view with a changed sign; call resolve_neg() there and save it again")
    return tensor


def _rebuild_tensor_v3(arguments: tuple[Any, ...]) -> StoredArray:
    offset, shape, strides, _, _, dtype, *_ = arguments[1:]
    if not isinstance(dtype, Global):
        raise PickleError("a tensor has no dtype")
    return _given_storage(arguments).tensor(offset, shape, strides, dtype=dtype.name.removeprefix("torch."))


_REBUILDERS: dict[str, Callable[[tuple[Any, ...]], StoredArray]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
}
