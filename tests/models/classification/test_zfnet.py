"""ZFNet with the options of its releases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cvjax.errors import ConfigError
from cvjax.models import create_model

NARROW = {"num_classes": 2, "channels": (3, 4, 4, 4, 4), "hidden": 4}
LRN = {"lrn": (3, 5e-5 / 9, 0.75, 1.0), "lrn_within": True, "ceil_mode": True}
SPP = LRN | {"paddings": (1, 0), "pool_padding": 0}


def _maps(shape, **options):
    model = create_model("zfnet_spp", **NARROW, **options)
    maps, _ = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), jnp.zeros(shape), method="features"))
    return {name: found.shape[1:3] for name, found in maps.items()}


@pytest.mark.parametrize("options", [SPP | {"pyramid_windows": ((3, 2), (5, 4), (7, 7), (13, 13))}, LRN])
def test_options_leave_the_parameters(options):
    made = [
        jax.eval_shape(create_model("zfnet_spp", **NARROW, **more).init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
        for more in ({}, options)
    ]
    assert jax.tree.map(lambda leaf: leaf.shape, made[0]) == jax.tree.map(lambda leaf: leaf.shape, made[1])


def test_sides_are_those_of_the_releases():
    assert _maps((1, 224, 224, 3))["conv5"] == (14, 14)
    assert _maps((1, 224, 224, 3), **SPP)["conv5"] == (13, 13)
    assert _maps((1, 112, 144, 3))["conv5"] == (7, 9)
    assert _maps((1, 112, 144, 3), **LRN)["conv5"] == (8, 10)


@pytest.mark.parametrize("options", [LRN, SPP])
def test_second_convolution_sees_what_is_normalized_and_pooled(options):
    options = options | {"lrn": (3, 0.2, 0.75, 1.0)}  # so that it matters
    model = create_model("zfnet_spp", **NARROW, **options)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 64, 78, 3)), jnp.float32)
    variables = model.init(jax.random.key(0), images)
    maps = model.apply(variables, images, method="features")
    x, pad = np.asarray(maps["conv1"][0]), options.get("pool_padding", 1)
    squares = np.pad(x.astype(np.float64) ** 2, ((1, 1), (1, 1), (0, 0)))
    energy = sum(squares[i : i + x.shape[0], j : j + x.shape[1]] for i in range(3) for j in range(3))
    x = x / (1 + 0.2 * energy) ** 0.75
    for axis in (0, 1):
        length = x.shape[axis]
        starts = [s for s in range(-pad, length, 2) if s == -pad or s - 2 + 3 < length + pad]
        picked = [np.take(x, range(max(s, 0), min(s + 3, length)), axis).max(axis) for s in starts]
        x = np.stack(picked, axis)
    side = options.get("paddings", (3, 2))[1]
    params = variables["params"]["conv_1"]
    padded = jnp.asarray(x[None], jnp.float32)
    x = lax.conv_general_dilated(
        padded, params["kernel"], (2, 2), [(side, side)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    wanted = jax.nn.relu(x + params["bias"].reshape(1, 1, 1, -1))
    np.testing.assert_allclose(maps["conv2"], wanted, atol=1e-5)


def test_dense_layers_of_two_widths():
    model = create_model("zfnet_spp", **NARROW | {"hidden": (6, 5)})
    made = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]["head"]
    assert [made[name]["kernel"].shape for name in ("fc6", "fc7", "head")] == [(200, 6), (6, 5), (5, 2)]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pyramid_windows": ((3, 2),)}, "for each grid"),
        ({"paddings": (-1, 0)}, "paddings are 0 or more"),
        ({"pool_padding": 2}, "pool_padding is 0 or 1"),
    ],
)
def test_values_that_cannot_be(options, match):
    with pytest.raises(ConfigError, match=match):
        _maps((1, 224, 224, 3), **options)
