"""Squeeze-and-excitation."""

import jax
import jax.numpy as jnp
import numpy as np

from cvjax import nn


def test_scales_channels_by_the_attention_that_can_be_read_out():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 32))
    layer = nn.SqueezeExcite(reduction=8)
    variables = {"params": layer.init(jax.random.key(1), x)["params"]}
    assert variables["params"]["reduce"]["kernel"].shape == (1, 1, 32, 4)
    y, state = layer.apply(variables, x, mutable=["intermediates"])
    (attention,) = state["intermediates"]["attention"]
    assert attention.shape == (2, 32)
    np.testing.assert_allclose(y, x * attention[:, None, None], rtol=1e-6)

    p = jax.tree.map(np.asarray, variables["params"])
    hidden = np.maximum(np.asarray(x).mean((1, 2)) @ p["reduce"]["kernel"][0, 0] + p["reduce"]["bias"], 0)
    logits = hidden @ p["expand"]["kernel"][0, 0] + p["expand"]["bias"]
    np.testing.assert_allclose(attention, 1 / (1 + np.exp(-logits)), rtol=1e-4)
    # Nothing is kept that was not asked for.
    np.testing.assert_array_equal(layer.apply(variables, x), y)


def test_narrow_maps_and_other_gates():
    x = jnp.ones((1, 3, 3, 4), jnp.bfloat16)
    layer = nn.SqueezeExcite(gate=jax.nn.hard_sigmoid, dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert variables["params"]["reduce"]["kernel"].shape == (1, 1, 4, 1)
    with jax.numpy_dtype_promotion("standard"):  # without a dtype Flax promotes the maps to the parameters'
        variables = nn.SqueezeExcite(hidden=3).init(jax.random.key(0), x)
    assert variables["params"]["expand"]["kernel"].shape == (1, 1, 3, 4)
