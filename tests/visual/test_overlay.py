"""The overlay of a label map on its photograph."""

import numpy as np
import pytest

from cvjax.visual import canvas, overlay
from cvjax.visual.palette import voc_palette

NAMES = ("background", "cat", "dog")


def photo(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


@pytest.fixture
def legend(monkeypatch):
    drawn = []
    original = canvas.draw_legend
    monkeypatch.setattr(
        canvas,
        "draw_legend",
        lambda entries, *args, **kw: drawn.extend(entries) or original(entries, *args, **kw),
    )
    return drawn


def test_tint_contour_and_background(legend):
    mask = np.zeros((300, 400), np.uint8)
    mask[100:200, 100:300] = 1
    picture = overlay.draw_overlay(photo(300, 400), mask, NAMES, opacity=0.5)
    assert picture.shape[1] == 400
    assert picture.shape[0] > 300
    np.testing.assert_array_equal(picture[20, 20], (100, 100, 100))
    np.testing.assert_array_equal(picture[150, 200], (114, 50, 50))  # half of (100, 100, 100), half of (128, 0, 0)
    np.testing.assert_array_equal(picture[100, 200], voc_palette()[1])  # the contour, in the pure color
    assert picture[98, 200].min() > 200  # the light line outside it
    assert legend == [(1, "cat")]


def test_void_is_left_clear(legend):
    mask = np.full((300, 300), 255, np.uint8)
    mask[:100] = 2
    picture = overlay.draw_overlay(photo(300, 300), mask, NAMES)
    np.testing.assert_array_equal(picture[200, 150], (100, 100, 100))
    assert legend == [(2, "dog")]


def test_nothing_but_background_says_so(legend):
    overlay.draw_overlay(photo(300, 300), np.zeros((300, 300), int), NAMES)
    assert legend == [(0, "background")]


def test_a_first_class_that_is_no_background_is_tinted():
    picture = overlay.draw_overlay(photo(300, 300), np.zeros((300, 300), int), ("sky", "road"))
    assert picture[150, 150].max() < 100


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (17, 31), (256, 2), (2100, 1500)])
def test_any_size(size):
    mask = np.arange(size[0] * size[1]).reshape(size) * 3 // (size[0] * size[1])
    picture = overlay.draw_overlay(photo(*size), mask, NAMES)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > size[0]
    assert picture.shape[1] >= size[1]
    assert max(picture.shape) > 128  # small ones are enlarged


def test_the_photograph_is_not_changed():
    image = photo(300, 300)
    overlay.draw_overlay(image, np.arange(90000).reshape(300, 300) % 2, NAMES)
    np.testing.assert_array_equal(image, photo(300, 300))


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="mask is"):
        overlay.draw_overlay(photo(4, 4), np.zeros((4, 5), int), NAMES)
    with pytest.raises(ValueError, match="non-empty"):
        overlay.draw_overlay(photo(0, 4), np.zeros((0, 4), int), NAMES)
