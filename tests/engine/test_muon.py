"""Muon against singular value decomposition and against optax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib._muon import orthogonalize_via_newton_schulz

from cvjax.engine.muon import muon, orthogonalize


@pytest.mark.parametrize("shape", [(432, 48), (16, 96), (40, 40), (1, 7)])
def test_orthogonalize_keeps_singular_vectors_and_brings_values_near_one(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ np.asarray(orthogonalize(jnp.asarray(matrix)), np.float64) @ vt.T
    np.testing.assert_allclose(inner - np.diag(np.diag(inner)), 0, atol=2e-4)
    if min(shape) == 40:  # a square random matrix has singular values down to nothing
        assert np.median(np.diag(inner)) > 0.6
    else:
        assert np.diag(inner).min() > 0.6
    assert np.diag(inner).max() < 1.3


def test_orthogonalize_equals_optax_iterating_on_the_matrix_itself():
    """Spread singular values, six decades of them, as gradients have."""
    rng = np.random.default_rng(1)
    u, _, vt = np.linalg.svd(rng.normal(size=(216, 24)), full_matrices=False)
    matrix = jnp.asarray(u * np.logspace(0, -6, 24) @ vt, jnp.float32)
    coefficients = jnp.asarray((3.4445, -4.7750, 2.0315))
    expected = orthogonalize_via_newton_schulz(matrix, coefficients)
    np.testing.assert_allclose(orthogonalize(matrix), expected, atol=5e-3)


def test_zeros_and_bfloat16():
    assert not np.any(orthogonalize(jnp.zeros((9, 3))))
    assert orthogonalize(jnp.ones((9, 3), jnp.bfloat16)).dtype == jnp.bfloat16


def test_first_step_equals_optax_muon():
    """Kernels, and vectors and depthwise kernels, which Adam moves."""
    shapes = {"kernel": (3, 3, 8, 16), "bias": (16,), "depthwise": (3, 3, 1, 8)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    grads = {name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items())}
    axes = {"kernel": optax.contrib.MuonDimensionNumbers((0, 1, 2), 3), "bias": None, "depthwise": None}
    theirs = optax.contrib.muon(
        -1.0, beta=0.9, adam_learning_rate=-0.1, muon_weight_dimension_numbers=axes, consistent_rms=0.2
    )
    ours = muon(0.9)
    got, _ = ours.update(grads, ours.init(grads), grads)
    with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to the integer count of steps
        want, _ = theirs.update(grads, theirs.init(grads), grads)
    for name in shapes:
        np.testing.assert_allclose(got[name], want[name], rtol=2e-3, atol=2e-3, err_msg=name)
