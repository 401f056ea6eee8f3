"""Sizes and orientations from headers, against Pillow, and boxes that turn with their image."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from tiny_sets import photo

from cvjax.data.annotations import fit_objects, make_objects
from cvjax.data.orientation import Header, boxes_are_upright, read_header, turned_upright
from cvjax.errors import DataError

HEIGHT, WIDTH = 20, 30
BOX = (3, 4, 9, 17)


def said(header: Header) -> tuple[int, int, int]:
    return header.height, header.width, header.orientation


def stored(kind: str, orientation: int | None, box=BOX) -> bytes:
    """An image with a white rectangle where its stored pixels have the box."""
    array = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    array[box[1] : box[3], box[0] : box[2]] = 255
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])  # these keep the rectangle's border as it is
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pillow_turns_the_image(kind, orientation):
    data = stored(kind, orientation)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))[..., 0]
    header = read_header(data, "a")
    assert said(header) == (HEIGHT, WIDTH, orientation)
    assert header.upright_size == upright.shape
    rows, columns = np.flatnonzero(upright.any(1)), np.flatnonzero(upright.any(0))
    seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    np.testing.assert_array_equal(turned_upright(np.array([BOX], np.float32), header), [seen])

    # The same from objects: the stored size keeps boxes of the stored pixels, the upright one those of a viewer.
    sizes = {(HEIGHT, WIDTH): BOX, upright.shape: seen}
    for size, box in sizes.items():
        objects = fit_objects(make_objects([box], [0]), header, size, ("a.xml", "a.jpg"), ["cat"])
        np.testing.assert_array_equal(objects.boxes, [seen])
    for size in (None, (0, 0)):
        objects = fit_objects(make_objects([seen], [0]), header, size, ("a.xml", "a.jpg"), ["cat"])
        np.testing.assert_array_equal(objects.boxes, [seen])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_headers_are_read_from_bytes_and_files(kind, tmp_path):
    path = tmp_path / "a"
    for orientation in (None, 1, 6, 0, 9):
        path.write_bytes(stored(kind, orientation))
        wanted = (HEIGHT, WIDTH, 6 if orientation == 6 else 1)
        assert said(read_header(path, "a")) == wanted
        assert said(read_header(path.read_bytes(), "a")) == wanted


def test_exif_behind_the_pixels_of_a_png_counts_and_damaged_exif_does_not():
    data = stored("PNG", 6)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]  # in front of IEND
    assert said(read_header(moved, "a")) == (HEIGHT, WIDTH, 6)
    jpeg = stored("JPEG", 6)
    assert said(read_header(jpeg.replace(b"Exif\0\0MM", b"Exif\0\0??"), "a")) == (HEIGHT, WIDTH, 1)


def test_only_bytes_at_the_beginning_are_read(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(photo(0, 500, 700)).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:700])  # the pixels are gone
    assert said(read_header(path, "a")) == (500, 700, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an image"),
        (b"no image", "not an image"),
        (stored("JPEG", None)[:30], "header cannot be read"),
        ("nowhere/a.jpg", "header cannot be read .No such file"),
    ],
)
def test_damaged_headers_are_named(data, message):
    with pytest.raises(DataError, match=rf"^b\.jpg: .*{message}"):
        read_header(data, "b.jpg")


def test_which_frame_a_stated_size_means():
    turned, square, plain = (Header("", height=20, width=w, orientation=o) for w, o in ((30, 6), (20, 6), (30, 1)))
    assert turned.upright_size == (30, 20)
    assert [boxes_are_upright(turned, size) for size in ((30, 20), (20, 30), (20, 31))] == [True, False, None]
    assert boxes_are_upright(square, (20, 20)) is True
    assert [boxes_are_upright(plain, size) for size in ((20, 30), (30, 20), None)] == [True, None, True]
    for size in ((40, 60), (30, 20)):
        with pytest.raises(DataError, match=rf"a\.xml: .* stated as {size[0]}x{size[1]} .* a\.jpg has 20x30; put"):
            fit_objects(make_objects([], []), plain, size, ("a.xml", "a.jpg"), ["cat"])


def test_bad_boxes_of_stored_pixels_are_shown_as_stated():
    header = Header("", height=20, width=30, orientation=6)
    for box, what in (((9, 4, 3, 17), "empty or inverted"), ((5, 21, 9, 25), "outside its image of 20x30")):
        shown = ", ".join(map(str, box))
        with pytest.raises(DataError, match=rf"cat at \({shown}\), is {what}"):
            fit_objects(make_objects([box], [0]), header, (20, 30), ("a.xml", "a.jpg"), ["cat"])
    inverted = turned_upright(np.array([(9, 4, 3, 17)], np.float32), header)
    assert inverted[0, 3] < inverted[0, 1]
