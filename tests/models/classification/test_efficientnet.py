"""EfficientNet: features, rounding of channels, and blocks dropped in training."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.blocks.mbconv import MBConv
from cvjax.models.classification.efficientnet import EfficientNet, Stage, compound_scale, round_channels
from cvjax.nn import BatchNorm, TorchConv

TINY = EfficientNet(num_classes=5, width_coefficient=0.25, depth_coefficient=0.5)


def test_round_channels_is_the_published_rule():
    # 1.2 x 16 = 19.2 -> 16 would lose more than a tenth.
    assert [round_channels(16, width) for width in (1.0, 1.1, 1.2, 1.4, 2.0)] == [16, 16, 24, 24, 32]
    assert round_channels(1280, 1.1) == 1408
    assert round_channels(4, 1.0) == 8


def test_features_strides():
    images = jax.ShapeDtypeStruct((1, 65, 100, 3), jnp.float32)
    variables = jax.eval_shape(TINY.init, jax.random.key(0), images)
    maps = jax.eval_shape(lambda v, x: TINY.apply(v, x, method="features"), variables, images)
    strides = {"stem": 2, "stage1": 2, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 16, "stage6": 32}
    strides |= {"stage7": 32, "top": 32}
    assert maps.keys() == strides.keys()
    for name, stride in strides.items():
        assert maps[name].shape[1:3] == (-(-65 // stride), -(-100 // stride))


def test_block_drops_whole_examples_and_keeps_the_mean():
    x = jax.random.normal(jax.random.key(0), (512, 2, 2, 8))
    block = MBConv(8, 2, 3, False, 1, 1, 0.25, norm=lambda **options: BatchNorm(frozen=True, **options))
    variables = block.init(jax.random.key(1), x, False)
    branch = block.apply(variables, x, False) - x
    trained = block.apply(variables, x, True, rngs={"dropout": jax.random.key(2)}) - x
    scale = (trained * branch).sum((1, 2, 3)) / (branch * branch).sum((1, 2, 3))
    np.testing.assert_allclose(np.minimum(np.abs(scale), np.abs(scale - 1 / 0.75)), 0, atol=1e-4)
    assert 0.9 < scale.mean() < 1.1
    np.testing.assert_allclose(trained, branch * scale[:, None, None, None], atol=1e-5)


def test_drop_rates_grow_to_the_last_block():
    model = create_model("efficientnet_b0", num_classes=2)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    rates = []

    def note(call, arguments, options, context):
        if isinstance(context.module, MBConv) and context.method_name == "__call__":
            rates.append(context.module.drop_rate)
        return call(*arguments, **options)

    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), images)
    np.testing.assert_allclose(rates, 0.2 * np.arange(16) / 16)


def test_computes_in_its_dtype_and_learns_in_float32():
    model = TINY.copy(dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    assert {leaf.dtype for leaf in maps.values()} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16])
def test_denser_maps_hold_the_strided_ones(output_stride):
    """Gates see the mean over the map, which differs; so these are held open."""
    images = jax.random.normal(jax.random.key(0), (1, 64, 96, 3))
    coarse = TINY.copy(num_classes=0)
    variables = jax.jit(coarse.init)(jax.random.key(1), images)
    for name, tree in variables["params"].items():
        if name.startswith("stage"):
            tree["squeeze_excite"]["expand"]["bias"] += 100.0
    a, b = (
        jax.jit(lambda x, net=net: net.apply(variables, x, method="features")["top"])(images)
        for net in (coarse, coarse.copy(output_stride=output_stride))
    )
    assert b.shape[1:3] == (64 // output_stride, 96 // output_stride)
    step = 32 // output_stride
    np.testing.assert_allclose(b[:, ::step, ::step], a, atol=1e-5 * float(jnp.abs(a).max()))


def test_compound_scaling():
    b0, b4 = compound_scale(0), compound_scale(3.5)
    assert (b0.width_coefficient, b0.depth_coefficient, b0.image_size) == (1.0, 1.0, 224)
    # The published B4 is rounded from this: 1.4, 1.8, 380.
    assert b4.width_coefficient == pytest.approx(1.4, abs=0.01)
    assert b4.depth_coefficient == pytest.approx(1.9, abs=0.1)
    assert b4.image_size == pytest.approx(380, abs=20)
    alone = compound_scale(2, width=False, resolution=False)
    assert (alone.width_coefficient, alone.image_size) == (1.0, 224)
    assert alone.depth_coefficient == pytest.approx(1.44)


def test_version_2_starts_with_dense_convolutions():
    model = create_model("efficientnet_v2_s", num_classes=0)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    kernels = {name: tree for name, tree in variables["params"].items() if name.endswith("_0")}
    assert kernels["stage1_0"]["fused_conv"]["kernel"].shape == (3, 3, 24, 24)
    assert kernels["stage2_0"]["fused_conv"]["kernel"].shape == (3, 3, 24, 96)
    assert kernels["stage4_0"]["depthwise_conv"]["kernel"].shape == (3, 3, 1, 256)
    assert "squeeze_excite" not in kernels["stage3_0"]


SHORT = EfficientNet(
    num_classes=0, stages=(Stage(1, 3, 1, 8, 1), Stage(2, 5, 2, 8, 2)), stem_features=8, top_features=8
)


def test_padding_for_a_size_is_tensorflow_s_of_that_size():
    """On images of that size; on others the same pixels are added, so the stem of 29 pixels keeps 14 of them."""
    padded = SHORT.clone(padded_for=28)
    images = jax.random.normal(jax.random.key(0), (1, 28, 28, 3))
    variables = jax.jit(SHORT.init)(jax.random.key(1), images)

    def same(call, args, kwargs, context):
        conv = context.module
        if not isinstance(conv, TorchConv):
            return call(*args, **kwargs)
        strides = conv.strides if isinstance(conv.strides, tuple) else (conv.strides, conv.strides)
        return jax.lax.conv_general_dilated(
            *args,
            conv.variables["params"]["kernel"],
            strides,
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=conv.feature_group_count,
        )

    def features(net, images):
        return jax.jit(partial(net.apply, method="features"))(variables, images)

    with nn.intercept_methods(same):
        expected = features(SHORT.clone(padded_for=None), images)
    found = features(padded, images)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    plain = jax.jit(lambda v, x: SHORT.apply(v, x, method="features"))(variables, images)
    assert plain["stage2"].shape == found["stage2"].shape
    assert abs(plain["stage2"] - found["stage2"]).max() > 0.01
    other = jax.ShapeDtypeStruct((1, 29, 29, 3), jnp.float32)
    assert jax.eval_shape(partial(padded.apply, method="features"), variables, other)["stem"].shape[1] == 14
    with pytest.raises(ConfigError, match="padded_for is None or at least 1"):
        SHORT.clone(padded_for=0).init(jax.random.key(0), images)


def test_maps_of_single_blocks():
    net = SHORT.clone(block_maps=("stage2_0", "stage1_0"))
    images = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    variables = jax.jit(SHORT.init)(jax.random.key(1), images)
    names = []

    @partial(jax.jit, static_argnums=0)
    def features(net, images):
        maps = net.apply(variables, images, method="features")
        names.append(list(maps))
        return maps

    maps = features(net, images)
    assert names == [["stem", "stage1_0", "stage1", "stage2_0", "stage2", "top"]]
    np.testing.assert_array_equal(maps["stage1_0"], maps["stage1"])  # the stage's only block
    shorter = SHORT.clone(stages=(SHORT.stages[0], SHORT.stages[1]._replace(blocks=1)))
    np.testing.assert_allclose(maps["stage2_0"], features(shorter, images)["stage2"], rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="from stage1_0 to stage2_1"):
        SHORT.clone(block_maps=("stage2_2",)).init(jax.random.key(0), images)
