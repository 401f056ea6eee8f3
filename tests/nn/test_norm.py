"""Batch normalisation against Flax's; local response normalisation against the paper's formula."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax import nn

X = jax.random.normal(jax.random.key(0), (8, 3)) * 3 + 1


def test_batch_norm_is_flaxs():
    variables = []
    for layer in (nn.BatchNorm, linen.BatchNorm):
        assert (layer().momentum, layer().epsilon) == (0.99, 1e-5)
        variables.append(layer(False).init(jax.random.key(0), X))
    jax.tree.map(np.testing.assert_array_equal, *variables)
    for mask in (None, jnp.arange(8)[:, None] < 5):
        ours, theirs = (
            layer().apply(variables[0], X, use_running_average=False, mask=mask, mutable=["batch_stats"])
            for layer in (nn.BatchNorm, linen.BatchNorm)
        )
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


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
        neighbours = x[..., max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        expected[..., c] = x[..., c] / (2 + 1e-4 * (neighbours**2).sum(-1)) ** beta
    layer = nn.LocalResponseNorm(size, beta=beta)
    np.testing.assert_allclose(layer.apply({}, jnp.asarray(x)), expected, rtol=1e-5)
    assert layer.apply({}, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_local_response_norm_needs_a_channel():
    with pytest.raises(ValueError, match="at least 1"):
        nn.LocalResponseNorm(0).apply({}, X)
