"""The CPU lowerings equal XLA's own convolution, and programs for other platforms hold the latter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export, lax

from cvjax.ops.conv import conv2d, max_pool


def _stock(x, kernel, strides, padding, dilation, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@given(
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 3), (2, 2)]),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    groups=st.sampled_from([(4, 1, 6), (4, 4, 4), (4, 4, 8), (6, 2, 4)]),
)
@settings(max_examples=15, deadline=None)
def test_values_and_gradients_equal_stock(size, kernel, strides, dilation, pads, groups):
    channels, count, features = groups
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, *size, channels)), jnp.float32)
    k = jnp.asarray(rng.standard_normal((*kernel, channels // count, features)), jnp.float32)
    padding = ((pads[0], pads[1]), (pads[1], pads[0]))

    def ours(x, k):
        return conv2d(x, k, strides=strides, padding=padding, dilation=dilation, groups=count)

    def stock(x, k):
        return _stock(x, k, strides, padding, dilation, count)

    y, pull = jax.vjp(jax.jit(ours), x, k)
    expected, expected_pull = jax.vjp(jax.jit(stock), x, k)
    np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
    cotangent = jnp.asarray(rng.standard_normal(y.shape), jnp.float32)
    for a, b in zip(pull(cotangent), expected_pull(cotangent)):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(jnp.abs(b).max())))


@pytest.mark.parametrize("side", [(5, 8), (12, 13)])
@pytest.mark.parametrize("window", [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_max_pool_equals_reduce_window(side, window):
    height, width = side
    size, stride, padding = window
    x = jax.random.normal(jax.random.key(0), (2, height, width, 3)) - 5.0  # zero padding would win

    def stock(x):
        pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), pads)

    y, pull = jax.vjp(jax.jit(lambda x: max_pool(x, size, stride, padding)), x)
    expected, expected_pull = jax.vjp(jax.jit(stock), x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(pull(expected)[0], expected_pull(expected)[0], atol=1e-5)


def test_max_pool_refuses_padding_without_pixels():
    with pytest.raises(ValueError, match="more than half"):
        max_pool(jnp.zeros((1, 4, 4, 1)), 2, 2, padding=2)


CASES = {
    "pointwise": ((1, 1, 8, 16), 1),
    "depthwise": ((3, 3, 1, 8), 8),
    "grouped": ((3, 3, 4, 8), 2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_exported_programs_hold_the_lowering_of_their_platform(case, platform):
    shape, groups = CASES[case]

    def loss(x, k):
        return (conv2d(x, k, groups=groups) ** 2).sum()

    x = jax.ShapeDtypeStruct((2, 8, 8, 8), jnp.float32)
    k = jax.ShapeDtypeStruct(shape, jnp.float32)
    step = jax.jit(jax.grad(loss, argnums=(0, 1)))
    text = export.export(step, platforms=[platform])(x, k).mlir_module()
    assert ("stablehlo.convolution" in text) == (platform != "cpu")
    assert ("stablehlo.dot_general" in text) == (platform == "cpu" and case != "depthwise")


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_exported_pooling(platform):
    step = jax.jit(jax.grad(lambda x: max_pool(x, 3, 2, 1).sum()))
    text = export.export(step, platforms=[platform])(
        jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)
    ).mlir_module()
    assert ("stablehlo.select_and_scatter" in text) == (platform != "cpu")
