"""Errors of cells: by hand, and pairs against scikit-learn."""

import numpy as np
import pytest
import scipy.ndimage
from sklearn.metrics import rand_score
from sklearn.metrics.cluster import pair_confusion_matrix

from cvjax.tasks.segmentation.scores.membranes import membrane_report, membrane_sums, rand_errors, warp, warping_errors


def drawn(text: str) -> np.ndarray:
    """A picture of cells `#`, membranes `.` and what does not count `?`, int8."""
    values = {"#": 1, ".": 0, "?": -1}
    return np.array([[values[c] for c in line.strip()] for line in text.strip().splitlines()], np.int8)


TWO = drawn("""
    ###.###
    ###.###
    ###.###
    ###.###
""")


def test_a_membrane_moved_is_no_error_of_topology():
    moved = np.roll(TWO, 1, axis=1)
    moved[:, 0] = 1
    assert (moved != TWO).sum() == 8
    assert warping_errors(TWO, moved == 1) == 0


def test_a_thick_membrane_is_no_error_of_topology():
    thick = TWO.copy()
    thick[:, 2:5] = 0
    assert warping_errors(TWO, thick == 1) == 0


def test_cells_that_are_joined_or_split():
    joined = TWO.copy()
    joined[1, 3] = 1
    assert warping_errors(TWO, joined == 1) == 1
    joined[2, 3] = 1
    assert warping_errors(TWO, joined == 1) == 2  # neither is simple while the other is membrane
    assert warping_errors(joined, TWO == 1) == 1  # the gap narrows to one pixel, which divides
    assert warping_errors(drawn("#######"), drawn("###.###") == 1) == 1


def test_cells_and_holes_that_are_made_or_lost():
    full = np.ones((5, 6), np.int8)
    hole = full.copy()
    hole[2, 2:4] = 0
    assert warping_errors(full, hole == 1) == 2
    assert warping_errors(hole, full == 1) == 1
    assert warping_errors(np.zeros((5, 6), np.int8), hole == 0) == 2
    assert warping_errors(np.zeros((5, 6), np.int8), full == 1) == 30


def test_membranes_touch_by_corners_and_cells_do_not():
    diagonal = drawn("""
        .###
        #.##
        ##.#
        ###.
    """)
    assert scipy.ndimage.label(diagonal == 1)[1] == 2
    assert warping_errors(diagonal, np.ones((4, 4), bool)) > 0


def test_warping_never_changes_the_number_of_cells_and_holes():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = scipy.ndimage.gaussian_filter(rng.normal(size=(24, 24)), 1.5) > 0
        guess = scipy.ndimage.gaussian_filter(rng.normal(size=(24, 24)), 1.5) > 0
        wrong = warping_errors(truth.astype(np.int8), guess)
        assert 0 < wrong <= (truth != guess).sum()
        warped = warp(truth.astype(np.int8), guess)
        assert scipy.ndimage.label(warped)[1] == scipy.ndimage.label(truth)[1]
        around, everywhere = (np.pad(~cells, 1, constant_values=True) for cells in (warped, truth)), np.ones((3, 3))
        pieces = [scipy.ndimage.label(membrane, everywhere)[1] for membrane in around]
        assert pieces[0] == pieces[1]
        assert warping_errors(truth.astype(np.int8), truth) == 0


def test_what_does_not_count_is_no_error():
    truth = drawn("""
        ###?###
        ###?###
    """)
    sums = membrane_sums(truth[None], np.ones((1, 2, 7)), (0.5,))
    assert (sums["em_pixels"][0], sums["em_wrong"][0], sums["em_warped"][0]) == (12, 0, 0)
    assert sums["em_rand"][0] == 0


def labeled(cells: np.ndarray, alone: bool) -> np.ndarray:
    """Components; with `alone` each pixel outside is one of its own."""
    labels = scipy.ndimage.label(cells)[0]
    return np.where(cells, labels, labels.max() + 1 + np.arange(cells.size).reshape(cells.shape)) if alone else labels


@pytest.mark.parametrize("seed", range(6))
def test_rand_errors_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    noise = scipy.ndimage.gaussian_filter(rng.normal(size=(2, 30, 40)), (0, 1.5, 1.5))
    truth, guess = noise[0] > -0.05, noise[1 if seed % 2 else 0] + 0.05 * rng.normal(size=(30, 40)) > -0.03
    mine, yours = labeled(truth, False)[truth], labeled(guess, True)[truth]
    (_, guess_alone), (truth_alone, both) = pair_confusion_matrix(mine, yours)
    pixels = truth.sum()
    precision = (both + pixels) / (both + guess_alone + pixels)
    recall = (both + pixels) / (both + truth_alone + pixels)
    adapted, pairs = rand_errors(truth, guess)
    assert adapted == pytest.approx(1 - 2 * precision * recall / (precision + recall))
    assert pairs == pytest.approx(1 - rand_score(mine, yours))


def test_rand_errors_by_hand():
    joined = TWO == 1
    joined[1, 3] = True
    # 24 pixels, 2 x 12^2 together in the truth, 24^2 in the guess.
    assert rand_errors(TWO == 1, joined)[0] == pytest.approx(1 - 2 * 288 / (288 + 576))
    assert rand_errors(TWO == 1, joined)[1] == pytest.approx(288 / (24 * 23))
    assert rand_errors(TWO == 1, TWO == 1) == (0, 0)
    assert np.isnan(rand_errors(np.zeros((2, 2), bool), np.ones((2, 2), bool))[0])


def test_sums_add_up_and_the_best_threshold_counts():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (3, 12, 12)).astype(np.int8)
    truth[2] = 0
    cells = np.clip(truth * 0.4 + 0.1 + 0.3 * rng.random(truth.shape), 0, 1)
    thresholds = (0.1, 0.45, 0.9)
    whole = membrane_sums(truth, cells, thresholds)
    parts = [membrane_sums(truth[rows], cells[rows], thresholds) for rows in (slice(0, 1), slice(1, 3))]
    for name, value in whole.items():
        np.testing.assert_allclose(parts[0][name] + parts[1][name], value, err_msg=name)
    assert whole["em_images"][0] == 2
    report = membrane_report(whole, thresholds)
    assert report["pixel_error_threshold"] == 0.45
    assert report["pixel_error"] == pytest.approx(((cells > 0.45) != truth).mean())
    empty = membrane_report({name: 0 * value for name, value in whole.items()}, thresholds)
    assert np.isnan(empty["rand_error"])
