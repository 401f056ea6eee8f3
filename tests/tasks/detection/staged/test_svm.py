"""SVMs and ridge regressions against what they minimize, and hard negatives."""

import numpy as np
import pytest
from scipy import optimize

from cvjax.errors import DataError
from cvjax.tasks.detection.staged.ridge import fit_ridge
from cvjax.tasks.detection.staged.svm import Regions, SVMConfig, fit_svm, fit_svms, mine_hard_negatives


def _examples(seed, positives=40, negatives=160, width=12):
    random = np.random.default_rng(seed)
    direction = random.normal(size=width)
    return (
        (random.normal(size=(positives, width)) + 0.7 * direction).astype(np.float32),
        (random.normal(size=(negatives, width)) - 0.3 * direction).astype(np.float32),
    )


def _objective(weights, features, signs, costs, scale):
    """What an SVM minimizes, and its gradient."""
    inputs = np.concatenate([features, np.full((len(features), 1), scale)], axis=1).astype(np.float64)
    short = np.maximum(0, 1 - signs * (inputs @ weights))
    return 0.5 * weights @ weights + costs @ short**2, weights - 2 * (costs * signs * short) @ inputs


@pytest.mark.parametrize("cost", [0.001, 0.1, 10.0])
def test_svms_minimize_the_squared_hinge(cost):
    positives, negatives = _examples(0)
    config = SVMConfig(cost=cost, positive_weight=2.0, intercept_scale=10.0)
    features, signs = np.concatenate([positives, negatives]), np.repeat([1.0, -1.0], [40, 160])
    given = features, signs, cost * np.where(signs > 0, 2.0, 1.0), 10.0
    best = optimize.minimize(_objective, np.zeros(13), given, jac=True, options={"gtol": 1e-9})
    found = fit_svm(positives, negatives, config)
    np.testing.assert_allclose(_objective(found, *given)[0], best.fun, rtol=1e-6)
    np.testing.assert_allclose(found, best.x, atol=1e-3 * np.abs(best.x).max())


def test_hard_negatives_overlap_little_and_score_much():
    scores = np.asarray([[0.5, -3.0], [-0.9, 2.0], [-1.5, 0.0]])
    overlaps = np.asarray([[0.2, 0.0], [0.3, 0.29], [0.0, 0.9]])
    expected = [[True, False], [False, True], [False, False]]
    np.testing.assert_array_equal(mine_hard_negatives(scores, overlaps), expected)


def _images(count=12, per_image=50, width=8):
    """Class 0 and class 1 each along an axis of their own; class 2 has no object."""
    random = np.random.default_rng(3)
    rows = []
    for _ in range(count):
        features = random.normal(size=(per_image, width)).astype(np.float32)
        labels = np.full(per_image, -1)
        labels[:2] = 0, 1
        features[0, 0] += 4
        features[1, 1] += 4
        overlaps = np.zeros((per_image, 3), np.float32)
        overlaps[0, 0] = overlaps[1, 1] = 1
        overlaps[2:5, 0], features[2:5, 0] = 0.6, features[2:5, 0] + 4  # too near to be background
        rows.append(Regions(features, overlaps, labels))
    return rows


def test_mined_svms_are_nearly_those_of_all_negatives():
    rows = _images()
    config = SVMConfig(cost=0.1, feature_norm=None, batch=100)
    mined = fit_svms(lambda: rows, 3, config)
    features, labels, overlaps = (np.concatenate(x) for x in zip(*((r.features, r.labels, r.overlaps) for r in rows)))
    for label in (0, 1):
        full = fit_svm(features[labels == label], features[overlaps[:, label] < 0.3], config)
        ours = features @ mined.kernel[:, label] + mined.bias[label]
        theirs = features @ full[:-1] + 10 * full[-1]
        assert np.abs(ours - theirs).max() < 0.1 * np.ptp(theirs)
        assert ours[labels == label].min() > np.quantile(ours[overlaps[:, label] < 0.3], 0.9)
    assert (features @ mined.kernel[:, 2] + mined.bias[2] == -2).all()


def test_weights_are_for_features_as_they_came():
    """Features of another length, which scaling to the same norm takes back, give the same scores."""
    rows = _images(6)
    longer = [r._replace(features=r.features * 37) for r in rows]
    first, second = (fit_svms(lambda given=given: given, 3, SVMConfig(cost=0.01)) for given in (rows, longer))
    np.testing.assert_allclose(second.kernel * 37, first.kernel, atol=1e-3 * np.abs(first.kernel).max())
    np.testing.assert_allclose(second.bias, first.bias, atol=1e-3)


@pytest.mark.parametrize("count", [30, 200])
def test_ridge_solves_the_normal_equations(count):
    random = np.random.default_rng(0)
    features, targets = random.normal(2, 3, (count, 60)).astype(np.float32), random.normal(1, 1, (count, 4))
    found = fit_ridge(features, targets, 50.0)
    inputs = np.concatenate([features, np.ones((count, 1))], axis=1).astype(np.float64)
    penalties = np.diag([50.0] * 60 + [0.0])
    expected = np.linalg.solve(inputs.T @ inputs + penalties, inputs.T @ targets)
    np.testing.assert_allclose(found.kernel, expected[:-1], atol=1e-6)
    np.testing.assert_allclose(found.bias, expected[-1], atol=1e-5)


def test_errors_name_the_fix():
    with pytest.raises(DataError, match="not 0 and 3; add images"):
        fit_svm(np.zeros((0, 2)), np.zeros((3, 2)))
    with pytest.raises(DataError, match="not finite"):
        fit_svm(np.full((1, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(DataError, match="no regions"):
        fit_svms(list, 2)
    with pytest.raises(DataError, match="positive penalty"):
        fit_ridge(np.zeros((3, 2)), np.zeros((3, 4)), 0.0)
