"""TensorFlow's checkpoints: real ones come out as TensorFlow wrote them, and damaged ones end in a sentence."""

import re
import shutil

import _reference as reference
import numpy as np
import pytest
from tensor_bundles import HEADER, entry, message, table, write_bundle

from cvjax.errors import CheckpointError
from cvjax.weights import read_bundle
from cvjax.weights.readers.crc32c import crc32c

GOLDEN = reference.GOLDEN / "tensorflow"
ARRAYS = {f"layer{i}/weights": np.arange(i, i + 6, dtype=np.float32).reshape(2, 3) for i in range(8)}


def _expected(checkpoint):
    with np.load(GOLDEN / "expected.npz") as archive:
        return {key.partition(":")[2]: value for key, value in archive.items() if key.startswith(f"{checkpoint}:")}


def _assert_same(read, expected):
    assert sorted(read) == sorted(expected)
    for name, value in expected.items():
        assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape), name
        assert read[name].tobytes() == value.tobytes(), name


def _bytewise(data):
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_checksums():
    # The vectors are those of RFC 3720, B.4, and the catalog of CRCs.
    vectors = {b"123456789": 0xE3069283, bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    assert {data: crc32c(data) for data in vectors} == vectors
    data = np.random.default_rng(0).bytes(40)
    for size in range(40):
        assert crc32c(data[:size]) == _bytewise(data[:size])
    long = np.frombuffer(data * 20_000, np.uint8)[: 3 * 2**18 + 7]  # more than a block, and not in words
    assert crc32c(long) == _bytewise(long.tobytes())


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00001-of-00003"])
def test_a_checkpoint_of_a_saver_in_three_files_with_parts(suffix):
    _assert_same(read_bundle(GOLDEN / f"graph{suffix}"), _expected("graph"))


def test_a_checkpoint_of_objects():
    read = read_bundle(str(GOLDEN / "objects"))
    _assert_same({key: value for key, value in read.items() if "save_counter" not in key}, _expected("objects"))


def test_arrays_are_writable_and_tables_may_have_many_blocks(tmp_path):
    write_bundle(tmp_path / "net", ARRAYS)
    read = read_bundle(tmp_path / "net")
    _assert_same(read, ARRAYS)
    read["layer0/weights"] += 1


def _refused(path, *words):
    with pytest.raises(CheckpointError) as error:
        read_bundle(path)
    for word in words:
        assert word in str(error.value)
    return str(error.value)


def test_files_that_are_something_else(tmp_path):
    _refused(tmp_path / "none", "none.index: there is no such file")
    _refused(tmp_path / "none.data-00000-of-00001", "none.index: there is no such file")
    _refused(GOLDEN / "version1.ckpt", "version 1", "tf.compat.v1.train.Saver")
    shutil.copy(GOLDEN / "version1.ckpt", tmp_path / "renamed.index")
    _refused(tmp_path / "renamed", "renamed.index", "version 2")
    (tmp_path / "weights.h5").write_bytes(b"anything")
    _refused(tmp_path / "weights.h5", "no checkpoint of TensorFlow's")
    _refused(GOLDEN, "is a folder", str(GOLDEN / "graph"))
    (tmp_path / "lfs.index").write_text("version https://git-lfs.github.com/spec/v1\n")
    _refused(tmp_path / "lfs", "lfs.index", "git lfs pull")
    (tmp_path / "short.index").write_bytes(b"short")
    _refused(tmp_path / "short", "cut off or something else")


def test_data_files_that_do_not_fit(tmp_path):
    write_bundle(tmp_path / "net", ARRAYS)
    data = tmp_path / "net.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[:-1])
    _refused(tmp_path / "net", data.name, "ends before 'layer7/weights' does")
    data.write_bytes(b"\xff" + content[1:])
    _refused(tmp_path / "net", data.name, "checksum of 'layer0/weights' is wrong")
    data.write_text("version https://git-lfs.github.com/spec/v1\n")
    _refused(tmp_path / "net", data.name, "git lfs pull")
    data.unlink()
    _refused(tmp_path / "net", f"{data.name}: there is no such file")


def test_indices_that_are_damaged(tmp_path):
    write_bundle(tmp_path / "net", ARRAYS)
    index = tmp_path / "net.index"
    content = index.read_bytes()
    index.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    _refused(tmp_path / "net", "net.index", "checksum is wrong")
    index.write_bytes(content[:-100])
    _refused(tmp_path / "net", "cut off")
    index.write_bytes(content[:-48] + b"\xff" * 8 + content[-40:])
    _refused(tmp_path / "net")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": 24}, "type 24"),
        ({"size": 20}, "not those of its shape (2, 3)"),
        ({"shard": 1}, "data file 1 of 1"),
        ({"offset": 2**63}, "ends before"),
        ({"crc": 0}, "checksum of"),
        ({"offset": 1}, "checksum of"),
    ],
)
def test_entries_that_are_wrong(tmp_path, changes, words):
    write_bundle(tmp_path / "net", {"one": ARRAYS["layer1/weights"]})
    data = tmp_path / "net.data-00000-of-00001"
    data.write_bytes(data.read_bytes() + b"1")
    rows = [(b"", HEADER), (b"one", entry(ARRAYS["layer1/weights"], **{"offset": 0} | changes))]
    (tmp_path / "net.index").write_bytes(table(rows))
    _refused(tmp_path / "net", words)


