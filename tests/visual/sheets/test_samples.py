"""Examples on a sheet: their size, the colors that the legend tells, and labels that can be read."""

import numpy as np
import pytest

from cvjax.data.annotations import make_objects
from cvjax.data.objects import MaskedObjects
from cvjax.visual.boxes import Boxes, class_color, draw_boxes
from cvjax.visual.page import Card, Page
from cvjax.visual.sheets.doubt_page import draw_box, draw_masks
from cvjax.visual.sheets.samples import classes_shown, draw_sample, fit, legend_of, strip

GRAY = np.full((60, 80, 3), 128, np.uint8)
NAMES = ("background", "cat", "dog")


def has(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    """Number of pixels of a color."""
    return int((picture == color).all(-1).sum())


@pytest.mark.parametrize(("shape", "side"), [((60, 80), 480), ((1200, 900), 480), ((32, 32), 480), ((300, 310), 310)])
def test_images_come_to_the_size_of_a_thumbnail(shape, side):
    picture, scale = fit(np.zeros((*shape, 3), np.uint8))
    assert max(picture.shape[:2]) == side
    assert picture.shape[0] == round(shape[0] * scale)


def test_boxes_have_the_colors_of_the_legend():
    legend = legend_of("boxes", NAMES)
    one = make_objects([(10, 10, 40, 40)], [1])
    picture = draw_sample("boxes", GRAY, one, NAMES)
    assert has(picture, legend["cat"]) > 500
    assert not has(picture, legend["dog"])
    many = make_objects(np.tile([10, 10, 40, 40], (9, 1)), [2] * 9)  # too many for their names
    unnamed = draw_sample("boxes", GRAY, many, NAMES)
    assert 0 < has(unnamed, legend["dog"]) < has(picture, legend["cat"])


def test_masks_and_objects_are_tinted():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 10:40] = 2
    for target, truth in (
        ("mask", mask),
        (
            "objects",
            MaskedObjects(
                (mask > 0).astype(np.uint8), np.array([[10, 10, 40, 30]], np.float32), np.array([1]), np.array([2])
            ),
        ),
    ):
        assert classes_shown(target, truth) == ([0, 2] if target == "mask" else [2])
        picture = draw_sample(target, GRAY, truth, NAMES)
        color = legend_of(target, NAMES)["dog"]
        inside, outside = picture[6 * 20, 6 * 25], picture[6 * 50, 6 * 60]
        np.testing.assert_array_equal(outside, (128, 128, 128))
        blend = 128 + (np.array(color) - 128.0) * 0.45
        np.testing.assert_allclose(inside, blend, atol=2)
    assert "background" not in legend_of("mask", NAMES)


def test_labels_are_not_drawn():
    np.testing.assert_array_equal(draw_sample("label", GRAY, 1, NAMES), fit(GRAY)[0])
    assert legend_of("label", NAMES) == {}


def test_a_strip_stands_in_rows_of_two():
    tall, wide = np.zeros((90, 30, 3), np.uint8), np.zeros((30, 90, 3), np.uint8)
    assert strip([wide, wide]).shape[1] == strip([wide] * 5).shape[1] == 480
    assert strip([wide] * 5).shape[0] == 2 * strip([wide]).shape[0] + 4  # four of them
    assert strip([tall]).shape[0] <= 1.5 * 240


def test_texts_take_the_place_of_names():
    box = np.array([[20, 200, 300, 400]], np.float32)
    image = np.full((512, 512, 3), 128, np.uint8)
    plain = draw_boxes(image, Boxes(box, np.array([0])), NAMES, text=0)
    short = draw_boxes(image, Boxes(box, np.array([0]), texts=("a",)), NAMES, text=20)
    long = draw_boxes(image, Boxes(box, np.array([0]), texts=("a longer label",)), NAMES, text=20)
    assert has(plain[:195], class_color(0)) == 0 < has(short[:195], class_color(0)) < has(long[:195], class_color(0))
    with pytest.raises(ValueError, match="1 labels go with 1 texts, not 2"):
        Boxes(box, np.array([0]), texts=("a", "b"))


def test_doubts_show_label_and_detection():
    both = draw_box(GRAY, ((10, 10, 30, 30), 1), ((12, 10, 30, 30), 2, 0.9), NAMES)
    assert has(both, class_color(1))
    assert has(both, class_color(2))
    alone = draw_box(GRAY, None, ((12, 10, 30, 30), 2, 0.9), NAMES)
    assert not has(alone, class_color(1))
    mask, guess = np.zeros((2, 60, 80), np.uint8)
    guess[10:30, 10:30] = 1
    picture = draw_masks(GRAY, mask, guess, (10, 10, 30, 30), NAMES)
    half = picture.shape[1] // 2
    tint = 128 + (np.array(legend_of("mask", NAMES)["cat"]) - 128.0) * 0.45
    tinted = (np.abs(picture - tint) <= 2).all(-1)
    assert tinted[:, half:].sum() > 1000
    assert not tinted[:, :half].any()
    assert (picture[:, :half] > 200).all(-1).any()  # the region's outline, where nothing is labeled


def test_cards_that_belong_together_share_a_row():
    page = Page("a")
    page.sheet([Card(GRAY)] * 3, together=True)
    page.sheet([Card(GRAY)])
    text = page.html()
    assert text.count('class="sheet together"') == text.count('class="sheet"') == 1
    assert ".together { grid-template-columns" in text
