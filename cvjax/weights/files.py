"""Reads state dicts from files and writes them to files."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from cvjax.errors import CheckpointError
from cvjax.storage import AnyPath, as_path, file_and_key, is_remote, written_file
from cvjax.weights.layouts.tensorflow import torch_layout
from cvjax.weights.readers.caffe import read_caffemodel
from cvjax.weights.readers.pytorch.content import kind_of
from cvjax.weights.readers.pytorch.nesting import find_state_dict
from cvjax.weights.readers.pytorch.stored_array import StoredArray
from cvjax.weights.readers.pytorch.torch_file import read_pickles, read_zip
from cvjax.weights.readers.pytorch.torch_storage import decode
from cvjax.weights.readers.pytorch.torch_write import write_zip
from cvjax.weights.readers.tensorflow import read_bundle

# Of what numpy lacks, the name in a .safetensors file and PyTorch's.
_LOW = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_AGAIN = "; fetch or export the file again"


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict as numpy arrays, without PyTorch and without running what a file names.

    Args:
      path: Path of a `.safetensors` or `.npz` file, of one that PyTorch wrote (`.pth`, `.pt`, `.th`, `.tar`, `.bin` or
        `.ckpt`), Caffe's `.caffemodel` (see `cvjax.weights.readers.caffe`), or the `.index` of TensorFlow's. Which of
        the first it is, what it holds decides, not its name. A state dict is found under any name; of several,
        `FILE::KEY` takes one.

    Returns:
      Arrays under PyTorch's keys, without the names of DataParallel, torch.compile, AveragedModel and Lightning;
      bfloat16, float16 and float8 tensors become float32. Arrays may share memory, as the tensors do.

    Raises:
      CheckpointError: The file is missing, damaged or of another kind, or holds several state dicts or none.
    """
    place, key = file_and_key(path)
    _check_suffix(place, _READERS)
    if is_remote(place) or not place.is_file():
        raise CheckpointError(f"{place}: there is no such file; check the path")
    path = place
    reader = _READERS[path.suffix.lower()]
    try:
        kind = kind_of(path) if reader in (_read_safetensors, _read_npz, _read_torch) else None
        state_dict = find_state_dict(_BY_CONTENT.get(kind, reader)(path), path, key)
    except CheckpointError:
        raise
    except Exception as error:  # each reader has its own kinds, from zipfile's to pickle's
        # numpy takes anything else for a pickle, and says how to load that unsafely.
        why = "it holds no arrays" if "allow_pickle" in str(error) else error or type(error).__name__
        raise CheckpointError(f"{path}: not a readable {path.suffix} file ({why}); fetch or export it again") from error
    return {name: _loaded(value, name, path) for name, value in state_dict.items()}


def write_state_dict(
    path: str | AnyPath, state_dict: Mapping[str, np.ndarray], note: Mapping[str, str] | None = None
) -> None:
    """Writes a PyTorch state dict bit for bit; an existing file is replaced once the new one is whole.

    Args:
      path: Path whose suffix decides the kind: `.safetensors`, `.npz`, `.pth` or `.pt`. `torch.load` reads the last
        two, `safetensors.torch.load_file` the first.
      state_dict: Arrays under PyTorch's keys, as `to_torch` returns them.
      note: What a `.safetensors` file says beside the arrays; other kinds have no place for it.

    Raises:
      CheckpointError: The suffix is another one, or the place cannot be written to.
    """
    path = as_path(path)
    _check_suffix(path, _WRITERS)
    # safetensors writes an array's memory as it lies.
    arrays = {key: np.require(value, requirements="C") for key, value in state_dict.items()}
    try:
        with written_file(path) as partial:
            if path.suffix.lower() == ".safetensors":
                _write_safetensors(partial, arrays, note)
            else:
                _WRITERS[path.suffix.lower()](partial, arrays)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror or error}); choose another place") from error


def check_readable(path: pathlib.Path) -> None:
    """Raises CheckpointError, without opening the file, if nothing here can read its kind."""
    _check_suffix(path, _READERS)


def _check_suffix(path: AnyPath, known: Mapping[str, Any]) -> None:
    if path.suffix.lower() not in known:
        if not path.suffix and not path.exists():
            raise CheckpointError(
                f"there are no weights {path}: neither a file or a run's folder, nor a published name"
            )
        raise CheckpointError(f"{path}: weights come as {', '.join(known)}, not as {path.suffix or 'this'}")


def _loaded(value: np.ndarray | StoredArray, name: str, path: pathlib.Path) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    try:
        return value.read()
    except (ValueError, OSError, MemoryError) as error:
        why = str(error) or type(error).__name__
        raise CheckpointError(f"{path}: {name!r:.80} cannot be read: {why}{'' if ';' in why else _AGAIN}") from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors.numpy  # late: `import cvjax.weights` needs no more than the models do

    with safetensors.safe_open(path, framework="np") as file:
        kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    if not set(_LOW) & set(kinds.values()):
        return {key: _single(value) for key, value in safetensors.numpy.load_file(path).items()}
    arrays = {}
    for key, entry in safetensors.deserialize(path.read_bytes()):
        if entry["dtype"] in _LOW:
            numbers = decode(np.frombuffer(entry["data"], np.uint8), _LOW[entry["dtype"]])
            arrays[key] = numbers.reshape(entry["shape"])
    if len(arrays) < len(kinds):
        with safetensors.safe_open(path, framework="np") as file:
            arrays |= {key: _single(file.get_tensor(key)) for key in kinds if key not in arrays}
    return arrays


def _write_safetensors(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], note: Mapping[str, str] | None = None
) -> None:
    import safetensors.numpy

    # Readers of other frameworks look for this note.
    safetensors.numpy.save_file(dict(arrays), path, metadata={"format": "pt", **(note or {})})


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: _single(value) for key, value in archive.items()}


def _write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    with open(path, "wb") as file:  # by its name numpy would add a suffix
        np.savez(file, **cast(dict[str, Any], arrays))


def _read_torch(path: pathlib.Path) -> Any:
    raise ValueError("it begins as no file of PyTorch's does")


def _read_tensorflow(path: pathlib.Path) -> Any:
    return torch_layout(read_bundle(path))


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


_READERS: dict[str, Callable[[pathlib.Path], Any]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".th": _read_torch,
    ".tar": _read_torch,
    ".bin": _read_torch,
    ".ckpt": _read_torch,
    ".caffemodel": read_caffemodel,
    ".index": _read_tensorflow,
}
# What the first bytes of a file tell goes before its name.
_BY_CONTENT: dict[str | None, Callable[[pathlib.Path], Any]] = {
    "safetensors": _read_safetensors,
    "npz": _read_npz,
    "torch zip": read_zip,
    "pickle": read_pickles,
}
_WRITERS: dict[str, Callable[[pathlib.Path, Mapping[str, np.ndarray]], None]] = {
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
    ".pth": write_zip,
    ".pt": write_zip,
}
