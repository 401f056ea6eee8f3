"""The four ways of upsampling: exact sizes, and their start as interpolation."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.nn import Upsample, Upsampling, resize
from cvjax.ops.checkerboard import checkerboard_energy
from cvjax.ops.upsample import upsample

WAYS = get_args(Upsampling)
METHODS = {"transposed": "transposed", "transposed_fixed": "transposed", "nearest": "nearest", "bilinear": "bilinear"}
X = np.random.default_rng(0).standard_normal((2, 5, 7, 3), np.float32)


@pytest.mark.parametrize("upsampling", WAYS)
@pytest.mark.parametrize("stride", [2, 3])
def test_any_size_and_offset_start_as_interpolation(upsampling, stride):
    layer = Upsample(3, stride, upsampling)
    variables = layer.init(jax.random.key(0), X)
    for size, offset in ((None, (0, 0)), ((9, 4), (0, 0)), ((11, 13), (-2, stride)), ((1, 1), (stride, 3))):
        y = layer.apply(variables, X, size, offset)
        assert y.shape == (2, *(size or (5 * stride, 7 * stride)), 3)
        np.testing.assert_allclose(y, upsample(X, stride, size, offset, METHODS[upsampling]), atol=1e-5)


@pytest.mark.parametrize("upsampling", ["transposed", "transposed_fixed", "bilinear"])
@pytest.mark.parametrize("stride", [2, 3, 32])
def test_the_inside_is_bilinear_interpolation(upsampling, stride):
    y, _ = Upsample(3, stride, upsampling).init_with_output(jax.random.key(0), X)
    inner = (slice(None), slice(stride, -stride), slice(stride, -stride))
    np.testing.assert_allclose(y[inner], resize(X, (5 * stride, 7 * stride))[inner], atol=1e-5)


@pytest.mark.parametrize("upsampling", WAYS)
def test_other_channels_start_as_interpolation_of_a_mix(upsampling):
    layer = Upsample(4, 2, upsampling, use_bias=True)
    y, variables = layer.init_with_output(jax.random.key(0), X)
    shapes = {name: jax.tree.map(jnp.shape, leaves) for name, leaves in variables["params"].items()}
    side = {"transposed": 4, "transposed_fixed": 1}.get(upsampling, 3)
    name = "project" if upsampling == "transposed_fixed" else "conv"
    assert shapes == {name: {"kernel": (side, side, 3, 4), "bias": (4,)}}
    kernel = variables["params"][name]["kernel"]
    # The profile of bilinear interpolation adds up to the stride along each axis.
    mix = kernel.sum((0, 1)) / (4 if upsampling == "transposed" else 1)
    np.testing.assert_allclose(y, upsample(X @ mix, 2, method=METHODS[upsampling]), atol=1e-5)


def test_what_is_learnt():
    params = {way: Upsample(3, 2, way).init(jax.random.key(0), X).get("params", {}) for way in WAYS}
    shapes = {way: [leaf.shape for leaf in jax.tree.leaves(tree)] for way, tree in params.items()}
    assert shapes == {
        "transposed": [(4, 4, 3, 3)],
        "transposed_fixed": [],
        "nearest": [(3, 3, 3, 3)],
        "bilinear": [(3, 3, 3, 3)],
    }


def test_a_learnt_kernel_is_turned_as_flax_has_it_and_may_be_smaller():
    layer = Upsample(2, 2, kernel_size=2, kernel_init=jax.nn.initializers.normal(1.0))
    y, variables = layer.init_with_output(jax.random.key(0), X)
    kernel = variables["params"]["conv"]["kernel"]
    expected = jnp.einsum("bhwc,ijcf->bhiwjf", X, kernel[::-1, ::-1]).reshape(2, 10, 14, 2)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("upsampling", WAYS)
def test_only_a_learnt_transposed_convolution_can_draw_checkerboards(upsampling):
    """Any weights, not those of the start; away from the border of a constant image."""
    layer, x = Upsample(8, 2, upsampling, kernel_init=jax.nn.initializers.normal(1.0)), jnp.ones((1, 12, 12, 3))
    y, _ = layer.init_with_output(jax.random.key(1), x)
    energy = checkerboard_energy(y[:, 4:-4, 4:-4], 2)
    assert energy.min() > 0.01 if upsampling == "transposed" else energy.max() < 1e-10


def test_computes_in_its_dtype_with_float32_parameters():
    for way in WAYS:
        y, variables = jax.eval_shape(
            lambda x, way=way: Upsample(4, 2, way, dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x), X
        )
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="transposed_fixed, nearest, bilinear, not 'cubic'"):
        Upsample(3, 2, "cubic").init(jax.random.key(0), X)
    with pytest.raises(ValueError, match="at least 1"):
        Upsample(3, 2).init(jax.random.key(0), X, (0, 4))
