"""Darknet's files: written and read again, bit for bit, and in darknet's order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import CheckpointError
from cvjax.models import create_model
from cvjax.weights import read_darknet, write_darknet

STAGES = (((3, 4, 2),), ((3, 5, 1), (1, 6, 1)))
SMALL = {"backbone": {"stages": STAGES}, "neck": ((3, 7, 1),), "grid": (2, 3), "hidden": 8}
IMAGES = jax.ShapeDtypeStruct((1, 8, 12, 3), jnp.float32)


def _variables(model, seed=0):
    """Random numbers in every leaf."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def _detector(**options):
    return create_model("yolov1", num_classes=2, **SMALL | options)


def _floats(path):
    return np.frombuffer(path.read_bytes(), "<f4", offset=16)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"squeeze": 3}, {"fully_convolutional": True}])
def test_round_trip(tmp_path, options):
    model = _detector(**options)
    variables, others = _variables(model), _variables(model, seed=1)
    write_darknet(tmp_path / "net.weights", variables, grid=(2, 3), seen=640)
    assert np.frombuffer((tmp_path / "net.weights").read_bytes(), "<i4", 4).tolist() == [0, 1, 0, 640]
    assert len(_floats(tmp_path / "net.weights")) == sum(leaf.size for leaf in jax.tree.leaves(variables))
    jax.tree.map(np.testing.assert_array_equal, read_darknet(tmp_path / "net.weights", others, grid=(2, 3)), variables)


def test_floats_lie_in_darknets_order(tmp_path):
    model = _detector(batch_norm=True)
    variables = _variables(model)
    write_darknet(tmp_path / "net.weights", variables, grid=(2, 3))
    floats = _floats(tmp_path / "net.weights")
    params, stats = variables["params"], variables["batch_stats"]["backbone"]["stage1_0"]["bn"]
    norm = params["backbone"]["stage1_0"]["bn"]
    first = np.concatenate([norm["bias"], norm["scale"], stats["mean"], stats["var"]])
    np.testing.assert_array_equal(floats[:16], first)
    kernel = params["backbone"]["stage1_0"]["conv"]["kernel"]
    np.testing.assert_array_equal(floats[16 : 16 + kernel.size].reshape(4, 3, 3, 3), kernel.transpose(3, 2, 0, 1))
    # The dense layers come last; the first reads its map channel by channel.
    fc1, output = params["fc1"], params["output"]
    end = len(floats) - output["kernel"].size - output["bias"].size
    np.testing.assert_array_equal(floats[end : end + output["bias"].size], output["bias"])
    theirs = floats[end - fc1["kernel"].size : end].reshape(8, 7 * 2 * 3)
    maps = np.random.default_rng(2).standard_normal((2, 3, 7)).astype(np.float32)
    np.testing.assert_allclose(
        theirs @ maps.transpose(2, 0, 1).reshape(-1), maps.reshape(-1) @ fc1["kernel"], atol=1e-5
    )


def test_versions_with_dense_layers_transposed_and_with_a_long_count(tmp_path):
    classifier = create_model("darknet_yolov1", num_classes=3, stages=STAGES)
    variables, others = _variables(classifier), _variables(classifier, seed=1)
    write_darknet(tmp_path / "net.weights", variables)
    floats = _floats(tmp_path / "net.weights")
    longer = np.array([0, 2, 0, 7, 0], "<i4").tobytes() + floats.tobytes()
    turned = np.concatenate([floats[:-18], floats[-18:].reshape(3, 6).T.reshape(-1)])
    older = np.array([0, 1001, 0, 7], "<i4").tobytes() + turned.astype("<f4").tobytes()
    for content in (longer, older):
        (tmp_path / "other.weights").write_bytes(content)
        jax.tree.map(np.testing.assert_array_equal, read_darknet(tmp_path / "other.weights", others), variables)


def test_a_detector_takes_the_first_layers_of_a_file(tmp_path):
    variables, detector = (
        _variables(create_model("darknet_yolov1", num_classes=0, stages=STAGES)),
        _variables(_detector()),
    )
    write_darknet(tmp_path / "first.conv.weights", variables)
    with pytest.raises(CheckpointError, match="partial=True"):
        read_darknet(tmp_path / "first.conv.weights", detector, grid=(2, 3))
    found = read_darknet(tmp_path / "first.conv.weights", detector, grid=(2, 3), partial=True)["params"]
    jax.tree.map(np.testing.assert_array_equal, found["backbone"], variables["params"])
    jax.tree.map(np.testing.assert_array_equal, found["necks_0"], detector["params"]["necks_0"])


def test_files_that_do_not_fit(tmp_path):
    variables = _variables(_detector())
    write_darknet(tmp_path / "net.weights", variables, grid=(2, 3))
    content = (tmp_path / "net.weights").read_bytes()
    for size in (len(content) + 4, len(content) - 4):
        (tmp_path / "bad.weights").write_bytes((content + b"1234")[:size])
        with pytest.raises(CheckpointError, match=f"has {size // 4 - 4} floats"):
            read_darknet(tmp_path / "bad.weights", variables, grid=(2, 3), partial=True)
    with pytest.raises(CheckpointError, match="pass the net's grid"):
        read_darknet(tmp_path / "net.weights", variables)
    with pytest.raises(CheckpointError, match="no such file"):
        read_darknet(tmp_path / "none.weights", variables)
    with pytest.raises(CheckpointError, match="only YOLO v1"):
        write_darknet(tmp_path / "net.weights", {"params": {"conv": {"kernel": np.zeros((2, 2))}}})
