"""Convolution layers against their Flax counterparts."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cvjax import nn
from cvjax.nn.initializers import bilinear


def _assert_same(ours, theirs, x, train=False):
    """Same parameters (names, shapes, values for a seed), same outputs and gradients."""
    variables, mine = (layer.init(jax.random.key(1), x) for layer in (theirs, ours))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, mine)
    jax.tree.map(np.testing.assert_array_equal, variables, mine)

    def run(layer):
        def loss(variables, x):
            y = layer.apply(variables, x)
            return jnp.sin(y).sum(), y

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables, x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-5), run(ours), run(theirs))


X = jax.random.normal(jax.random.key(0), (2, 9, 12, 4))
CONVS = {
    "defaults": (X, (8, (3, 3)), {}),
    "strided, valid": (X, (8, (3, 3)), {"strides": 2, "padding": "VALID"}),
    "pixels": (X, (8, (3, 3)), {"padding": 2, "kernel_dilation": 2, "use_bias": False}),
    "pairs, groups": (X, (8, (3, 3)), {"padding": ((0, 1), (2, 0)), "feature_group_count": 4}),
    "reflect": (X, (8, (3, 3)), {"padding": "REFLECT"}),
    "circular": (X, (8, (1, 3)), {"padding": "CIRCULAR"}),
    "input dilation": (X, (8, (3, 3)), {"input_dilation": 2, "padding": 1}),
    "mask": (X, (8, (1, 1)), {"mask": jnp.eye(4, 8)[None, None]}),
    "no batch axis": (X[0], (8, (3, 3)), {}),
    "two batch axes": (X[None], (8, (3, 3)), {}),
    "rows": (X[0], (8, (3,)), {"padding": "CAUSAL"}),
    "a number is one axis": (X[0], (8, 3), {}),
    "initializer": (X, (4, (3, 3)), {"kernel_init": nn.he_normal(), "dtype": jnp.float32}),
}


@pytest.mark.parametrize("case", CONVS)
def test_conv_is_flaxs(case):
    x, args, options = CONVS[case]
    _assert_same(nn.Conv(*args, **options), linen.Conv(*args, **options), x)


TRANSPOSED = {
    "defaults": (X, (8, (3, 3)), {}),
    "strided": (X, (8, (4, 4)), {"strides": (2, 2)}),
    "valid": (X, (8, (2, 3)), {"strides": (3, 2), "padding": "VALID", "use_bias": False}),
    "pairs": (X, (8, (4, 4)), {"strides": (2, 2), "padding": ((2, 2), (1, 3))}),
    "transposed kernel": (X, (8, (3, 4)), {"strides": (2, 2), "transpose_kernel": True}),
    "dilation": (X, (8, (3, 3)), {"kernel_dilation": (2, 1)}),
    "circular": (X, (8, (3, 3)), {"strides": (2, 2), "padding": "CIRCULAR"}),
    "mask": (X, (8, (1, 1)), {"mask": jnp.eye(4, 8)[None, None]}),
    "no batch axis": (X[0], (8, (3, 3)), {}),
    "rows": (X[0], (8, (3,)), {"strides": (2,)}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose_is_flaxs(case):
    x, args, options = TRANSPOSED[case]
    _assert_same(nn.ConvTranspose(*args, **options), linen.ConvTranspose(*args, **options), x)


def test_layers_reach_our_lowering():
    x = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)
    for layer in (nn.Conv(8, (1, 1)), nn.Conv(4, (3, 3), feature_group_count=4), nn.TorchConv(8, 1)):
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        text = export.export(jax.jit(layer.apply), platforms=["cpu"])(variables, x).mlir_module()
        assert "stablehlo.convolution" not in text
    layer = nn.ConvTranspose(4, (8, 8), (4, 4))
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    text = export.export(jax.jit(layer.apply), platforms=["cpu"])(variables, x).mlir_module()
    assert "lhs_dilate = [4, 4]" not in text


def test_torch_conv_pads_as_torch_and_computes_in_its_dtype():
    x = jnp.ones((1, 7, 8, 3))
    layer = nn.TorchConv(4, 3, strides=2, kernel_dilation=2, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert y.shape == (1, (7 + 4 - 5) // 2 + 1, (8 + 4 - 5) // 2 + 1, 4)
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].dtype == jnp.float32
    explicit = linen.Conv(4, (3, 3), 2, ((2, 2), (2, 2)), kernel_dilation=2)
    np.testing.assert_allclose(y.astype(jnp.float32), explicit.apply(variables, x), rtol=2e-2, atol=2e-2)


def test_separable_conv_keeps_the_size_and_has_few_parameters():
    x = jnp.ones((2, 9, 7, 6))
    y, variables = nn.SeparableConv(10, 3, dilation=4).init_with_output(jax.random.key(0), x)
    assert y.shape == (2, 9, 7, 10)
    kernels = {k: v["conv"]["kernel"].shape for k, v in variables["params"].items()}
    assert kernels == {"depthwise": (3, 3, 1, 6), "pointwise": (1, 1, 6, 10)}
    assert nn.SeparableConv(10, strides=2).apply(variables, x).shape == (2, 5, 4, 10)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_resize_conv_resizes_then_convolves(method):
    layer = nn.ResizeConv(5, scale=3, method=method)
    y, variables = layer.init_with_output(jax.random.key(0), X)
    assert y.shape == (2, 27, 36, 5)
    kernel = variables["params"]["conv"]
    expected = linen.Conv(5, (3, 3)).apply({"params": kernel}, nn.resize(X, (27, 36), method))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def _interpolated(n, stride):
    """Linear interpolation of a ramp at the centers of `stride` times as many pixels."""
    return (np.arange(n * stride) + 0.5) / stride - 0.5


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_bilinear_start_interpolates(stride):
    """FCN's upsampling of a ramp is the ramp, away from the border, and channels stay apart."""
    size = 2 * stride - stride % 2
    low = (size - stride) // 2
    pad = (size - 1 - low, size - 1 - (size - stride - low))
    layer = nn.ConvTranspose(2, (size, size), (stride, stride), (pad, pad), use_bias=False, kernel_init=bilinear())
    ramp = jnp.arange(6.0)
    x = jnp.stack(jnp.broadcast_arrays(ramp[:, None], 10 * ramp[None]), -1)[None]
    y, _ = layer.init_with_output(jax.random.key(0), x)
    assert y.shape == (1, 6 * stride, 6 * stride, 2)
    inner = slice(stride, -stride)
    expected = _interpolated(6, stride)[inner]
    np.testing.assert_allclose(y[0, inner, 2 * stride, 0], expected, atol=1e-5)
    np.testing.assert_allclose(y[0, 2 * stride, inner, 1], 10 * expected, atol=1e-4)
    with pytest.raises(ValueError, match="keeps the channels"):
        bilinear()(jax.random.key(0), (4, 4, 2, 3))
