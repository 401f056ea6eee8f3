"""State dicts from files of each kind."""

import io
import json
import subprocess
import sys
import tarfile
import zipfile

import jax.numpy as jnp
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
        "eight": ("F8_E4M3", [2, 2], values.astype(jnp.float8_e4m3fn).tobytes()),
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
    np.testing.assert_array_equal(read["eight"][0], values[0])
    np.testing.assert_allclose(read["brain"], values, rtol=2**-7)
    np.testing.assert_array_equal(read["brain"][0], values[0])


def test_wrappers_are_seen_through(tmp_path):
    write_state_dict(tmp_path / "weights.npz", {f"module._orig_mod.{key}": value for key, value in STATE.items()})
    _assert_same(read_state_dict(tmp_path / "weights.npz"), STATE)


@pytest.mark.parametrize("nested", [False, True])
def test_pth_of_pytorch_itself(tmp_path, nested):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pth"
    tensors = {key: torch.from_numpy(value) for key, value in STATE.items()}
    torch.save({"state_dict": tensors} if nested else tensors, path)
    _assert_same(read_state_dict(path), STATE)
    write_state_dict(path, STATE)
    _assert_same({key: value.numpy() for key, value in torch.load(path, weights_only=True).items()}, STATE)


@pytest.mark.parametrize("suffix", [".SAFETENSORS", ".Npz", ".PTH", ".pt"])
def test_suffixes_are_read_in_any_case(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    write_state_dict(path, STATE)
    _assert_same(read_state_dict(path), STATE)


@pytest.mark.parametrize("written", [".safetensors", ".npz", ".pth"])
@pytest.mark.parametrize("named", [".safetensors", ".npz", ".pth", ".pt", ".th", ".tar", ".bin", ".ckpt"])
def test_the_content_decides_and_not_the_name(tmp_path, written, named):
    write_state_dict(tmp_path / f"a{written}", STATE)
    (tmp_path / f"a{written}").rename(tmp_path / f"b{named}")
    _assert_same(read_state_dict(tmp_path / f"b{named}"), STATE)


def _archive(kind):
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("notes.txt", "x")
    else:
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in ["storages", "tensors", "pickle"] if kind == "first" else ["net.pth"]:
                archive.addfile(tarfile.TarInfo(name))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; fetch or export it again"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\n <html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer.*git lfs pull"),
        (b"\x89HDF\r\n\x1a\n....", "HDF5.*safetensors"),
        (b"\x1f\x8b....", "gzip; unpack"),
        (b"\x00" * 100, "begins as no file of PyTorch's does.*fetch or export"),
        (b'{"error": "not found"}', "begins as no file of PyTorch's does"),
        (b"PK\x03\x04 and then cut", "damaged or unfinished zip archive"),
        (_archive("zip"), "a zip archive of other things, 'notes.txt'; give the file"),
        (_archive("tar"), "a tar archive of 'net.pth'; unpack it"),
        (_archive("first"), "PyTorch's first format"),
    ],
)
def test_what_is_no_file_of_pytorch_says_what_it_is(tmp_path, content, words):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"weights.pth: .*{words}") as error:
        read_state_dict(path)
    assert "\n" not in str(error.value)


def test_a_key_chooses_in_files_whose_path_is_text_or_not(tmp_path):
    write_state_dict(tmp_path / "weights.npz", STATE)
    with pytest.raises(CheckpointError, match=r"weights\.npz: there is nothing under ema; it holds a\.weight, a\.bias"):
        read_state_dict(f"{tmp_path}/weights.npz::ema")
    with pytest.raises(CheckpointError, match=r"gone\.pth: there is no such file"):
        read_state_dict(tmp_path / "gone.pth::ema")
    (tmp_path / "odd::name.npz").write_bytes((tmp_path / "weights.npz").read_bytes())
    _assert_same(read_state_dict(tmp_path / "odd::name.npz"), STATE)


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
