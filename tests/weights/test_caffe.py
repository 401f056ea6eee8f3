"""Caffe's files: every form that its versions wrote, and those of the reference data."""

import itertools
import json
import struct
import zlib

import numpy as np
import pytest
from caffe_files import Form, assert_layers, blob, caffemodel, drawn, field, varint

from cvjax.errors import CheckpointError
from cvjax.weights import read_state_dict, write_state_dict
from cvjax.weights.readers.caffe import read_binaryproto, read_caffemodel, read_layers

FORMS = [
    Form(packed, double, axes, diff)
    for packed, double, axes, diff in itertools.product(
        (True, False), (False, True), ("packed", "loose", "four"), (0, 1)
    )
]


def _written(tmp_path, content, name="net.caffemodel"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_form_holds_the_same_weights(tmp_path, version):
    for seed, form in enumerate(FORMS):
        layers = drawn(seed, version)
        assert_layers(read_layers(_written(tmp_path, caffemodel(layers, version, form))), layers)


@pytest.mark.parametrize("double", [False, True])
def test_packed_numbers_may_come_in_pieces(tmp_path, double):
    layers = drawn()
    content = caffemodel(layers, form=Form(double=double, pieces=3))
    assert_layers(read_layers(_written(tmp_path, content)), layers)


@pytest.mark.parametrize("turns", [1, 3, 100])
@pytest.mark.parametrize("double", [False, True])
def test_numbers_that_are_not_packed_may_take_turns_with_gradients(turns, double, tmp_path):
    numbers, tags = np.arange(turns * 6, dtype=np.float32) / 7, (8, 9) if double else (5, 6)
    kind, wire_type = ("<d", 1) if double else ("<f", 5)
    content = field(7, field(1, bytes([3, *varint(turns * 2)])))
    for part in numbers.reshape(turns, 6):
        for tag, values in zip(tags, (part, part[:4] + 100)):
            content += b"".join(bytes([8 * tag + wire_type]) + struct.pack(kind, value) for value in values)
    layer = field(1, "a") + field(2, "InnerProduct") + field(7, content)
    (tmp_path / "a.caffemodel").write_bytes(field(100, layer))
    found = read_caffemodel(tmp_path / "a.caffemodel")["a.weight"]
    assert found.flags.aligned
    np.testing.assert_array_equal(found, numbers.reshape(3, -1), strict=True)


def test_numbers_stay_as_they_are_bit_for_bit(tmp_path):
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)
    for form in FORMS:
        read = read_layers(_written(tmp_path, caffemodel([("a", "Scale", [values])], form=form)))[0].blobs[0]
        np.testing.assert_array_equal(read.view(np.uint32), values.view(np.uint32))
    large = np.array([1e300, -1e300])
    read = read_layers(_written(tmp_path, caffemodel([("a", "Scale", [large])], form=Form(double=True))))
    np.testing.assert_array_equal(read[0].blobs[0], [np.inf, -np.inf])


def test_keys_are_like_pytorchs(tmp_path):
    layers = drawn()
    state = read_caffemodel(_written(tmp_path, caffemodel([*layers, ("lstm", "LSTM", layers[1][2] * 2)])))
    arrays = {name: blobs for name, _, blobs in layers}
    expected = {
        **{f"{name}.weight": blobs[0] for name, blobs in arrays.items() if blobs and name != "bn"},
        **{f"{name}.bias": blobs[1] for name, blobs in arrays.items() if len(blobs) == 2},
        "bn.running_mean": arrays["bn"][0] / arrays["bn"][2],
        "bn.running_var": arrays["bn"][1] / arrays["bn"][2],
        **dict(zip(("lstm.weight", "lstm.bias", "lstm.blob2", "lstm.blob3"), arrays["conv1"] * 2)),
    }
    assert set(state) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(state[key], value, strict=True)


@pytest.mark.parametrize("factor", [2.0**-9, 1.0, 2.0**13])
def test_batch_norm_does_not_depend_on_how_long_it_was_summed_up(tmp_path, factor):
    mean, variance = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    blobs = [each * np.float32(factor) for each in (mean, variance, np.ones(1, np.float32))]
    state = read_caffemodel(_written(tmp_path, caffemodel([("bn", "BatchNorm", blobs)])))
    np.testing.assert_array_equal(state["bn.running_mean"], mean)
    np.testing.assert_array_equal(state["bn.running_var"], variance)
    blobs[2] *= 0
    state = read_caffemodel(_written(tmp_path, caffemodel([("bn", "BatchNorm", blobs)])))
    assert {key: value.tolist() for key, value in state.items()} == dict.fromkeys(state, [0] * 5)
    state = read_caffemodel(_written(tmp_path, caffemodel([("bn", "BatchNorm", [mean, variance])])))
    np.testing.assert_array_equal(state["bn.running_mean"], mean)
    path = _written(tmp_path, caffemodel([("bn", "BatchNorm", [mean] * 4)]))
    with pytest.raises(CheckpointError, match="factor of the layer 'bn' has 5 numbers"):
        read_caffemodel(path)


