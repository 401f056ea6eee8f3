"""Caffe's files that are broken or something else: each is read or ends in a sentence, by hand and at random."""

import json
import re

import numpy as np
import pytest
from caffe_files import PLAIN, Form, assert_layers, blob, caffemodel, drawn, field, varint

from cvjax.errors import CheckpointError
from cvjax.weights.readers.caffe import read_binaryproto, read_caffemodel, read_layers


def _written(tmp_path, content):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    return path


def _layer(content):
    return field(100, field(1, "fc") + field(2, "InnerProduct") + field(7, content))


BROKEN = {
    "is empty": b"",
    "Git LFS.*git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 243862414\n",
    "is a web page": b"\n <!doctype HTML>\n<html></html>",
    "is a prototxt": b'# A net.\nname: "net"\nlayer {\n  name: "conv1"\n}\n',
    "is text and not": b"You have reached the limit of downloads.\n",
    "HDF5.*BINARYPROTO": b"\x89HDF\r\n\x1a\n" + bytes(16),
    "an archive": b"PK\x03\x04" + bytes(16),
    "2 layers and holds no weights": caffemodel([("data", "Data", []), ("relu", "ReLU", [])]),
    "damaged, or not a file of Caffe's": bytes(range(256)),
    "holds no layers": field(1, "net"),
    r"blob 0 of the layer 'fc' should have 2x3 numbers and has 5": _layer(
        field(7, field(1, b"\2\3")) + field(5, bytes(20))
    ),
    r"should have -1x-6 numbers and has 6": _layer(field(7, field(1, varint(-1) + varint(-6))) + field(5, bytes(24))),
    r"should have 0x4611686018427387904": _layer(field(7, field(1, varint(0) + varint(2**62)))),
    r"has 33 axes": _layer(field(7, field(1, b"\1" * 33)) + field(5, bytes(4))),
    r"should have 1 numbers and has 0": _layer(b""),
    "ends within a number": _layer(field(7, field(1, b"\2")) + field(5, bytes(7))),
    "in 2 forms at once": _layer(field(7, field(1, b"\2")) + field(5, bytes(4)) + varint(5 * 8 + 5) + bytes(4)),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_broken_files_end_in_a_sentence(tmp_path, sentence):
    path = _written(tmp_path, BROKEN[sentence])
    with pytest.raises(CheckpointError, match=rf"net\.caffemodel.*{sentence}") as caught:
        read_caffemodel(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_too_large(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_caffemodel(tmp_path / "net.caffemodel")
    with pytest.raises(CheckpointError, match="no such file"):
        read_binaryproto(tmp_path)
    path = _written(tmp_path, caffemodel(drawn()))
    with open(path, "r+b") as file:
        file.truncate(2**31)  # it takes no room on the disk
    with pytest.raises(CheckpointError, match=r"has 2147483648 bytes, and protobuf reads no more"):
        read_caffemodel(path)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_file_that_is_cut_off_never_gives_other_weights(tmp_path, version):
    layers = drawn(3, version)
    content = caffemodel(layers, version)
    whole, cut_off = read_layers(_written(tmp_path, content)), 0
    for size in range(0, len(content), 3):
        path = _written(tmp_path, content[:size])
        try:
            read = read_layers(path)
        except CheckpointError as error:
            missing = re.search(r"cut off, and lacks (\d+) bytes", str(error))
            cut_off += missing is not None
            assert missing is None or int(missing[1]) <= len(content) - size
        else:
            assert_layers(read, [tuple(layer) for layer in whole[: len(read)]])
    assert cut_off > 0.8 * len(content) / 3


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns a file with one to three changes: other bits, bytes lost, added or repeated, or other lengths."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at, size = int(rng.integers(len(changed) + 1)), int(rng.integers(1, 9))
        match rng.integers(9):
            case 0:
                changed[at : at + size] = rng.bytes(size)
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = rng.bytes(size)
            case 3:
                del changed[at:]
            case 4:  # a tag with a length or a number of any size
                value = varint(int(rng.integers(2**62)) >> int(rng.integers(62)))
                changed[at:at] = bytes([int(rng.integers(12)) * 8 + int(rng.integers(6))]) + value
            case 5:
                changed[at:at] = changed[at : at + 20 * size]
            case _ if at < len(changed):
                changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def fuzz(path, contents, count: int, seed: int = 0) -> tuple[int, int]:
    """Reads mutated files; returns how many were read and how many refused. Any other error goes through."""
    rng = np.random.default_rng(seed)
    errors = []
    for i in range(count):
        path.write_bytes(mutated(contents[i % len(contents)], rng))
        for reader in (read_caffemodel, read_binaryproto):
            try:
                reader(path)
            except CheckpointError as error:
                errors.append(str(error))
    for error in errors:
        assert error.startswith(str(path))
        assert len(error.splitlines()) == 1
    return 2 * count - len(errors), len(errors)


@pytest.mark.filterwarnings("error")
def test_mutated_files_are_read_or_refused(tmp_path):
    forms = [PLAIN, Form(packed=False), Form(double=True), Form(axes="four"), Form(False, True, "loose", True)]
    contents = [caffemodel(drawn(0, version), version, form) for version in (0, 1, 2) for form in forms]
    contents += [blob(np.ones((1, 3, 2, 2)), form) for form in forms]
    read, refused = fuzz(tmp_path / "net.caffemodel", contents, 1000)
    assert min(read, refused) > 200


@pytest.mark.filterwarnings("error")
def test_mutated_reference_files_are_read_or_refused(tmp_path, shared_dir):
    files = (shared_dir / "reference" / "caffe" / "tiny").iterdir()
    contents = [path.read_bytes() for path in sorted(files) if path.suffix in (".caffemodel", ".binaryproto")]
    fuzz(tmp_path / "net.caffemodel", contents, 500)


def test_broken_reference_files(shared_dir):
    folder = shared_dir / "reference" / "caffe" / "tiny"
    index = json.loads((folder / "INDEX.json").read_text())
    sentences = {
        "broken_truncated": "cut off",
        "broken_empty": "is empty",
        "broken_html": "web page",
        "broken_lfs_pointer": "git lfs pull",
        "broken_count": "blob 0 of the layer 'conv1' should have 4x3x3x3 numbers and has 100",
        "broken_no_weights": "holds no weights",
    }
    assert {name for name in index if name.startswith("broken_")} == set(sentences)
    for name, sentence in sentences.items():
        with pytest.raises(CheckpointError, match=sentence):
            read_layers(folder / f"{name}.caffemodel")
    for name in ("tiny_v0", "tiny_v1", "tiny_v2"):
        with pytest.raises(CheckpointError, match="holds a net and no mean image"):
            read_binaryproto(folder / f"{name}.caffemodel")
    for name in ("tiny_v1", "tiny_v2"):
        with pytest.raises(CheckpointError, match="is a prototxt"):
            read_layers(folder / f"{name}.prototxt")
