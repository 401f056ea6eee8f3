"""Class frequencies against counting by hand."""

import cv2
import numpy as np
import pytest

from cvjax.datasets.statistics import balancing_weights, class_frequencies
from cvjax.errors import DataError


class Masks:
    """A source of given masks."""

    name, split, class_names = "masks", "train", ("a", "b", "c")

    def __init__(self, masks):
        self._masks = masks

    def __len__(self):
        return len(self._masks)

    def __getitem__(self, index):
        png = cv2.imencode(".png", self._masks[index])[1].tobytes()
        return {"image": b"", "mask": png, "id": str(index)}


def test_frequencies_are_shares_of_labeled_pixels():
    rng = np.random.default_rng(0)
    masks = rng.choice(np.array([0, 0, 0, 1, 2, 9, 255], np.uint8), (5, 8, 8))
    found = class_frequencies(Masks(masks), 3, void=(9,))
    counted = masks[masks < 3]
    np.testing.assert_allclose(found, np.bincount(counted, minlength=3) / counted.size)


def test_void_masks_alone_are_refused():
    with pytest.raises(DataError, match="no mask has a labeled pixel"):
        class_frequencies(Masks(np.full((2, 4, 4), 255, np.uint8)), 3)


def test_full_balancing_makes_every_class_weigh_the_same():
    frequencies = np.array([0.7, 0.2, 0.1, 0.0])
    weights = np.asarray(balancing_weights(frequencies, 1.0))
    np.testing.assert_allclose((weights * frequencies)[:3], 0.2)
    assert weights[3] == 1.0
    assert balancing_weights(frequencies, 0.0) == (1.0,) * 4
