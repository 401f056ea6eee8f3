"""Reads state dicts from files and writes them to files."""

import importlib.util
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from cvjax.errors import CheckpointError
from cvjax.files import replacing
from cvjax.weights.caffe import read_caffemodel

_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt")
_READABLE = (*_SUFFIXES, ".caffemodel")
# What DataParallel and torch.compile put before every key.
_WRAPPERS = re.compile(r"(module\.|_orig_mod\.)+")


def read_state_dict(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict as numpy arrays.

    Args:
      path: Path of a `.safetensors`, `.npz`, `.pth` or `.pt` file. The last two need PyTorch installed. They are read
        with `weights_only=True`, so they cannot run code. A state dict nested under "state_dict" or "model" is found
        there. A `.caffemodel` is read too, in Caffe's layouts (see `cvjax.weights.caffe`).

    Returns:
      Arrays under PyTorch's keys, without the prefix of DataParallel or torch.compile; bfloat16 and float16 tensors
      become float32.

    Raises:
      CheckpointError: The file is missing, unreadable or of another kind, or PyTorch is missing.
    """
    path = pathlib.Path(path)
    readers: dict[str, Callable[[pathlib.Path], dict[str, np.ndarray]]]
    readers = dict(zip(_READABLE, (_read_safetensors, _read_npz, _read_torch, _read_torch, read_caffemodel)))
    _check_suffix(path, _READABLE)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; check the path")
    try:
        state_dict = readers[_suffix(path)](path)
    except CheckpointError:
        raise
    except Exception as error:  # each reader has its own kinds, from zipfile's to pickle's
        # numpy takes anything else for a pickle, and says how to load that unsafely.
        why = "it holds no arrays" if "allow_pickle" in str(error) else error
        raise CheckpointError(f"{path}: not a readable {path.suffix} file ({why}); fetch or export it again") from error
    if all(map(_WRAPPERS.match, state_dict)):
        state_dict = {_WRAPPERS.sub("", key, count=1): value for key, value in state_dict.items()}
    return state_dict


def write_state_dict(path: str | pathlib.Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a PyTorch state dict bit for bit; an existing file is replaced once the new one is whole.

    Args:
      path: Path whose suffix decides the kind: `.safetensors` or `.npz`, or `.pth` or `.pt`, for which PyTorch must be
        installed. `torch.load` reads the last two, `safetensors.torch.load_file` the first.
      state_dict: Arrays under PyTorch's keys, as `to_torch` returns them.

    Raises:
      CheckpointError: The suffix is another one, PyTorch is missing, or the place cannot be written to.
    """
    path = pathlib.Path(path)
    _check_suffix(path, _SUFFIXES)
    # safetensors writes an array's memory as it lies.
    arrays = {key: np.require(value, requirements="C") for key, value in state_dict.items()}
    writers: dict[str, Callable[[pathlib.Path, Mapping[str, np.ndarray]], None]]
    writers = dict(zip(_SUFFIXES, (_write_safetensors, _write_npz, _write_torch, _write_torch)))
    try:
        with replacing(path) as partial:
            writers[path.suffix](partial, arrays)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror or error}); choose another place") from error


def check_readable(path: pathlib.Path) -> None:
    """Raises CheckpointError, without opening the file, if nothing installed here can read its kind."""
    _check_suffix(path, _READABLE)
    if path.suffix in (".pth", ".pt") and importlib.util.find_spec("torch") is None:
        raise _needs_torch(path, "reading")


def _suffix(path: pathlib.Path) -> str:
    return ".caffemodel" if path.suffix.lower() == ".caffemodel" else path.suffix  # published as .CaffeModel too


def _check_suffix(path: pathlib.Path, suffixes: tuple[str, ...]) -> None:
    if _suffix(path) not in suffixes:
        if not path.suffix and not path.exists():
            raise CheckpointError(
                f"there are no weights {path}: neither a file or a run's folder, nor a published name"
            )
        raise CheckpointError(f"{path}: weights come as {', '.join(suffixes)}, not as {path.suffix or 'this'}")


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors.numpy  # late: `import cvjax.weights` needs no more than the models do

    with safetensors.safe_open(path, framework="np") as file:
        kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    if "BF16" not in kinds.values():
        return {key: _single(value) for key, value in safetensors.numpy.load_file(path).items()}
    # numpy has no bfloat16: it is the upper half of a float32.
    arrays = {}
    for key, entry in safetensors.deserialize(path.read_bytes()):
        if entry["dtype"] == "BF16":
            bits = np.frombuffer(entry["data"], np.uint16).astype(np.uint32) << 16
            arrays[key] = bits.view(np.float32).reshape(entry["shape"])
    if len(arrays) < len(kinds):
        with safetensors.safe_open(path, framework="np") as file:
            arrays |= {key: _single(file.get_tensor(key)) for key in kinds if key not in arrays}
    return arrays


def _write_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    import safetensors.numpy

    # Readers of other frameworks look for this note.
    safetensors.numpy.save_file(dict(arrays), path, metadata={"format": "pt"})


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: _single(value) for key, value in archive.items()}


def _write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    with open(path, "wb") as file:  # by its name numpy would add a suffix
        np.savez(file, **cast(dict[str, Any], arrays))


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    torch = _torch(path, "reading")
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return {
        key: (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()
        for key, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }


def _write_torch(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    torch = _torch(path, "writing")
    # Copies, because PyTorch's arrays are writable and ours may not be.
    torch.save({key: torch.from_numpy(value.copy()) for key, value in arrays.items()}, path)


def _torch(path: pathlib.Path, verb: str) -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]  # optional
    except ImportError as error:
        raise _needs_torch(path, verb) from error
    return torch


def _needs_torch(path: pathlib.Path, verb: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {verb} a {path.suffix} file needs PyTorch; pip install 'cvjax[torch]', or use .safetensors"
    )


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array
