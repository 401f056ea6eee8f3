"""Text, legends, resizing and files."""

import numpy as np
import pytest
from PIL import Image

from cvjax.errors import ConfigError
from cvjax.visual import canvas
from cvjax.visual.palette import voc_palette


def has_color(picture: np.ndarray, color) -> bool:
    return bool((picture == np.asarray(color)).all(-1).any())


def test_legend_entries_are_what_occurs():
    masks = [np.array([[0, 2]]), np.array([[2, 255, 7]])]
    entries = canvas.legend_entries(masks, ("ground", "cat", "dog"))
    assert entries == [(0, "ground"), (2, "dog"), (7, "class 7"), (255, "void")]


def test_legend_shows_the_colors_of_its_entries_alone():
    picture = canvas.draw_legend([(1, "one"), (3, "three")], 400)
    palette = voc_palette()
    assert has_color(picture, palette[1])
    assert has_color(picture, palette[3])
    assert not has_color(picture, palette[2])


@pytest.mark.parametrize("width", [30, 60, 120, 1000])
def test_legend_wraps_into_its_width(width):
    entries = [(label, f"a class with number {label}") for label in range(1, 8)]
    picture = canvas.draw_legend(entries, width)
    assert picture.shape[1] == width
    assert all(has_color(picture, voc_palette()[label]) for label in range(1, 8))
    lines = 2 if width == 1000 else 7
    assert picture.shape[0] // canvas.draw_legend(entries[:1], width).shape[0] == lines
    assert (picture[:, -2:] == 255).all()  # no name is cut by the border


def test_empty_legend():
    assert canvas.draw_legend([], 100).shape == (0, 100, 3)


def test_fit_text():
    assert canvas.fit_text("short", 200) == "short"
    fitted = canvas.fit_text("a very long caption of a picture", 100)
    assert canvas.text_width(fitted) <= 100
    assert fitted.startswith("a ")
    assert fitted.endswith("e")
    assert "..." in fitted
    assert canvas.fit_text("word", 1) == ""


def test_masks_are_resized_without_mixing():
    mask = np.array([[0, 255], [7, 3]], np.uint8)
    np.testing.assert_array_equal(canvas.resize_mask(mask, (4, 6)), np.kron(mask, np.ones((2, 3), np.uint8)))
    rng = np.random.default_rng(0)
    large = rng.choice(np.array([1, 200, 255], np.uint8), (101, 57))
    small = canvas.resize_mask(large, (10, 9))
    assert small.shape == (10, 9)
    assert set(np.unique(small)) <= {1, 200, 255}
    np.testing.assert_array_equal(canvas.resize_mask(large, large.shape), large)


def test_small_photographs_stay_sharp_and_large_ones_are_averaged():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    photo = np.repeat(checks[..., None], 3, -1).astype(np.uint8)
    assert set(np.unique(canvas.resize_photo(photo, (128, 128)))) == {0, 255}
    middle = canvas.resize_photo(photo, (16, 16))[4:-4, 4:-4]
    assert np.abs(middle.astype(int) - 128).max() < 20


def test_saved_masks_keep_their_labels(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    canvas.save_mask(tmp_path / "new" / "mask.png", mask)
    with Image.open(tmp_path / "new" / "mask.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), mask)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), voc_palette()[mask])


def test_a_mask_that_does_not_fit_a_byte_is_refused(tmp_path):
    with pytest.raises(ValueError, match="0 to 255"):
        canvas.save_mask(tmp_path / "mask.png", np.array([[256]]))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        canvas.save_png(tmp_path / "file" / "a.png", np.zeros((1, 1, 3), np.uint8))
