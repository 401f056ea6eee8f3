"""The deformable layer: it starts as the plain convolution, and learns to look elsewhere."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax import nn
from cvjax.ops.deform_conv import deform_conv2d

_X = jax.random.normal(jax.random.key(0), (2, 9, 8, 4))


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2, "padding": "SAME", "offset_groups": 2},
        {"kernel_dilation": 2, "feature_group_count": 2, "padding": ((2, 1), (0, 3)), "use_bias": False},
    ],
)
def test_starts_as_the_plain_convolution(modulated, options):
    layer = nn.DeformConv(6, (3, 3), modulated=modulated, **options)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(1), _X)
    plain = {k: v for k, v in options.items() if k != "offset_groups"}
    params = {k: v for k, v in variables["params"].items() if k != "offset"}
    expected = linen.Conv(6, (3, 3), **{"padding": 1, **plain}).apply({"params": params}, _X)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    channels = options.get("offset_groups", 1) * 9 * (3 if modulated else 2)
    offset = variables["params"]["offset"]
    assert jax.tree.map(jnp.shape, offset) == {"kernel": (3, 3, 4, channels), "bias": (channels,)}
    assert not any(np.any(v) for v in offset.values())


def test_predicted_offsets_and_factors_reach_the_operator():
    layer = nn.DeformConv(6, 3, modulated=True, offset_groups=2)
    params = layer.init(jax.random.key(1), _X)["params"]
    params["offset"] = jax.tree.map(lambda v: 0.3 * jax.random.normal(jax.random.key(2), v.shape), params["offset"])
    geometry = linen.Conv(54, (3, 3), padding=1).apply({"params": params["offset"]}, _X)
    mask = 2 / (1 + jnp.exp(-geometry[..., 36:]))
    expected = deform_conv2d(_X, params["kernel"], geometry[..., :36], mask, padding=((1, 1), (1, 1)))
    bias = params["bias"][None, None, None]
    np.testing.assert_allclose(layer.apply({"params": params}, _X), expected + bias, atol=1e-4)


@pytest.mark.parametrize("modulated", [False, True])
def test_every_parameter_gets_a_gradient(modulated):
    layer = nn.DeformConv(6, 3, modulated=modulated)
    variables = layer.init(jax.random.key(1), _X)
    gradients = jax.jit(jax.grad(lambda v: (layer.apply(v, _X) ** 2).mean()))(variables)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(gradients))


def test_learns_a_shift():
    """A 1x1 kernel that must reproduce the pixel to the right can do so by its offset alone."""
    x = jax.image.resize(jax.random.normal(jax.random.key(3), (1, 4, 4, 1)), (1, 16, 16, 1), "cubic")
    target = jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, 1:]
    layer = nn.DeformConv(1, 1, use_bias=False, kernel_init=linen.initializers.ones)
    params = layer.init(jax.random.key(1), x)["params"]

    def loss(offset):
        y = layer.apply({"params": {**params, "offset": offset}}, x)
        return jnp.mean((y - target)[:, :, :-1] ** 2)

    offset = params["offset"]
    step = jax.jit(lambda offset: jax.tree.map(lambda p, g: p - 0.5 * g, offset, jax.grad(loss)(offset)))
    for _ in range(60):
        offset = step(offset)
    np.testing.assert_allclose(offset["bias"], [0, 1], atol=0.15)
    assert loss(offset) < 0.05 * loss(params["offset"])


def test_computes_in_its_dtype():
    layer = nn.DeformConv(6, 3, modulated=True, dtype=jnp.bfloat16)
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(1), _X)
    assert y.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    full = nn.DeformConv(6, 3, modulated=True).apply(variables, _X)
    np.testing.assert_allclose(y.astype(jnp.float32), full, atol=0.05)


def test_errors_name_the_fix():
    with pytest.raises(ValueError, match="3 offset groups"):
        nn.DeformConv(6, 3, offset_groups=3).init(jax.random.key(0), _X)
    with pytest.raises(ValueError, match="must divide"):
        nn.DeformConv(5, 3, feature_group_count=2).init(jax.random.key(0), _X)
