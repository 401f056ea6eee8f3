"""Anchors against the paper's code, torchvision's numbers and their own geometry."""

import jax
import numpy as np
import pytest

from cvjax.ops.detection import anchors


def sides(boxes):
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def test_the_papers_nine_anchors():
    # As the authors' code prints them, counted from 1 and with both corners inside.
    printed = np.array(
        [
            [-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200],
            [-55, -55, 72, 72], [-119, -119, 136, 136], [-247, -247, 264, 264],
            [-35, -79, 52, 96], [-79, -167, 96, 184], [-167, -343, 184, 360],
        ]
    )  # fmt: skip
    ours = anchors.paper_cell_anchors()
    np.testing.assert_array_equal(ours, printed - [1, 1, 0, 0])
    np.testing.assert_array_equal((ours[:, :2] + ours[:, 2:]) / 2, 8)  # the middle of 16 x 16 pixels


def test_torchvisions_cells():
    np.testing.assert_array_equal(
        anchors.cell_anchors((32,)), [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    )
    both = anchors.cell_anchors((32, 64), (1.0, 2.0))  # ratios, then sizes
    np.testing.assert_array_equal(both[:, 3], [16, 32, 23, 45])
    assert both.dtype == np.float32


def test_ratios_are_height_by_width_and_sizes_are_roots_of_areas():
    for cell in (anchors.cell_anchors((64, 200), (0.5, 1, 3)), anchors.paper_cell_anchors((64, 192), (0.5, 1, 3))):
        width, height = sides(cell)
        np.testing.assert_allclose(height / width, np.repeat([0.5, 1, 3], 2), rtol=0.06)
    np.testing.assert_allclose(
        np.sqrt(np.prod(sides(anchors.cell_anchors((64, 200))), axis=0)), [64, 200] * 3, rtol=0.02
    )


def test_a_map_is_read_row_by_row():
    cell = np.array([[-1.0, -2, 1, 2], [-5, -5, 5, 5]])
    got = anchors.map_anchors(cell, (2, 3), (10, 20)).reshape(2, 3, 2, 4)
    for y, x, a in np.ndindex(2, 3, 2):
        np.testing.assert_array_equal(got[y, x, a], cell[a] + [20 * x, 10 * y, 20 * x, 10 * y])
    np.testing.assert_array_equal(anchors.map_anchors(cell, (2, 3), 4), anchors.map_anchors(cell, (2, 3), (4, 4)))


def test_a_pyramids_last_map_may_not_divide_the_image():
    """The reference's image of 128 x 160, whose coarsest map is 2 x 3: strides of 64 down and 53 to the right."""
    shapes = [(32, 40), (16, 20), (8, 10), (4, 5), (2, 3)]
    levels = anchors.pyramid_anchors((128, 160), shapes)
    assert [len(level) for level in levels] == [3 * h * w for h, w in shapes]
    np.testing.assert_array_equal(levels[0][3], [-19, -11, 27, 11])
    np.testing.assert_array_equal(levels[4][-1], [-181 + 106, -362 + 64, 181 + 106, 362 + 64])


def test_equal_to_torchvisions(shared_dir):
    wanted = np.load(shared_dir / "reference" / "fasterrcnn_resnet50_fpn.npz")["anchors"]
    levels = anchors.pyramid_anchors((128, 160), [(32, 40), (16, 20), (8, 10), (4, 5), (2, 3)])
    np.testing.assert_array_equal(np.concatenate(levels), wanted)


def test_anchors_are_constants_of_a_traced_program():
    text = jax.jit(lambda x: x + anchors.map_anchors(anchors.cell_anchors((16,)), (1, 2), 8)).lower(0.0).as_text()
    assert "sqrt" not in text
    assert "round" not in text


def test_inside_an_image_without_its_padding():
    boxes = np.array([[0.0, 0, 10, 10], [-1, 0, 5, 5], [0, -1, 5, 5], [5, 5, 31, 10], [5, 5, 10, 21]])
    np.testing.assert_array_equal(anchors.inside(boxes, (20, 30)), [True, False, False, False, False])
    np.testing.assert_array_equal(anchors.inside(boxes, (20, 30), margin=1), [True] * 5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="positive"):
        anchors.cell_anchors((32, 0))
    with pytest.raises(ValueError, match="positive"):
        anchors.paper_cell_anchors(ratios=())
    with pytest.raises(ValueError, match="2 maps"):
        anchors.pyramid_anchors((64, 64), [(8, 8), (4, 4)])
    with pytest.raises(ValueError, match="at least 1"):
        anchors.pyramid_anchors((4, 4), [(8, 8)], sizes=((32,),))
