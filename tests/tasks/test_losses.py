"""Losses against optax and against sets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from cvjax.tasks.losses import cross_entropy, soft_jaccard

LABELS = np.random.default_rng(0).integers(0, 3, (2, 6, 5)).astype(np.uint8)
LOGITS = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 5, 3)), jnp.float32)


def test_cross_entropy_is_optaxs_with_its_gradient():
    ours = jax.value_and_grad(lambda x: cross_entropy(x, LABELS).sum())(LOGITS)
    theirs = jax.value_and_grad(lambda x: optax.softmax_cross_entropy_with_integer_labels(x, LABELS).sum())(LOGITS)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)


def test_jaccard_of_certain_predictions_is_that_of_sets():
    """Certain logits make the soft sets hard: intersection over union of the classes present, 1 added to both."""
    guesses = np.random.default_rng(2).integers(0, 3, LABELS.shape)
    labels = LABELS.copy()
    labels[1][labels[1] == 2] = 0  # absent from the second image, so not in its mean
    counted = np.random.default_rng(3).random(labels.shape) < 0.7
    loss = soft_jaccard(jnp.asarray(np.eye(3)[guesses] * 100, jnp.float32), labels, counted)
    for image in range(2):
        seen = counted[image]
        missed = []
        for c in np.unique(labels[image][seen]):
            ours, truth = (guesses[image] == c) & seen, (labels[image] == c) & seen
            missed.append(1 - ((ours & truth).sum() + 1) / ((ours | truth).sum() + 1))
        assert loss[image] == pytest.approx(np.mean(missed), rel=1e-5)


def test_jaccard_is_zero_when_right_or_unlabelled_and_has_finite_gradients():
    right = jnp.asarray(np.eye(3)[LABELS] * 100, jnp.float32)
    counted = jnp.ones(LABELS.shape).at[1].set(0)
    np.testing.assert_allclose(soft_jaccard(right, LABELS, counted), 0, atol=1e-6)
    ignored = np.full_like(LABELS, 255)
    gradient = jax.grad(lambda x: soft_jaccard(x, ignored, jnp.zeros(LABELS.shape)).sum())(LOGITS)
    np.testing.assert_array_equal(gradient, 0)


def test_jaccard_gradient_is_that_of_finite_differences():
    counted = jnp.ones(LABELS.shape)
    with jax.enable_x64():
        check_grads(lambda x: soft_jaccard(x, LABELS, counted), (LOGITS,), 1, modes=["rev"], atol=5e-2, rtol=5e-2)
