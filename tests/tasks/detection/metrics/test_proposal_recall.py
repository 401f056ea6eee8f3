"""Recall of proposals, by hand."""

import numpy as np

from cvjax.tasks.detection.metrics.recall import proposal_recall


def test_recall_by_hand():
    first = (
        np.asarray([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 36]]),
        np.asarray([[0, 0, 10, 12], [20, 20, 30, 30]]),
    )
    second = (np.zeros((0, 4)), np.asarray([[5, 5, 9, 9]]))
    third = (np.asarray([[1, 2, 3, 4]]), np.zeros((0, 4)))
    found = proposal_recall([first, second, third], counts=(0, 1, 2, 3, 100), thresholds=(0.5, 0.7, 0.0))
    np.testing.assert_allclose(found[:, 0], np.asarray([0, 1, 1, 2, 2]) / 3)
    np.testing.assert_allclose(found[:, 1], np.asarray([0, 1, 1, 1, 1]) / 3)
    np.testing.assert_allclose(found[:, 2], np.asarray([0, 1, 1, 2, 2]) / 3)


def test_nothing_to_find_has_no_recall():
    assert np.isnan(proposal_recall([(np.zeros((3, 4)), np.zeros((0, 4)))], counts=(5,))).all()
    assert np.isnan(proposal_recall([])).all()
