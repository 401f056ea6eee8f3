"""The grid of examples."""

import numpy as np
import pytest
from PIL import Image

from cvjax.visual import canvas, grid
from cvjax.visual.palette import voc_palette

NAMES = ("ground", "cat", "dog", "cow")


def example(height: int, width: int, label: int, caption: str = "", truth: bool = True) -> grid.Example:
    image = np.full((height, width, 3), (10, 200, 30), np.uint8)
    mask = np.full((height, width), label, np.uint8)
    return grid.Example(image, np.zeros_like(mask) if truth else None, mask, caption)


def box_of(picture: np.ndarray, color) -> tuple[int, int, int, int]:
    """top, bottom, left, right of the pixels of a color."""
    rows, columns = np.nonzero((picture == np.asarray(color)).all(-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_panels_stand_in_their_columns_at_their_aspect():
    picture = grid.draw_grid([example(60, 120, 1)], NAMES, cell=120)
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 3 * 120 + 48
    top, bottom, left, right = box_of(picture, (10, 200, 30))
    assert (bottom - top, right - left, left) == (60, 120, 16)
    # Only the panel, not the legend's swatch below.
    _, _, left, right = box_of(picture[:bottom], voc_palette()[1])
    assert (left, right) == (16 + 2 * (120 + 8), 16 + 2 * (120 + 8) + 120)


@pytest.mark.parametrize(("height", "width"), [(100, 50), (1, 40), (40, 1), (1, 1), (500, 400)])
def test_odd_sizes_are_letterboxed_in_the_middle(height, width):
    picture = grid.draw_grid([example(height, width, 1), example(60, 120, 2)], NAMES, cell=100)
    row = picture[38 : 38 + max(1, round(100 * height / max(height, width)))]
    top, bottom, left, right = box_of(row, (10, 200, 30))
    assert abs((left - 16) - (116 - right)) <= 1
    assert (bottom - top, right - left) == (
        max(1, round(100 * height / max(height, width))), max(1, round(100 * width / max(height, width)))
    )  # fmt: skip


def test_legend_names_what_occurs_and_nothing_else(monkeypatch):
    drawn = []
    original = canvas.draw_legend
    monkeypatch.setattr(
        canvas,
        "draw_legend",
        lambda entries, *args, **kw: drawn.extend(entries) or original(entries, *args, **kw),
    )
    picture = grid.draw_grid([example(20, 20, 3), example(20, 20, 255, truth=False)], NAMES, cell=64)
    assert drawn == [(0, "ground"), (3, "cow"), (255, "void")]
    assert not (picture == voc_palette()[1]).all(-1).any()


def test_captions_take_room_only_where_they_are():
    without = grid.draw_grid([example(20, 20, 1)], NAMES, cell=64)
    captioned = grid.draw_grid([example(20, 20, 1, "2008_000001")], NAMES, cell=64)
    assert captioned.shape[0] == without.shape[0] + 22
    strip = captioned[38 + 64 : 38 + 64 + 22]
    assert (strip != 255).any()


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        grid.draw_grid([], NAMES)
    image, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="prediction is"):
        grid.Example(image, None, mask)
    with pytest.raises(ValueError, match="truth is"):
        grid.Example(image, mask, mask[:, :4])
    with pytest.raises(ValueError, match="uint8"):
        grid.Example(image.astype(float), None, mask[:, :4])


def test_saved_grid_is_the_drawn_one(tmp_path):
    examples = [example(20, 30, 1, "a")]
    grid.save_grid(tmp_path / "grid.png", examples, NAMES, cell=64)
    expected = grid.draw_grid(examples, NAMES, cell=64)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), expected)
