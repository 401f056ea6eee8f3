"""PyTorch's files without PyTorch: every form against what PyTorch reads, damage, and pickles that mean harm."""

import io
import itertools
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_files import damaged, expected, files, harmful, pickle_of, with_pickle

from cvjax.errors import CheckpointError
from cvjax.weights import read_state_dict, write_state_dict
from cvjax.weights.readers.pytorch.pickle_records import Global, Opaque, PickleError
from cvjax.weights.readers.pytorch.pickled import read_pickle
from cvjax.weights.readers.pytorch.torch_file import _Caller

SPECIAL = {"several.pth": "several.pth::model_ema"}


def _refused(path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        read_state_dict(path)
    sentence = str(error.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("name", sorted(expected()))
def test_every_file_of_pytorch_reads_as_pytorch_reads_it(name, tmp_path):
    (tmp_path / name).write_bytes(files()[name])
    read = read_state_dict(tmp_path / SPECIAL.get(name, name))
    assert sorted(read) == sorted(expected()[name])
    for key, value in expected()[name].items():
        assert (read[key].dtype, read[key].shape) == (value.dtype, value.shape), key
        np.testing.assert_array_equal(read[key], value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quantized.pth", "'fc.weight' cannot be read: it is quantized; dequantize it there"),
        ("sparse.pth", "it is sparse; call to_dense"),
        ("complex.pth", "its dtype 'complex64' has no counterpart here; fetch"),
        ("optimizer.pth", "nothing in it looks like weights, as it holds optimizer, epoch; give a file"),
        ("script.pt", "TorchScript program; with PyTorch, write its weights by torch.save"),
        ("several.pth", r"model (6 tensors), model_ema (6 tensors); choose one as "),
    ],
)
def test_what_cannot_be_read_says_why_and_what_to_do(name, words, tmp_path):
    assert words in _refused(tmp_path / name, files()[name])


def test_arrays_of_numpy_are_weights_too(tmp_path):
    (tmp_path / "array.pth").write_bytes(files()["array.pth"])
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"fc.weight": np.arange(6.0).reshape(2, 3).T}, protocol=2))
    np.testing.assert_array_equal(
        read_state_dict(tmp_path / "array.pth")["fc.weight"], np.arange(6, dtype=np.float32).reshape(2, 3)
    )
    np.testing.assert_array_equal(read_state_dict(tmp_path / "plain.bin")["fc.weight"], np.arange(6.0).reshape(2, 3).T)


def test_big_endian_files_are_turned_around(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(files()["views.pt"])) as archive, zipfile.ZipFile(out, "w") as turned:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith("/byteorder"):
                data = b"big"
            elif "/data/" in name:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            turned.writestr(name, data)
    (tmp_path / "big.pt").write_bytes(out.getvalue())
    read = read_state_dict(tmp_path / "big.pt")
    for key, value in expected()["views.pt"].items():
        assert read[key].dtype.isnative
        np.testing.assert_array_equal(read[key], value)


@pytest.mark.parametrize("kept", ["data.pkl", "byteorder"])
def test_zips_with_compression_inside_say_so(tmp_path, kept):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(files()["zip.pth"])) as archive, zipfile.ZipFile(out, "w") as packed:
        for name in archive.namelist():
            how = zipfile.ZIP_STORED if name.endswith(kept) else zipfile.ZIP_DEFLATED
            packed.writestr(name, archive.read(name), how)
    assert "compressed inside" in _refused(tmp_path / "w.pth", out.getvalue())


def test_tensors_by_pickle_dump_say_so(tmp_path):
    """As pickle.dump writes tensors: each storage is a file of PyTorch's within a string."""
    storage = b"ctorch.storage\n_load_from_bytes\nU\x01x\x85R"
    assert "by torch.save" in _refused(tmp_path / "w.bin", _tensor(storage, b"K\x01\x85", b"K\x01\x85"))