def _extent(start, length):
    return (1, message((1, start), (2, length)))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "how many data files"),
        ([(b"", message((1, 1), (2, 1)))], "big-endian"),
        ([(b"", message((1, 1), (3, message((2, 9)))))], "newer reader"),
        ([(b"", HEADER), (b"\xff", b"\x08\x01")], "is no text"),
        ([(b"", HEADER), (b"a", b"\x0b")], "no protocol buffer"),
        ([(b"", HEADER), (b"a", b"\x08")], "breaks off"),
        ([(b"", HEADER), (b"a", b"\x08" + b"\xff" * 11)], "no end"),
        ([(b"", HEADER), (b"a", message((1, 1), *[(2, message((2, message((1, 2**40)))))] * 2))], "is impossible"),
        ([(b"", HEADER), (b"a", message((1, 1), *[(2, message((2, b"")))] * 40))], "is impossible"),
        ([(b"", HEADER), (b"a", message((1, 1), (7, message(_extent(0, 1)))))], "a part of 'a' is missing"),
    ],
)
def test_tables_that_are_wrong(tmp_path, rows, words):
    (tmp_path / "net.index").write_bytes(table(rows))
    (tmp_path / "net.data-00000-of-00001").write_bytes(b"")
    _refused(tmp_path / "net", words)


def test_a_small_file_does_not_grow_beyond_bounds(tmp_path):
    (tmp_path / "net.data-00000-of-00001").write_bytes(bytes(24))
    # A thousand variables on the same bytes.
    one = np.zeros((2, 3), np.float32)
    rows = [(b"", HEADER), *((f"v{i:04}".encode(), entry(one, 0)) for i in range(1000))]
    (tmp_path / "net.index").write_bytes(table(rows))
    _refused(tmp_path / "net", "overlap")
    # Names that have nearly all of a long one in common.
    rows = [(b"", HEADER)]
    rows += [(b"n" * 3000 + bytes([i]), b"") for i in range(200)]
    (tmp_path / "net.index").write_bytes(table(rows, rows_per_block=201, whole_every=201))
    assert (tmp_path / "net.index").stat().st_size < 9000
    _refused(tmp_path / "net", "names are too long")


def test_a_compressed_table(tmp_path):
    (tmp_path / "net.index").write_bytes(table([(b"", HEADER)], compression=1))
    _refused(tmp_path / "net", "compressed")


def mutated(rng, content):
    """A few bytes changed, cut off, repeated or moved."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(data) + 1))
        match int(rng.integers(4)):
            case 0 if at < len(data):
                data[at] = int(rng.integers(256))
            case 1:
                del data[at : at + int(rng.integers(1, 30))]
            case 2:
                data[at:at] = data[at : at + int(rng.integers(1, 30))]
            case _:
                data[at:at] = rng.bytes(int(rng.integers(1, 12)))
    return bytes(data)


def fuzz(folder, count, seed=0):
    """Reads so many damaged checkpoints; returns how many of them came out whole."""
    rng = np.random.default_rng(seed)
    array = ARRAYS["layer1/weights"]
    part = entry(array, 0)
    key = b"\0parts\0\1\1\2\x80\x82\x80\x7f"
    whole = message((1, 1), (2, message(*[(2, message((1, side))) for side in (2, 3)])))
    whole += message((7, message(_extent(0, 2), (1, b""))))
    rows = [(b"", HEADER), (key, part), (b"other", entry(array, 24)), (b"parts", whole)]
    index, data = table(rows), array.tobytes() * 2
    paths = folder / "net.index", folder / "net.data-00000-of-00001"
    for path, content in zip(paths, (index, data)):
        path.write_bytes(content)
    assert sorted(read_bundle(folder / "net")) == ["other", "parts"]
    whole_ones = 0
    for _ in range(count):
        kind = int(rng.integers(4))
        if kind == 0:
            # Under good checksums the damage goes deeper.
            place = int(rng.integers(len(rows)))
            changed = [tuple(mutated(rng, item) for item in row) if i == place else row for i, row in enumerate(rows)]
            paths[0].write_bytes(table(changed))
        else:
            paths[0].write_bytes(mutated(rng, index) if kind < 3 else index)
        paths[1].write_bytes(mutated(rng, data) if kind == 3 else data)
        read, sentence = {}, "net.index"
        try:
            read = read_bundle(folder / "net")
            whole_ones += 1
        except CheckpointError as error:
            sentence = str(error)
        assert re.search(r"net\.(index|data-\d+-of-\d+)", sentence)
        assert sum(value.nbytes for value in read.values()) <= 1000
    return whole_ones


def test_whatever_is_damaged_is_read_or_refused(tmp_path):
    assert 0 < fuzz(tmp_path, 400) < 400
