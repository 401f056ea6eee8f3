"""Weights and inputs of the reference outputs, rebuilt from keys and shapes alone (see tests/golden)."""

import json
import pathlib
import zlib

import numpy as np

SALT = "dev-"
GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32((SALT + key).encode()))


def rebuild(keys: dict[str, list[int]], statistics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A PyTorch state dict: drawn by the rule, with running statistics as given."""
    state = {}
    for key, shape in keys.items():
        rng = _rng(key)
        if key.endswith(("running_mean", "running_var")):
            state[key] = statistics[key]
            continue
        if key.endswith("num_batches_tracked"):
            value = np.zeros(shape, np.int64)
        elif key.endswith(".weight") and len(shape) >= 2:
            value = (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        elif key.endswith(".weight"):
            value = rng.uniform(0.5, 0.9, shape).astype(np.float32)
        else:
            value = (rng.standard_normal(shape) * 0.05).astype(np.float32)
        state[key] = value
    return state


def images(shape: tuple[int, ...], key: str = "input") -> np.ndarray:
    """The input that the reference outputs belong to, NHWC."""
    return _rng(key).standard_normal(shape).astype(np.float32)


def load(folder: pathlib.Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(state dict, archive of outputs) of a reference model."""
    keys = json.loads((folder / f"{name}.keys.json").read_text())
    with np.load(folder / f"{name}.npz") as archive:
        outputs = dict(archive)
    return rebuild(keys, outputs), outputs


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """norm(ours - reference) / norm(reference)."""
    return float(np.linalg.norm(np.asarray(ours) - reference) / np.linalg.norm(reference))


def tensorflow_variables(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Variables of TensorFlow's, drawn by their names: kernels [h, w, I, O] or [h, w, C, 1], and BatchNorm's."""
    variables = {}
    for name, shape in shapes.items():
        rng, leaf = _rng(name), name.rpartition("/")[2]
        if leaf in ("weights", "depthwise_weights"):
            taps = np.prod(shape[:2] if leaf == "depthwise_weights" else shape[:3])
            value = rng.standard_normal(shape) * np.sqrt(2 / taps)
        elif leaf == "gamma":
            value = rng.uniform(0.5, 0.9, shape)
        elif leaf == "moving_variance":
            value = rng.uniform(0.8, 1.2, shape)
        else:
            value = rng.standard_normal(shape) * 0.05
        variables[name] = value.astype(np.float32)
    return variables