def test_views_of_storages_of_the_first_versions(tmp_path):
    storage = b"(U\x07storagectorch.cuda\nFloatStorage\nU\x011U\x06cuda:0K\x06(U\x012K\x02K\x03ttQ"
    head = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    numbers = np.arange(6, dtype="<f4")
    tail = pickle.dumps(["1"], protocol=2) + struct.pack("<q", 6) + numbers.tobytes()
    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(head) + _tensor(storage, b"K\x02\x85", b"K\x01\x85", b"K\x01") + tail)
    np.testing.assert_array_equal(read_state_dict(path)["a.weight"], [3.0, 4.0])
    beyond = _tensor(storage, b"K\x02\x85", b"K\x01\x85", b"K\x02")
    assert "larger than its storage" in _refused(path, b"".join(head) + beyond + tail)
    assert "cut short" in _refused(path, b"".join(head) + beyond.replace(b"K\x02\x85", b"K\x01\x85") + tail[:-1])


def test_tied_tensors_share_their_memory(tmp_path):
    (tmp_path / "views.pt").write_bytes(files()["views.pt"])
    read = read_state_dict(tmp_path / "views.pt")
    assert np.shares_memory(read["whole.weight"], read["tied.weight"])
    assert np.shares_memory(read["whole.weight"], read["transposed.weight"])


def test_what_is_written_is_read_again_bit_for_bit(tmp_path):
    state = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "a.counter": np.array(2**40),
        "b.mask": np.array([True, False]),
        "b.empty": np.zeros((0, 3), np.float64),
        "b.bytes": np.arange(3, dtype=np.uint8),
    }
    write_state_dict(tmp_path / "w.PTH", state)
    read = read_state_dict(tmp_path / "w.PTH")
    assert list(read) == list(state)
    for key, value in state.items():
        assert (read[key].dtype, read[key].shape) == (value.dtype, value.shape)
        assert read[key].tobytes() == value.tobytes()
    with pytest.raises(CheckpointError, match=r"a \(complex64\).*convert it"):
        write_state_dict(tmp_path / "w.pth", {"a": np.ones(1, np.complex64)})


def test_harmful_pickles_run_nothing(tmp_path):
    marker = tmp_path / "marker"
    head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    for what, data in harmful(marker).items():
        for name, content in {
            "zip.pth": with_pickle(files()["zip.pth"], data),
            "legacy.pth": head + data + pickle.dumps([], protocol=2),
            "plain.pth": data,
        }.items():
            path = tmp_path / name
            path.write_bytes(content)
            with pytest.raises(CheckpointError):
                read_state_dict(path)
            assert not marker.exists(), what


@pytest.mark.parametrize(
    "what", ["REDUCE", "REDUCE in a dict", "eval", "exec of builtins", "INST", "OBJ", "STACK_GLOBAL", "getattr"]
)
def test_the_harm_is_real(what, tmp_path):
    """Python's own machine does what these pickles say, so that the test above means something."""
    marker = tmp_path / "marker"
    pickle.loads(harmful(marker)[what])
    assert marker.exists()


def test_weights_beside_harmful_objects_are_read(tmp_path):
    marker = tmp_path / "marker"
    harm = harmful(marker)["REDUCE"][2:-1]
    data = pickle_of(files()["zip.pth"])
    # The state dict is what is on the stack at the end; a dict around it has the harm too.
    around = b"\x80\x02}U\x05model" + data[2:-1] + b"sU\x04hook" + harm + b"s."
    (tmp_path / "w.pth").write_bytes(with_pickle(files()["zip.pth"], around))
    assert sorted(read_state_dict(tmp_path / "w.pth")) == sorted(expected()["zip.pth"])
    assert not marker.exists()


