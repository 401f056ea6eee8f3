"""Boxes over photographs: where they are drawn, in which color, and that labels keep clear of each other."""

import numpy as np
import pytest
from PIL import Image

from cvjax.errors import ConfigError
from cvjax.visual import boxes
from cvjax.visual.boxes import Boxes, BoxesExample, class_color, draw_boxes, draw_boxes_grid

NAMES = ("cat", "dog", "a rather long name of a class")
GRAY = np.full((600, 800, 3), 120, np.uint8)


def found(*rows, scores=None, faint=None) -> Boxes:
    return Boxes(
        np.array([row[:4] for row in rows], float).reshape(-1, 4),
        np.array([row[4] for row in rows], int),
        scores,
        faint,
    )


def extent(picture, color):
    rows, columns = np.nonzero((picture == color).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_box_bounds_the_pixels_that_it_covers():
    picture = draw_boxes(GRAY, found((100, 200, 300, 450, 0)), NAMES)
    assert picture.shape == GRAY.shape
    left, top, right, bottom = extent(picture, class_color(0))
    assert (left, right, bottom) == (100, 300, 450)
    assert 170 < top < 185  # the label stands above
    assert (picture[300:400, 150:250] == 120).all()
    assert (picture[440:460, 150:250] != 120).any()


def test_small_pictures_are_enlarged_and_boxes_with_them():
    picture = draw_boxes(GRAY[:48, :64], found((10, 20, 30, 40, 1)), NAMES)
    assert picture.shape == (8 * 48, 8 * 64, 3)
    left, _, right, bottom = extent(picture, class_color(1))
    assert (left, right, bottom) == (80, 240, 320)


def test_parts_outside_are_cut_off_and_nothing_else_is_drawn_for_boxes_that_are_none():
    whole = draw_boxes(GRAY, found((700, 500, 9000, 9000, 1)), NAMES)
    left, _, right, bottom = extent(whole, class_color(1))
    assert (left, right, bottom) == (700, 800, 600)
    nowhere = [(-90, -90, -10, -10, 2), (5, 5, 5, 5, 0), (9, 9, 2, 2, 0), (np.nan, 0, 9, 9, 0), (0, 0, np.inf, 9, 0)]
    np.testing.assert_array_equal(draw_boxes(GRAY, found(*nowhere), NAMES), GRAY)
    np.testing.assert_array_equal(draw_boxes(GRAY, found(), NAMES), GRAY)


def test_labels_keep_clear_of_each_other_where_there_is_room():
    taken = []
    for box in [(100, 100, 200, 200)] * 4:
        place = boxes._label_place(box, 80, 20, (400, 400), taken)
        assert all(boxes._shared(place, other) == 0 for other in taken)
        assert place[0] >= 0
        assert place[2] < 400
        taken.append(place)
    # Flush with the border it moves inside, and a label wider than the picture starts at its edge.
    assert boxes._label_place((0, 0, 50, 50), 80, 20, (400, 400), [])[:2] == (0, 0)
    assert boxes._label_place((390, 390, 399, 399), 80, 20, (400, 400), []) == (320, 370, 399, 389)
    assert boxes._label_place((0, 0, 9, 9), 80, 20, (10, 10), [])[:2] == (0, 0)


def test_the_surest_box_lies_on_top():
    same = [(100, 100, 300, 300, 0), (100, 100, 300, 300, 1)]
    for scores, top in (([0.9, 0.1], 0), ([0.1, 0.9], 1)):
        picture = draw_boxes(GRAY, found(*same, scores=np.array(scores)), NAMES)
        assert tuple(picture[200, 100]) == class_color(top)


def test_faint_boxes_have_neither_color_nor_name():
    picture = draw_boxes(GRAY, found((100, 100, 300, 300, 0), faint=np.array([True])), NAMES)
    assert not (picture == class_color(0)).all(-1).any()
    assert extent(picture, (255, 255, 255)) == (100, 100, 300, 300)


def test_grid_shows_truth_beside_prediction():
    examples = [
        BoxesExample(GRAY, found((0, 0, 400, 300, 0)), found((0, 0, 400, 300, 1)), "an image"),
        BoxesExample(GRAY[:60, :40], None, found((0, 0, 20, 20, 2))),
    ]
    picture = draw_boxes_grid(examples, NAMES, cell=200)
    assert picture.shape[1] == 2 * 200 + 30
    left, _, right, _ = extent(picture, class_color(0))
    assert (left, right) == (10, 110)
    left, _, right, _ = extent(picture, class_color(1))
    assert (left, right) == (220, 320)
    alone = draw_boxes_grid([BoxesExample(GRAY, None, found())], NAMES, cell=200)
    assert alone.shape == (26 + 150 + 10, 200 + 20, 3)


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        draw_boxes_grid([], NAMES)
    with pytest.raises(ValueError, match="uint8"):
        draw_boxes(GRAY.astype(float), found(), NAMES)
    with pytest.raises(ValueError, match=r"boxes \[2, 4\]"):
        Boxes(np.zeros((3, 4)), np.zeros(2, int))
    with pytest.raises(ValueError, match="scores"):
        Boxes(np.zeros((2, 4)), np.zeros(2, int), np.zeros(3))
    example = BoxesExample(GRAY, None, found())
    boxes.save_boxes_grid(tmp_path / "a.png", [example], NAMES, cell=64)
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), draw_boxes_grid([example], NAMES, cell=64))
    with pytest.raises(ConfigError, match="cannot write"):
        boxes.save_boxes_grid(tmp_path / "a.png" / "b.png", [example], NAMES)


def test_classes_of_any_number_have_a_color():
    assert len({class_color(label) for label in range(80)}) == 80
    assert class_color(254) == class_color(0)
