"""Weights of borders between cells, against the formula with all distances written out."""

import numpy as np
import pytest
import scipy.ndimage

from cvjax.tasks.segmentation.weight_maps import border_weights, loss_weights


def by_formula(mask: np.ndarray, cells: int, w0: float, sigma: float) -> np.ndarray:
    """Equation 2 of U-Net from the distance to every cell."""
    instances, count = scipy.ndimage.label(mask == cells)
    if count < 2:
        return np.zeros(mask.shape)
    distances = np.sort([scipy.ndimage.distance_transform_edt(instances != i + 1) for i in range(count)], axis=0)
    return np.where(mask == cells, 0, w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 1.5)])
def test_weights_are_those_of_the_formula(seed, w0, sigma):
    rng = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(60, 70)), 3)
    mask = (smooth > np.quantile(smooth, 0.6)).astype(np.uint8) * 2
    mask[rng.random(mask.shape) < 0.02] = 255
    assert scipy.ndimage.label(mask == 2)[1] > 3
    weights = border_weights(mask, 2, w0, sigma)
    assert weights.dtype == np.float32
    # Nothing is looked for beyond five deviations, where 4e-6 of the peak is left.
    np.testing.assert_allclose(weights, by_formula(mask, 2, w0, sigma), rtol=1e-4, atol=4e-6 * w0)
    assert (weights > 1e-3 * w0).any()


def test_by_hand():
    mask = np.ones((9, 7), np.uint8)
    mask[:, 3] = 0
    expected = np.zeros((9, 7))
    expected[:, 3] = 10 * np.exp(-((1 + 1) ** 2) / (2 * 5**2))
    np.testing.assert_allclose(border_weights(mask, 1), expected, rtol=1e-6)


def test_cells_that_touch_by_a_corner_are_two():
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, :4], mask[4:, 4:] = 1, 1
    weights = border_weights(mask, 1)
    assert weights[3, 4] == pytest.approx(10 * np.exp(-(2**2) / 50))
    assert (weights[mask == 1] == 0).all()


@pytest.mark.parametrize("fill", [0, 1])
def test_without_two_cells_there_are_no_borders(fill):
    mask = np.full((12, 10), fill, np.uint8)
    assert not border_weights(mask, 1).any()
    mask[4:7, 4:7] = 1
    assert not border_weights(mask, 1).any()


def test_classes_and_borders_add_up():
    mask = np.ones((6, 9), np.uint8)
    mask[:, 4], mask[0, 0] = 0, 255
    weights = loss_weights(mask, 1, 10.0, 5.0, (3.0, 0.5))
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, np.where(mask == 0, 3.0, 0.5) + border_weights(mask, 1), rtol=1e-6)
    np.testing.assert_array_equal(loss_weights(mask, 1, 0.0, 5.0), np.ones(mask.shape))
    np.testing.assert_array_equal(loss_weights(mask, 1, 10.0, 5.0), 1 + border_weights(mask, 1))
