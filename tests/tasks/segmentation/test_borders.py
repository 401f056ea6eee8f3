"""Bands along borders, and scores in them, against scipy.ndimage class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cvjax.tasks.segmentation.scores.borders import border_distance, boundary_confusion, trimap_confusions
from cvjax.tasks.segmentation.scores.regions import border_report

_boundary = jax.jit(boundary_confusion, static_argnums=2, static_argnames="ratio")
SQUARE = np.ones((3, 3), bool)


def blocks(seed: int, shape=(2, 40, 52), classes: int = 4, void: float = 0.0) -> np.ndarray:
    """Label maps of blobs, some of their pixels 255, int32."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (shape[0], shape[1] // 8 + 1, shape[2] // 8 + 1))
    maps = np.kron(coarse, np.ones((1, 8, 8), int))[:, : shape[1], : shape[2]]
    flipped = rng.random(shape) < 0.02
    maps[flipped] = rng.integers(0, classes, flipped.sum())
    if void:
        maps[ndimage.binary_dilation(rng.random(shape) < void, np.ones((1, 3, 3)))] = 255
    return maps.astype(np.int32)


def padded(maps: np.ndarray, fill: int, by=(7, 12)) -> np.ndarray:
    return np.pad(maps, ((0, 0), (0, by[0]), (0, by[1])), constant_values=fill)


def within(shape, by=(7, 12)) -> np.ndarray:
    return padded(np.ones(shape, int), 0, by).astype(bool)


def boundary_by_hand(labels, predictions, classes, ratio=0.02):
    """Boundary IoU of each class after the paper: a mask less its erosion, the image's edge being none of it."""
    sums = np.zeros((classes, 2), int)
    for truth, guess in zip(labels, predictions):
        counted = truth != 255
        steps = max(1, round(ratio * np.hypot(*truth.shape)))
        for c in range(classes):
            # What is to be ignored erodes nothing.
            inner = ndimage.binary_erosion((truth == c) | ~counted, SQUARE, steps, border_value=0)
            g = (truth == c) & ~inner & counted
            p = (guess == c) & ~ndimage.binary_erosion(guess == c, SQUARE, steps, border_value=0) & counted
            sums[c] += (g & p).sum(), (g | p).sum()
    return sums


@pytest.mark.parametrize(("seed", "void", "ratio"), [(0, 0.0, 0.02), (1, 0.01, 0.02), (2, 0.01, 0.08)])
def test_boundary_iou_is_the_papers(seed, void, ratio):
    labels, predictions = blocks(seed, void=void), blocks(seed + 10)
    maps = padded(labels, 255), padded(predictions, 3)
    confusion = np.asarray(_boundary(*maps, 5, within=within(labels.shape), ratio=ratio))
    expected = boundary_by_hand(labels, predictions, 5, ratio)
    hits = np.diag(confusion)[:5]
    np.testing.assert_array_equal(hits, expected[:, 0])
    np.testing.assert_array_equal(confusion.sum(0)[:5] + confusion.sum(1)[:5] - hits, expected[:, 1])
    assert confusion.sum() == (labels != 255).sum()
    some = expected[:, 1] > 0
    report = border_report({"boundary": confusion})
    assert report == {"boundary_iou": pytest.approx((expected[some, 0] / expected[some, 1]).mean(), abs=1e-12)}


def test_boundary_iou_of_the_truth_is_one_and_of_nothing_nan():
    labels = blocks(3)
    confusion = _boundary(labels, labels, 4, within=np.ones(labels.shape, bool))
    assert border_report({"boundary": np.asarray(confusion)}) == {"boundary_iou": 1.0}
    nobody = _boundary(labels, labels, 4, within=np.zeros(labels.shape, bool))
    assert np.isnan(border_report({"boundary": np.asarray(nobody)})["boundary_iou"])


def test_each_image_has_its_own_width():
    labels = np.zeros((2, 64, 64), np.int32)
    size = np.zeros(labels.shape, bool)
    size[0], size[1, :8, :8] = True, True
    confusion = np.asarray(_boundary(labels, labels, 1, within=size, ratio=0.05))
    # 5 pixels of 64 and 1 of 8, along the image's edge
    np.testing.assert_array_equal(np.diag(confusion), [64**2 - 54**2 + 8**2 - 6**2, 54**2 + 6**2])


def trimap_by_hand(labels, reach):
    """Pixels of each class within reach of what is not of it, the image's edge not being that."""
    near = np.zeros(labels.shape, bool)
    for image, band in zip(labels, near):
        for c in np.unique(image):
            band |= (image == c) & ndimage.binary_dilation(image != c, SQUARE, reach)
    return near & (labels != 255)


@pytest.mark.parametrize("void", [0.0, 0.01])
def test_trimaps_are_dilations_of_the_borders(void):
    labels, predictions = blocks(4, void=void), blocks(5)
    distances = (1, 3, 8)
    count = jax.jit(lambda t, p, w: trimap_confusions(t, p, 4, distances, within=w))
    confusions = np.asarray(count(padded(labels, 255), padded(predictions, 0), within(labels.shape)))
    report = border_report({"trimap": confusions}, distances)
    for confusion, reach in zip(confusions, distances):
        near = trimap_by_hand(labels, reach)
        expected = np.zeros((4, 4), int)
        np.add.at(expected, (labels[near], predictions[near]), 1)
        np.testing.assert_array_equal(confusion, expected)
        union = expected.sum(0) + expected.sum(1) - np.diag(expected)
        iou = (np.diag(expected) / np.maximum(union, 1))[union > 0]
        assert report[f"trimap_miou_{reach}"] == pytest.approx(iou.mean(), abs=1e-12)


def test_images_that_are_not_valid_do_not_count():
    labels, predictions, valid = blocks(6, void=0.01), blocks(7), np.array([True, False])
    everything = np.ones(labels.shape, bool)
    for of in (_boundary, jax.jit(lambda t, p, n, **k: trimap_confusions(t, p, n, (2,), **k), static_argnums=2)):
        np.testing.assert_array_equal(
            of(labels, predictions, 4, within=everything, valid=valid),
            of(labels[:1], predictions[:1], 4, within=everything[:1]),
        )


def test_distance_is_chebyshevs_across_unknown_pixels():
    labels = jnp.asarray([[[0, 0, 0, 9, 9, 1, 1, 1, 1]]])
    known = labels != 9
    distance = border_distance(labels, known, 4, outside=False)
    np.testing.assert_array_equal(distance[known], [5, 4, 3, 3, 4, 5, 5])
    np.testing.assert_array_equal(border_distance(labels, known, 4, outside=True)[known], [1] * 7)
