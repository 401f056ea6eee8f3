"""Batch normalization against Flax's; local response normalization against the paper's formula."""

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax import nn

X = jax.random.normal(jax.random.key(0), (8, 3)) * 3 + 1


@pytest.mark.usefixtures("stored_and_local")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_scale": False},
        {"use_bias": False, "use_fast_variance": False},
        {"axis": 0},
        {"axis": (0, -1)},
        {"dtype": jnp.bfloat16},
        {"force_float32_reductions": False},
        {"momentum": 0.5, "epsilon": 0.1, "scale_init": jax.nn.initializers.normal(1)},
    ],
    ids=lambda fields: " ".join(fields) or "defaults",
)
@pytest.mark.parametrize("masked", [False, True])
@jax.numpy_dtype_promotion("standard")  # Flax's promotes
def test_batch_norm_is_flaxs(fields, masked):
    assert (nn.BatchNorm().momentum, nn.BatchNorm().epsilon) == (0.99, 1e-5)
    mask = jnp.arange(8)[:, None] < 5 if masked and "axis" not in fields else None
    results = []
    for layer in (nn.BatchNorm(False, **fields), linen.BatchNorm(False, **fields)):
        variables = layer.init(jax.random.key(0), X)

        def loss(params, x, layer=layer, variables=variables):
            rest = {"batch_stats": variables["batch_stats"]}
            y, new = layer.apply({"params": params, **rest}, x, mask=mask, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, new)

        gradients, outputs = jax.grad(loss, (0, 1), has_aux=True)(variables.get("params", {}), X)
        evaluated = layer.clone(use_running_average=True).apply(variables, X)
        results.append((variables, gradients, outputs, evaluated))
    tolerance = 1e-2 if fields.get("dtype") else 1e-5
    chex.assert_trees_all_equal_shapes_and_dtypes(*results)
    chex.assert_trees_all_close(*results, rtol=tolerance, atol=tolerance)


def test_momentum_is_the_decay():
    norm = nn.BatchNorm(momentum=0.75)
    variables = norm.init(jax.random.key(0), X, use_running_average=True)
    _, new = norm.apply(variables, X, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.25 * X.mean(0), rtol=1e-5)


@pytest.mark.parametrize("field", [None, True])
def test_frozen_uses_and_keeps_its_statistics(field):
    variables = nn.BatchNorm().init(jax.random.key(0), X, use_running_average=True)
    layer = nn.BatchNorm(field, frozen=True)
    argument = False if field is None else None
    y, new = layer.apply(variables, X, use_running_average=argument, mutable=["batch_stats"])
    np.testing.assert_allclose(y, X / np.sqrt(1 + 1e-5), rtol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, new["batch_stats"], variables["batch_stats"]))


def test_frozen_and_not_running_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        nn.BatchNorm(False, frozen=True).init(jax.random.key(0), X)


@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_local_response_norm_is_the_papers(size, beta):
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, 3, 7))) * 50
    expected = np.empty_like(x)
    for c in range(7):
        neighbors = x[..., max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        expected[..., c] = x[..., c] / (2 + 1e-4 * (neighbors**2).sum(-1)) ** beta
    layer = nn.LocalResponseNorm(size, beta=beta)
    np.testing.assert_allclose(layer.apply({}, jnp.asarray(x)), expected, rtol=1e-5)
    assert layer.apply({}, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_local_response_norm_needs_a_channel():
    with pytest.raises(ValueError, match="at least 1"):
        nn.LocalResponseNorm(0).apply({}, X)


def test_local_response_norm_within_channels():
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    wanted = np.zeros(x.shape)
    for y in range(4):
        for column in range(5):
            around = x[:, max(0, y - 1) : y + 2, max(0, column - 1) : column + 2].astype(np.float64)
            energy = (around**2).sum(axis=(1, 2))
            wanted[:, y, column] = x[:, y, column] / (1 + 0.3 * energy) ** 0.75
    layer = nn.LocalResponseNorm(3, 0.3, 0.75, 1.0, within_channels=True)
    np.testing.assert_allclose(layer.apply({}, jnp.asarray(x)), wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="takes maps"):
        layer.apply({}, jnp.zeros((2, 3)))
