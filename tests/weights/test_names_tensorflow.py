"""DeepLab v3+ on Xception-65 by the names of TensorFlow's checkpoint."""

import json

import _reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import Agreement
from flax import traverse_util

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.weights import from_tensorflow, to_tensorflow
from cvjax.weights.layouts.tensorflow import DEEPLABV3PLUS_OPTIONS

NAME = "deeplabv3plus_xception65"
BLOCK = "xception_65/{}/unit_{}/xception_module/{}"


@pytest.fixture(scope="module")
def checkpoint(shared_dir):
    """Drawn numbers under the names and shapes of TensorFlow's, and what training leaves beside them."""
    listing = json.loads((shared_dir / "reference/caffe/tensorflow/deeplabv3plus_xception65.json").read_text())
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(row["shape"], np.float32) for name, row in listing["variables"].items()}
    for array in arrays.values():
        array.flat[:3] = (-0.0, 1e-42, np.nan)
    return arrays


@pytest.fixture(scope="module")
def shapes():
    model = create_model(NAME, num_classes=21, **DEEPLABV3PLUS_OPTIONS)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 65, 65, 3)))


@pytest.fixture(scope="module")
def variables(checkpoint, shapes):
    training = {
        "global_step": np.int64(7),
        "image_pooling/weights/Momentum": np.ones((1, 1, 2048, 256), np.float32),
        "image_pooling/BatchNorm/gamma/ExponentialMovingAverage": np.ones(256, np.float32),
    }
    return from_tensorflow(NAME, checkpoint | training, shapes)


def test_every_variable_has_one_place_and_every_leaf_its_variable(checkpoint, shapes, variables):
    # Each variable holds a number of its own, which the leaves then hold.
    numbered = {name: np.full_like(array, i) for i, (name, array) in enumerate(checkpoint.items())}
    leaves = traverse_util.flatten_dict(from_tensorflow(NAME, numbered, shapes))
    assert set(leaves) == set(traverse_util.flatten_dict(shapes))
    assert sorted(int(leaf.min()) for leaf in leaves.values()) == list(range(732))
    assert all(leaf.min() == leaf.max() for leaf in leaves.values())
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 41_055_413


def test_arrays_lie_where_the_net_reads_them(checkpoint, variables):
    params, stats = variables["params"], variables["batch_stats"]

    def same(ours, theirs):
        np.testing.assert_array_equal(ours, theirs)

    backbone = params["backbone"]
    same(backbone["stem_conv_1"]["kernel"], checkpoint["xception_65/entry_flow/conv1_2/weights"])
    scope = BLOCK.format("entry_flow/block2", 1, "separable_conv3_depthwise")
    theirs = checkpoint[f"{scope}/depthwise_weights"]
    same(backbone["blocks_1"]["separable3"]["depthwise_conv"]["kernel"], theirs.reshape(3, 3, 1, 256))
    for leaf, name in (("scale", "gamma"), ("bias", "beta")):
        same(backbone["blocks_1"]["separable3"]["depthwise_bn"][leaf], checkpoint[f"{scope}/BatchNorm/{name}"])
    norm = stats["backbone"]["blocks_1"]["separable3"]["depthwise_bn"]
    for leaf, name in (("mean", "moving_mean"), ("var", "moving_variance")):
        same(norm[leaf], checkpoint[f"{scope}/BatchNorm/{name}"])
    # Entry, middle and exit flow are one row here.
    for block, flow, unit in (
        (3, "middle_flow/block1", 1),
        (18, "middle_flow/block1", 16),
        (19, "exit_flow/block1", 1),
        (20, "exit_flow/block2", 1),
    ):
        theirs = checkpoint[f"{BLOCK.format(flow, unit, 'separable_conv1_pointwise')}/weights"]
        same(backbone[f"blocks_{block}"]["separable1"]["pointwise_conv"]["kernel"], theirs)
    theirs = checkpoint[f"{BLOCK.format('exit_flow/block1', 1, 'shortcut')}/weights"]
    same(backbone["blocks_19"]["shortcut_conv"]["kernel"], theirs)
    # TensorFlow joins [pooling, aspp0, aspp1, aspp2, aspp3], and we [conv1x1, atrous1, atrous2, atrous3, pooling].
    ours, theirs = params["aspp"]["project"]["conv"]["kernel"], checkpoint["concat_projection/weights"]
    same(ours[:, :, 1024:], theirs[:, :, :256])
    same(ours[:, :, :1024], theirs[:, :, 256:])
    same(params["aspp"]["atrous3"]["pointwise"]["conv"]["kernel"], checkpoint["aspp3_pointwise/weights"])
    same(params["aspp"]["pooling"]["bn"]["bias"], checkpoint["image_pooling/BatchNorm/beta"])
    same(params["low_level"]["conv"]["kernel"], checkpoint["decoder/feature_projection0/weights"])
    theirs = checkpoint["decoder/decoder_conv1_depthwise/depthwise_weights"]
    same(params["refine_1"]["depthwise"]["conv"]["kernel"], theirs.reshape(3, 3, 1, 256))
    same(params["classifier"]["kernel"], checkpoint["logits/semantic/weights"])
    same(params["classifier"]["bias"], checkpoint["logits/semantic/biases"])


def test_round_trip_is_exact(checkpoint, variables):
    again = to_tensorflow(NAME, variables)
    assert set(again) == set(checkpoint)
    for name, array in checkpoint.items():
        assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape)
        assert again[name].tobytes() == array.tobytes()
        assert again[name].flags.c_contiguous


@pytest.mark.slow
def test_logits_are_tensorflows(shapes):
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    names = {name: array.shape for name, array in to_tensorflow(NAME, zeros).items()}
    variables = from_tensorflow(NAME, reference.tensorflow_variables(names), shapes)
    images = reference.images((1, 65, 97, 3))
    with np.load(reference.GOLDEN / "tensorflow" / f"{NAME}.npz") as archive:
        expected = archive["logits"]
    errors = []
    unlike = {"align_corners": False, "backbone": {"maps_before_relu": False}}
    for options in ({}, unlike):
        logits = jax.jit(create_model(NAME, num_classes=21, **options).apply)(variables, images)
        errors.append(reference.relative_error(logits[:, ::8, ::8], expected))
    Agreement("tensorflow_deeplabv3plus_xception65", NAME, "tensorflow").hold(errors[0])
    assert errors[1] > 1e-2


def test_what_does_not_fit_is_listed(checkpoint, shapes):
    arrays = dict(checkpoint)
    arrays["aspp4_depthwise/depthwise_weights"] = arrays.pop("aspp3_depthwise/depthwise_weights")
    arrays["decoder/feature_projection0/weights"] = np.zeros((1, 1, 128, 48), np.float32)
    with pytest.raises(CheckpointError) as error:
        from_tensorflow(NAME, arrays, shapes)
    for word in ("missing: aspp3_depthwise", "unknown: aspp4_depthwise", "mis-shaped: decoder/feature_projection0"):
        assert word in str(error.value)
    with pytest.raises(ConfigError, match=f"no conversion from TensorFlow for 'resnet50'; there is one for {NAME}"):
        from_tensorflow("resnet50", checkpoint)
    with pytest.raises(ConfigError, match="no conversion from TensorFlow"):
        to_tensorflow("deeplabv3_resnet50", {})
