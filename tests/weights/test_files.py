"""State dicts from files of each kind."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import safetensors

from cvjax.errors import CheckpointError
from cvjax.weights import read_state_dict, write_state_dict

STATE = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float32)}


def _assert_same(read, written):
    assert sorted(read) == sorted(written)
    for key, value in written.items():
        assert read[key].dtype == value.dtype
        np.testing.assert_array_equal(read[key], value)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / "new" / f"weights{suffix}"
    # Not contiguous, and without axes: both are easily written wrongly.
    state = {**STATE, "b.weight": STATE["a.weight"].T, "a.num_batches_tracked": np.array(7)}
    for _ in range(2):
        write_state_dict(path, state)
    _assert_same(read_state_dict(path), state)
    assert list(path.parent.iterdir()) == [path]


def test_safetensors_say_that_they_are_pytorchs(tmp_path):
    write_state_dict(tmp_path / "weights.safetensors", STATE)
    with safetensors.safe_open(tmp_path / "weights.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}


def test_half_precision_becomes_single(tmp_path):
    values = np.array([[1.5, -2.25], [0.0, 3e4]], np.float32)
    entries = {
        "brain": ("BF16", [2, 2], (values.view(np.uint32) >> 16).astype("<u2").tobytes()),
        "half": ("F16", [2, 2], values.astype("<f2").tobytes()),
        "count": ("I64", [], np.int64(3).tobytes()),
    }
    header, data = {}, b""
    for key, (kind, shape, content) in entries.items():
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    read = read_state_dict(path)
    assert (read["brain"].dtype, read["half"].dtype, read["count"].dtype) == (np.float32, np.float32, np.int64)
    np.testing.assert_array_equal(read["half"], values)
    np.testing.assert_allclose(read["brain"], values, rtol=2**-7)
    np.testing.assert_array_equal(read["brain"][0], values[0])


def test_wrappers_are_seen_through(tmp_path):
    write_state_dict(tmp_path / "weights.npz", {f"module._orig_mod.{key}": value for key, value in STATE.items()})
    _assert_same(read_state_dict(tmp_path / "weights.npz"), STATE)


def test_pth_round_trip(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in STATE.items()}}, path)
    _assert_same(read_state_dict(path), STATE)
    write_state_dict(path, STATE)
    _assert_same(read_state_dict(path), STATE)


def test_pth_that_would_run_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": pathlib.PurePosixPath("x"), "hook": print}, path)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        read_state_dict(path)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_pth_without_torch_says_what_to_install(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"cvjax\[torch\]"):
        read_state_dict(path)
    with pytest.raises(CheckpointError, match=r"writing .*cvjax\[torch\]"):
        write_state_dict(path, STATE)
    assert path.read_bytes() == b""


def test_errors_name_the_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"weights\.h5"):
        write_state_dict(tmp_path / "weights.h5", STATE)
    (tmp_path / "occupied").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_state_dict(tmp_path / "occupied" / "weights.npz", STATE)
    with pytest.raises(CheckpointError, match=r"gone\.npz"):
        read_state_dict(tmp_path / "gone.npz")
    with pytest.raises(CheckpointError, match=r"weights\.h5"):
        read_state_dict(tmp_path / "weights.h5")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
        read_state_dict(damaged)


def test_importing_weights_needs_no_more_than_the_models():
    code = "import sys, cvjax.weights; print(*{module.split('.')[0] for module in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"torch", "huggingface_hub", "safetensors", "PIL", "cv2", "grain"}
