"""State dicts from files of each kind."""

import importlib.util

import numpy as np
import pytest
import safetensors.numpy

from cvjax.errors import CheckpointError
from cvjax.weights import read_state_dict

STATE = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float32)}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".npz":
        np.savez(path, **STATE)
    else:
        safetensors.numpy.save_file(STATE, path)
    read = read_state_dict(path)
    assert sorted(read) == sorted(STATE)
    for key, value in STATE.items():
        np.testing.assert_array_equal(read[key], value)


def test_pth_round_trip(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in STATE.items()}}, path)
    np.testing.assert_array_equal(read_state_dict(path)["a.weight"], STATE["a.weight"])


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_pth_without_torch_says_what_to_install(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"cvjax\[torch\]"):
        read_state_dict(path)


def test_errors_name_the_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.npz"):
        read_state_dict(tmp_path / "gone.npz")
    with pytest.raises(CheckpointError, match=r"weights\.h5"):
        read_state_dict(tmp_path / "weights.h5")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
        read_state_dict(damaged)
