"""VOC's palette, against the colors that its development kit publishes."""

import numpy as np
import pytest

from cvjax.errors import DataError
from cvjax.visual.palette import colorize, voc_palette

# fmt: off
PUBLISHED = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
    (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
    (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
]
# fmt: on


def test_voc_colors():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    np.testing.assert_array_equal(palette[:21], PUBLISHED)
    np.testing.assert_array_equal(palette[255], (224, 224, 192))
    assert len({tuple(color) for color in palette}) == 256


def test_palette_cannot_be_spoilt():
    with pytest.raises(ValueError, match="read-only"):
        voc_palette()[0] = 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_colorize(dtype):
    mask = np.array([[0, 1], [15, 255], [2, 2]], dtype)
    picture = colorize(mask)
    assert picture.dtype == np.uint8
    expected = [[(0, 0, 0), (128, 0, 0)], [(192, 128, 128), (224, 224, 192)], [(0, 128, 0)] * 2]
    np.testing.assert_array_equal(picture, expected)


def test_colorize_with_another_palette():
    picture = colorize(np.array([[1, 0]]), np.array([(1, 2, 3), (4, 5, 6)], np.uint8))
    np.testing.assert_array_equal(picture, [[(4, 5, 6), (1, 2, 3)]])


def test_colorize_refuses_what_is_no_label_map():
    for labels in ([[-1]], [[256]]):
        with pytest.raises(DataError, match="palette"):
            colorize(np.array(labels))
    with pytest.raises(TypeError, match="argmax"):
        colorize(np.zeros((2, 2)))
