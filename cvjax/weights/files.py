"""State dicts from files."""

import pathlib
from typing import Any

import numpy as np

from cvjax.errors import CheckpointError


def read_state_dict(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict as numpy arrays.

    Args:
      path: a `.safetensors` or `.npz` file; or a `.pth` or `.pt` file, which needs PyTorch installed and is
        read with `weights_only=True`, so it cannot run code. A state dict nested under "state_dict" or
        "model" is found there.

    Returns:
      Arrays under PyTorch's keys; bfloat16 and float16 tensors of `.pth` files become float32.

    Raises:
      CheckpointError: a file that is missing, unreadable or of another kind, or PyTorch missing.
    """
    path = pathlib.Path(path)
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz, ".pth": _read_torch, ".pt": _read_torch}
    if path.suffix not in readers:
        raise CheckpointError(f"{path}: weights come as {', '.join(readers)}, not as {path.suffix or 'this'}")
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        return readers[path.suffix](path)
    except CheckpointError:
        raise
    except Exception as error:  # each reader has its own kinds, from zipfile's to pickle's
        raise CheckpointError(f"{path}: not a readable {path.suffix} file ({error})") from error


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors.numpy  # late: `import cvjax.weights` needs no more than the models do

    return safetensors.numpy.load_file(path)


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading a {path.suffix} file needs PyTorch; pip install 'cvjax[torch]', or convert the "
            "file to .safetensors"
        ) from error
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return {
        key: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for key, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }
