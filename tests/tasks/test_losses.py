"""Losses against optax, against sets, and against loops written after the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from cvjax.tasks.losses import (
    cross_entropy,
    focal_loss,
    lovasz_softmax,
    ohem_pixels,
    soft_dice,
    soft_jaccard,
)

LABELS = np.random.default_rng(0).integers(0, 3, (2, 6, 5)).astype(np.uint8)
COUNTED = np.random.default_rng(4).random(LABELS.shape) < 0.7
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


def test_jaccard_is_zero_when_right_or_unlabeled_and_has_finite_gradients():
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


def softmax(logits):
    """In double precision."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.asarray(logits, np.float64).max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def test_dice_is_that_of_a_loop():
    got = jax.jit(soft_dice)(LOGITS, LABELS, COUNTED)
    for image in range(2):
        seen = COUNTED[image]
        p, t = softmax(LOGITS)[image][seen], LABELS[image][seen]
        each = [
            1 - (2 * p[t == c, c].sum() + 1) / (p[:, c].sum() + (t == c).sum() + 1) for c in range(3) if (t == c).any()
        ]
        assert got[image] == pytest.approx(np.mean(each), rel=1e-5)


def lovasz_by_hand(probabilities, labels):
    """The mean over present classes; each the sum of sorted errors times what the Jaccard loss of sets grows by."""
    losses = []
    for c in np.unique(labels):
        truth = labels == c
        errors = np.where(truth, 1 - probabilities[:, c], probabilities[:, c])
        wrong, before, loss = np.zeros(len(labels), bool), 0.0, 0.0
        for i in np.argsort(-errors):
            wrong[i] = True
            guessed = truth ^ wrong
            jaccard = 1 - (truth & guessed).sum() / (truth | guessed).sum()
            loss += errors[i] * (jaccard - before)
            before = jaccard
        losses.append(loss)
    return np.mean(losses)


def test_lovasz_is_the_extension_of_the_jaccard_loss_of_sets():
    labels = LABELS.copy()
    labels[1][labels[1] == 2] = 0  # absent from the second image, so not in its mean
    got = jax.jit(lovasz_softmax)(LOGITS, np.where(COUNTED, labels, 255), COUNTED)
    for image in range(2):
        seen = COUNTED[image]
        expected = lovasz_by_hand(softmax(LOGITS)[image][seen], labels[image][seen])
        assert got[image] == pytest.approx(expected, rel=1e-5)


def test_lovasz_gradient_is_that_of_finite_differences():
    with jax.enable_x64():
        loss = jax.jit(lambda x: lovasz_softmax(x, LABELS, COUNTED))
        check_grads(loss, (LOGITS,), 1, modes=["rev"], atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("loss", [soft_dice, lovasz_softmax])
def test_region_losses_are_zero_when_right_or_unlabeled_with_finite_gradients(loss):
    right = jnp.asarray(np.eye(3)[LABELS] * 100, jnp.float32)
    counted = jnp.ones(LABELS.shape).at[1].set(0)
    value, gradient = jax.jit(jax.value_and_grad(lambda x, n: loss(x, LABELS, n).sum()))(right, counted)
    assert value == pytest.approx(0, abs=1e-6)
    assert np.isfinite(gradient).all()
    ignored = np.full_like(LABELS, 255)
    nothing = lambda x: loss(x, ignored, jnp.zeros(LABELS.shape)).sum()  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(nothing))(LOGITS)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("loss", [soft_dice, lovasz_softmax])
def test_region_losses_look_at_nothing_that_does_not_count(loss):
    elsewhere = jnp.where(COUNTED[..., None], LOGITS, -LOGITS * 3)
    labels = np.where(COUNTED, LABELS, 2 - LABELS)
    loss = jax.jit(loss)
    np.testing.assert_array_equal(loss(elsewhere, labels, COUNTED), loss(LOGITS, LABELS, COUNTED))


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (0.5, 0.25), (0.0, 0.75)])
def test_focal_is_the_papers_formula(gamma, alpha):
    p = np.take_along_axis(softmax(LOGITS), LABELS[..., None].astype(int), -1)[..., 0]
    factor = 1.0 if alpha is None else np.where(LABELS == 0, 1 - alpha, alpha)
    np.testing.assert_allclose(
        focal_loss(LOGITS, LABELS, gamma=gamma, alpha=alpha), -factor * (1 - p) ** gamma * np.log(p), rtol=1e-5
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_has_finite_gradients_wherever_the_net_stands(gamma):
    logits = jnp.concatenate([LOGITS * 100, jnp.asarray(np.eye(3)[LABELS] * 1e4, jnp.float32), LOGITS - 200])
    labels = np.concatenate([LABELS, LABELS, np.full_like(LABELS, 255)])
    value, gradient = jax.jit(jax.value_and_grad(lambda x: focal_loss(x, labels, gamma=gamma).sum()))(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"fraction": 0.25}, [[3, 4], [], [9]]),  # of 8, of none, of 1
        ({"fraction": 0.25, "minimum": 3}, [[2, 3, 4], [], [9]]),
        ({"fraction": 1.0}, [[0, 1, 2, 3, 4, 5, 6, 7], [], [9]]),
        ({"threshold": 5.5}, [[2, 3, 4], [], []]),
        ({"threshold": 7.5, "minimum": 2}, [[3, 4], [], [9]]),
        ({"threshold": 100.0}, [[], [], []]),
    ],
)
def test_ohem_are_those_of_largest_loss_in_their_own_image(options, expected):
    losses = np.zeros((3, 2, 5), np.float32)
    losses[0] = [[1, 2, 6, 8, 7], [3, 0.5, 4, 90, 99]]
    losses[2] = [[50, 60, 70, 80, 90], [1, 2, 3, 4, 5]]
    counted = np.zeros((3, 2, 5), np.float32)
    counted[0].flat[:8] = 1
    counted[2].flat[9] = 0.5
    kept = jax.jit(lambda *x: ohem_pixels(*x, **options))(losses, counted)
    assert [np.flatnonzero(image).tolist() for image in np.asarray(kept)] == expected