def test_layers_of_one_name(tmp_path):
    layers = drawn()
    twins = [*layers, *layers]
    path = _written(tmp_path, caffemodel(twins))
    assert_layers(read_layers(path), twins)
    assert len(read_caffemodel(path)) == sum(len(blobs) for _, _, blobs in layers) - 1
    path = _written(tmp_path, caffemodel([*layers, ("fc", "InnerProduct", [np.ones((2, 2))])]))
    assert len(read_layers(path)) == 9
    with pytest.raises(CheckpointError, match=r"two layers of the name 'fc' .*read_layers"):
        read_caffemodel(path)
    assert "conv1_res05.weight" in read_caffemodel(
        _written(tmp_path, caffemodel([*layers, ("conv1_res05", *layers[1][1:])]))
    )


def test_names_of_any_bytes(tmp_path):
    kind, values = field(2, "Scale"), field(7, blob(np.ones(2)))
    layers = [field(100, field(1, name) + kind + values) for name in ("eins/zwei-3", "層".encode(), b"\xe9t\xe9")]
    assert [layer.name for layer in read_layers(_written(tmp_path, b"".join(layers)))] == [
        "eins/zwei-3",
        "層",
        "\\xe9t\\xe9",
    ]


def test_mean_images(tmp_path):
    mean = np.random.default_rng(2).uniform(0, 255, (3, 5, 7)).astype(np.float32)
    for form in FORMS:
        for array in (mean, mean[None], mean[:1]):
            read = read_binaryproto(_written(tmp_path, blob(array, form), "mean.binaryproto"))
            np.testing.assert_array_equal(read, array[0] if array.ndim == 4 else array, strict=True)
    for array in (mean[0], np.stack([mean, mean])):
        with pytest.raises(CheckpointError, match="not one image"):
            read_binaryproto(_written(tmp_path, blob(array), "mean.binaryproto"))


def test_each_reader_names_the_other(tmp_path):
    for version in (0, 1, 2):
        with pytest.raises(CheckpointError, match=r"holds a net and no mean image.*read_caffemodel"):
            read_binaryproto(_written(tmp_path, caffemodel(drawn(0, version), version)))
    for axes in ("four", "packed"):
        with pytest.raises(CheckpointError, match="read_binaryproto"):
            read_caffemodel(_written(tmp_path, blob(np.ones((1, 3, 2, 2)), Form(axes=axes)), "mean.binaryproto"))


def test_state_dicts_are_read_from_caffe_and_not_written(tmp_path):
    content = caffemodel(drawn())
    expected = read_caffemodel(_written(tmp_path, content))
    for name in ("net.caffemodel", "NET.CaffeModel", "net.CAFFEMODEL"):
        state = read_state_dict(_written(tmp_path, content, name))
        assert state.keys() == expected.keys()
        with pytest.raises(CheckpointError, match="weights come as"):
            write_state_dict(tmp_path / name, state)
    with pytest.raises(CheckpointError, match="is empty"):
        read_state_dict(_written(tmp_path, b""))


def _tiny(shared_dir):
    folder = shared_dir / "reference" / "caffe" / "tiny"
    return folder, json.loads((folder / "INDEX.json").read_text())


def test_reference_files_give_the_arrays_beside_them(shared_dir):
    folder, index = _tiny(shared_dir)
    names = [name for name in index if name.startswith("tiny_")]
    assert len(names) >= 9
    for name in names:
        read = {
            f"{layer.name}/{i}": array
            for layer in read_layers(folder / f"{name}.caffemodel")
            for i, array in enumerate(layer.blobs)
        }
        assert {key: list(array.shape) for key, array in read.items()} == index[name]["blobs"], name
        with np.load(folder / f"{name}.npz") as arrays:
            for key, array in read.items():
                np.testing.assert_array_equal(array, arrays[key].astype(np.float32), err_msg=f"{name} {key}")
            state = read_caffemodel(folder / f"{name}.caffemodel")
            if "bn2/2" in arrays:
                factor = arrays["bn2/2"][0]
                mean = arrays["bn2/0"] / factor if factor else np.zeros(6)
                np.testing.assert_allclose(state["bn2.running_mean"], mean, rtol=1e-6)
    kinds = {layer.kind for name in names for layer in read_layers(folder / f"{name}.caffemodel")}
    assert kinds == {"Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale"}


def test_reference_means(shared_dir):
    folder, index = _tiny(shared_dir)
    with np.load(folder / "mean.npz") as arrays:
        (mean,) = arrays.values()
    names = [name for name in index if name.startswith("mean_")]
    for name in names:
        np.testing.assert_array_equal(
            read_binaryproto(folder / f"{name}.binaryproto"), np.float32(mean).reshape(3, 6, 5), strict=True
        )
    assert len(names) == 3


def test_a_whole_net_has_the_drawn_weights(shared_dir):
    folder = shared_dir / "reference" / "caffe"
    facts = json.loads((folder / "facts" / "nin_cifar10.json").read_text())
    layers = []
    for layer in facts["weights"]:
        blobs = []
        for i, shape in enumerate(layer["blobs"]):
            rng = np.random.default_rng(zlib.crc32(f"dev-{layer['name']}/{i}".encode()))
            scale = 0.05 if i else np.sqrt(2 / np.prod(shape[1:]))
            blobs.append((rng.standard_normal(shape) * scale).astype(np.float32))
        layers.append((layer["name"], layer["type"], blobs))
    assert_layers(read_layers(folder / "outputs" / "nin_cifar10.caffemodel"), layers)
