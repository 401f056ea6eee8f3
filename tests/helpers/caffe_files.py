"""Encodes Caffe's files by the rules of protobuf's wire format, with nothing of protobuf's or ours."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Layers = Sequence[tuple[str, str, Sequence[np.ndarray]]]

_V0_KINDS = {"Convolution": "conv", "InnerProduct": "innerproduct"}
_V1_KINDS = {"Convolution": 4, "InnerProduct": 14, "Deconvolution": 39}


class Form(NamedTuple):
    """One of the ways in which Caffe's versions wrote a blob.

    `axes` is "packed" or "loose" for the new shapes, and "four" for those of V0 and V1. `pieces` is how many packed
    fields the numbers are spread over.
    """

    packed: bool = True
    double: bool = False
    axes: str = "packed"
    diff: bool = False
    pieces: int = 1


PLAIN = Form()


def varint(value: int) -> bytes:
    value, digits = value % 2**64, []
    while value >= 128:
        digits.append(value % 128 + 128)
        value //= 128
    return bytes([*digits, value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(8 * number) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(8 * number + 2) + varint(len(content)) + content


def _numbers(number: int, values: np.ndarray, form: Form) -> bytes:
    kind, wire_type = ("d", 1) if form.double else ("f", 5)
    if not form.packed:
        return b"".join(varint(8 * number + wire_type) + struct.pack(f"<{kind}", value) for value in values.tolist())
    parts = np.array_split(values.astype(f"<{kind}", copy=False), form.pieces)
    return b"".join(field(number, part.tobytes()) for part in parts)


def blob(array: np.ndarray, form: Form = PLAIN) -> bytes:
    if form.axes == "four":
        shape = (1,) * (4 - array.ndim) + array.shape
        axes = b"".join(field(number, size) for number, size in enumerate(shape, 1))
    elif form.axes == "packed":
        axes = field(7, field(1, b"".join(map(varint, array.shape))))
    else:
        axes = field(7, b"".join(field(1, size) for size in array.shape))
    content = _numbers(8 if form.double else 5, array.reshape(-1), form)
    if form.diff:
        content += _numbers(9 if form.double else 6, array.reshape(-1) + 1, form)
    return axes + content


def caffemodel(layers: Layers, version: int = 2, form: Form = PLAIN, name: str = "net") -> bytes:
    """Encodes a net whose layers are given as name, V2's kind, and arrays."""
    return b"".join(caffemodel_pieces(layers, version, form, name))


def caffemodel_pieces(layers: Layers, version: int = 2, form: Form = PLAIN, name: str = "net") -> Iterator[bytes]:
    """Yields the pieces of what `caffemodel` returns, a layer each."""
    yield field(1, name) + field(3, "data")
    yield b"".join(field(4, size) for size in (1, 3, 6, 5)) if version < 2 else field(8, field(1, b"\1\3\6\5"))
    for layer, kind, arrays in layers:
        blobs = [blob(array, form) for array in arrays]
        if version == 0:
            inner = field(1, layer) + field(2, _V0_KINDS.get(kind, kind)) + b"".join(field(50, each) for each in blobs)
            yield field(2, field(1, inner) + field(2, "below") + field(3, layer))
        elif version == 1:
            inner = field(2, "below") + field(3, layer) + field(4, layer) + field(5, _V1_KINDS.get(kind, 18))
            yield field(2, inner + b"".join(field(6, each) for each in blobs))
        else:
            inner = field(1, layer) + field(2, kind) + field(3, "below") + field(4, layer) + field(10, 1)
            yield field(100, inner + b"".join(field(7, each) for each in blobs))


def of_state(state_dict: Mapping[str, np.ndarray], deconvolutions: Sequence[str] = ()) -> bytes:
    """Encodes a net whose arrays are given by LAYER.weight, LAYER.bias, LAYER.running_mean and LAYER.running_var."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for key, value in state_dict.items():
        layer, _, blob_name = key.rpartition(".")
        layers.setdefault(layer, {})[blob_name] = np.asarray(value)
    rows = []
    for layer, blobs in layers.items():
        if "running_mean" in blobs:
            rows.append((layer, "BatchNorm", [blobs["running_mean"], blobs["running_var"], np.ones(1, np.float32)]))
            continue
        kind = {1: "Scale", 2: "InnerProduct", 4: "Convolution"}[blobs["weight"].ndim]
        kind = "Deconvolution" if layer in deconvolutions else kind
        rows.append((layer, kind, [blobs[part] for part in ("weight", "bias") if part in blobs]))
    return caffemodel(rows)


def drawn(seed: int = 0, version: int = 2) -> Layers:
    """Draws the layers of a net: one of each kind with weights, and some without between them."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    layers = [
        ("data", "Data", []),
        ("conv1", "Convolution", [draw(4, 3, 1, 2), draw(4)]),
        ("relu1", "ReLU", []),
        ("1x1", "Convolution", [draw(1, 1, 1, 5)]),
        ("fc", "InnerProduct", [draw(3, 5), draw(3)]),
        ("one", "InnerProduct", [draw(1, 1), draw(1)]),
    ]
    if version > 0:
        layers.append(("up", "Deconvolution", [draw(2, 1, 2, 2)]))
    if version > 1:
        layers.append(("bn", "BatchNorm", [draw(4), draw(4), draw(1)]))
        layers += [("scale", "Scale", [draw(4), draw(4)]), ("prelu", "PReLU", [draw(4)])]
    return layers


def assert_layers(read: Iterable[tuple], written: Layers) -> None:
    written = [layer for layer in written if layer[2]]
    assert [layer[:2] for layer in read] == [layer[:2] for layer in written]
    for layer, (name, _, arrays) in zip(read, written):
        assert len(layer.blobs) == len(arrays), name
        for one, other in zip(layer.blobs, arrays):
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, other, strict=True, err_msg=name)
