"""Preprocessing on the host gives torchvision's numbers."""

import _reference as reference
import numpy as np
import pytest

from cvjax.errors import DataError
from cvjax.models import Preprocessing
from cvjax.weights import preprocess


def test_agrees_with_torchvision():
    with np.load(reference.GOLDEN / "preprocess.npz") as archive:
        for number, (height, width, crop, resize, interpolation) in enumerate(archive["cases"]):
            image = np.random.default_rng(number).integers(0, 256, (int(height), int(width), 3), np.uint8)
            ours = preprocess(image, Preprocessing(int(crop), int(resize), interpolation=str(interpolation)))
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, archive[str(number)])


def test_shrinking_averages_instead_of_picking_pixels():
    chess = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    small = preprocess(chess, Preprocessing(30, 32, mean=(0, 0, 0), std=(1, 1, 1)))
    np.testing.assert_allclose(small, 0.5, atol=0.01)


def test_caffe_gets_blue_first_less_its_means():
    image = np.empty((5, 7, 3), np.uint8)
    image[:] = (200, 150, 100)
    caffe = Preprocessing(None, None, (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3, bgr=True)
    np.testing.assert_allclose(preprocess(image, caffe)[2, 3], (100 - 104, 150 - 117, 200 - 123), atol=1e-4)
    assert preprocess(image, caffe).shape == (5, 7, 3)


def test_without_a_crop_the_whole_image_stays():
    assert preprocess(np.zeros((40, 100, 3), np.uint8), Preprocessing(None, 52)).shape == (52, 130, 3)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8, 3)), "uint8"),
        (np.zeros((8, 8), np.uint8), r"\[H, W, 3\]"),
        (np.zeros((8, 0, 3), np.uint8), r"\(8, 0, 3\)"),
        (np.zeros((100, 8, 3), np.uint8), "100x8 pixels has no crop of 16"),
    ],
)
def test_refuses_what_is_no_image(image, words):
    with pytest.raises(DataError, match=words):
        preprocess(image, Preprocessing(16, None))