def _tensor(storage: bytes, shape: bytes, strides: bytes, offset: bytes = b"K\x00") -> bytes:
    return (
        b"\x80\x02}U\x08a.weightctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + offset
        + shape
        + strides
        + b"\x89}tRs."
    )


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (
            _tensor(
                b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ", b"J\x00\x00\x00\x40\x85", b"K\x00\x85"
            ),
            "larger",
        ),
        (
            _tensor(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ", b"K\x04\x85", b"K\x01\x85", b"K\x01"),
            "larger",
        ),
        (
            _tensor(
                b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ", b"K\x04\x85", b"J\xff\xff\xff\xff\x85"
            ),
            "sizes",
        ),
        (
            _tensor(
                b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ\x00\x00\x00\x40tQ", b"K\x04\x85", b"K\x01\x85"
            ),
            "larger",
        ),
        (_tensor(b"(U\x07storagectorch\nFloatStorage\nU\x019U\x03cpuK\x04tQ", b"K\x04\x85", b"K\x01\x85"), "missing"),
        (
            _tensor(b"(U\x07storagecos\nFloatStorage\nU\x010U\x03cpuK\x04tQ", b"K\x04\x85", b"K\x01\x85"),
            "no known kind",
        ),
        (b"\x80\x02" + b"(" * 100 + b"t" * 99 + b".", "weights"),
        (b"\x80\x02X\xff\xff\xff\x7fab.", "cut short"),
        (b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\xffab.", "cut short"),
        (b"\x80\x02a.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02}", "cut short"),
        (b"\x80\x02\xff.", "no pickle instruction at byte 2"),
    ],
)
def test_claims_beyond_the_file_are_refused(pickled, words, tmp_path):
    assert words in _refused(tmp_path / "w.pth", with_pickle(files()["views.pt"], pickled))


def test_small_pickles_stay_small():
    """Tuples that hold one another, and calls on one long list, would take forever where they are hashed or copied."""
    nested = b"\x80\x02)" + b"q\x00h\x00\x86" * 200
    assert isinstance(next(iter(read_pickle(io.BytesIO(b"\x80\x02}" + nested[2:] + b"K\x01s."), 3000))), Opaque)
    data = b"\x80\x02](" + b"K\x01" * 1000 + b"eq\x000c__builtin__\nlist\nq\x010](" + b"h\x01h\x00\x85R" * 1000 + b"e."
    with pytest.raises(PickleError, match="copies more than it holds"):
        read_pickle(io.BytesIO(data), len(data), _Caller(len(data)))


def test_names_stay_names():
    value = read_pickle(io.BytesIO(pickle.dumps([print, np.float64(1.5), {1, 2}])), 1000)
    assert value[0] == Global("builtins.print")
    assert isinstance(value[1], Opaque)
    assert sorted(value[2]) == [1, 2]


def test_a_flipped_bit_in_the_numbers_is_found(tmp_path):
    data = bytearray(files()["zip.pth"])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith("/data/0"))
    names, extra = struct.unpack_from("<26xHH", data, entry.header_offset)
    data[entry.header_offset + 30 + names + extra] ^= 1
    assert "checksum" in _refused(tmp_path / "w.pth", bytes(data))


def test_damaged_files_end_in_a_sentence_soon_and_small(tmp_path):
    path = tmp_path / "w.pth"
    tracemalloc.start()
    refused, taken, began = 0, 0, time.monotonic()
    for _, data in itertools.islice(damaged(0), 500):
        path.write_bytes(data)
        try:
            read = read_state_dict(path)
        except CheckpointError as error:
            refused += "\n" not in str(error)
        else:
            assert all(isinstance(value, np.ndarray) for value in read.values())
            taken += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused + taken == 500
    assert refused > 250
    assert peak < 100 << 20
    assert time.monotonic() - began < 60


def test_strings_of_python_2():
    data = b"(S'a\\n\\'b\\\\'\nS\"it's\"\nS'\\xe9'\nU\x02okI01\nI00\nI7\nL9L\nF1.5\nVd\\u00e9\nl."
    read = read_pickle(io.BytesIO(data), len(data))
    assert read == ["a\n'b\\", "it's", b"\xe9", "ok", True, False, 7, 9, 1.5, "dé"]


def test_buffers_that_were_expanded_are_read(tmp_path):
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x18tQ"
    pickled = _tensor(storage, b"K\x64K\x02\x86", b"K\x00K\x01\x86")
    (tmp_path / "w.pth").write_bytes(with_pickle(files()["views.pt"], pickled))
    np.testing.assert_array_equal(read_state_dict(tmp_path / "w.pth")["a.weight"], [[0.0, 1.0]] * 100)
