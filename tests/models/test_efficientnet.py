"""EfficientNet: published cost, features, rounding of channels, and blocks dropped in training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.models import create_model, list_models, model_info
from cvjax.models.classification.efficientnet import EfficientNet, MBConv, round_channels
from cvjax.nn import BatchNorm, Conv

TINY = EfficientNet(num_classes=5, width_coefficient=0.25, depth_coefficient=0.5)


def _multiply_adds(model, size):
    """Of convolutions and dense layers; nothing is computed."""
    total = 0

    def count(call, arguments, options, context):
        nonlocal total
        output = call(*arguments, **options)
        if isinstance(context.module, (Conv, nn.Dense)) and context.method_name == "__call__":
            kernel = context.module.get_variable("params", "kernel")
            total += output.size * int(np.prod(kernel.shape[:-1]))
        return output

    with nn.intercept_methods(count):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    return total


def _slow_if_large(name):
    return pytest.param(name, marks=[pytest.mark.slow] if model_info(name).params > 43e6 else [])


@pytest.mark.parametrize("name", [_slow_if_large(name) for name in list_models("classification")])
def test_published_multiply_adds(name):
    info = model_info(name)
    counted = _multiply_adds(create_model(name, num_classes=info.params_classes), info.image_size)
    assert counted / 1e9 == pytest.approx(info.gmacs, rel=0.015)


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
    block = MBConv(8, 2, 3, 1, 0.25, norm=lambda **options: BatchNorm(frozen=True, **options))
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
