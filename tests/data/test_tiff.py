"""TIFF: samples of many kinds come out right, by numpy from what was written, or are refused by name."""

import struct

import numpy as np
import pytest
from PIL import Image
from pixel_kinds import BYTES, COLORS, DEEP, GRAY, saved, shades
from tiff_files import tiff_bytes
from tiny_sets import encoded, photo

from cvjax.data.decode import decode_image, image_size
from cvjax.errors import DataError


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("samples", "tags", "expected"),
    [
        (BYTES[..., 0], {}, GRAY),
        (BYTES[..., 0], {262: [0]}, 255 - GRAY),
        (COLORS, {}, COLORS),
        (BYTES, {338: [2]}, COLORS),
        (BYTES, {338: [0]}, COLORS),
        (BYTES[..., :2], {338: [2]}, GRAY),
        (DEEP[..., 0], {}, GRAY),
        (DEEP[..., 0], {262: [0]}, 255 - GRAY),
        (DEEP[..., :3], {}, COLORS),
        (DEEP, {338: [2]}, COLORS),
        (DEEP[..., :2], {338: [2]}, GRAY),
        (DEEP[..., :3] >> 4, {281: [4095] * 3}, np.rint((DEEP[..., :3] >> 4) * (255 / 4095))),
        (DEEP[..., 0] >> 6, {281: [1023]}, np.rint(shades(DEEP[..., 0] >> 6) * (255 / 1023))),
        (np.zeros((6, 8), np.uint16), {}, np.zeros((6, 8, 3))),
        (BYTES[..., 0].astype(np.int32), {}, GRAY),
        (COLORS.astype(np.int32), {}, COLORS),
        (COLORS.astype(np.float32) / np.float32(255), {}, COLORS),
        (COLORS / 255, {}, COLORS),
        (COLORS.astype(np.float32), {}, COLORS),
        (COLORS + 0.25, {}, COLORS),
        (BYTES[..., 0].astype(np.float32), {}, GRAY),
        (BYTES / np.float32(255), {338: [2]}, COLORS),
        (np.zeros((6, 8), np.float32), {}, np.zeros((6, 8, 3))),
    ],
)
def test_tiff(samples, tags, order, expected):
    if samples.dtype == np.float64 and samples.max() > 255:
        samples = np.minimum(samples, 255)
    data = tiff_bytes(samples, order, tags=tags)
    np.testing.assert_array_equal(decode_image(data, "a.tif"), expected)
    assert image_size(data, "a.tif") == (6, 8)


def test_tiff_in_planes():
    np.testing.assert_array_equal(decode_image(tiff_bytes(COLORS, planes=True), "a.tif"), COLORS)
    with pytest.raises(DataError, match=r"^a\.tif: a TIFF of 16 bits with a plane for each channel is not read; save"):
        decode_image(tiff_bytes(DEEP[..., :3], planes=True), "a.tif")


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_keeps_colors_under_alpha(compression):
    data = encoded(BYTES, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode_image(data, "a.tif"), COLORS)


def test_tiff_with_colors_times_alpha_gives_the_colors_back():
    """A level c at the alpha a is stored as c * a / 255, and comes back to within rounding."""
    colors, alpha = photo(0), np.full((30, 40, 1), 128, np.uint8)
    stored = np.concatenate([np.rint(colors * (128 / 255)).astype(np.uint8), alpha], axis=-1)
    found = decode_image(tiff_bytes(stored, tags={338: [1]}), "a.tif")
    assert np.abs(found.astype(int) - colors).max() <= 2


@pytest.mark.parametrize(
    ("samples", "tags", "words"),
    [
        (DEEP >> 4, {338: [2]}, r"its 16-bit samples reach only 4095 of 65535.* come out dark; save it with 8 bits"),
        (DEEP[..., 0] >> 2, {}, r"its 16-bit samples reach only 16383 of 65535"),
        (DEEP[..., 0].astype(np.int32), {}, r"its integers of 32 bits reach 65535, and nothing says .* white; save"),
        (DEEP[..., 0].astype(np.int32) - 40000, {}, r"some samples are negative, the least is -"),
        (np.full((4, 4), -1, np.int16), {}, r"some samples are negative, the least is -1"),
        (BYTES[..., 0].astype(np.int8), {}, r"a TIFF with 1 signed channel of 8 bits is not read; save"),
        (np.full((4, 4), 1.5), {}, r"its floating-point samples reach 1\.5, so they lie neither between 0 and 1"),
        (np.full((4, 4), 300, np.float32), {}, r"its floating-point samples reach 300,"),
        (np.full((4, 4), -0.5, np.float32), {}, r"some samples are negative, the least is -0\.5"),
        (np.full((4, 4), np.nan, np.float32), {}, r"some samples are infinite or not a number"),
        (np.full((4, 4), np.inf), {}, r"some samples are infinite or not a number"),
        (np.ones((4, 4), np.float16), {}, r"a TIFF with 1 floating-point channel of 16 bits is not read"),
        (DEEP, {262: [5]}, r"a TIFF with 4 channels of 16 bits is not read"),
        (DEEP, {338: [1]}, r"a TIFF of 16 bits whose colors are multiplied by alpha is not read"),
        (np.tile(DEEP, 2), {}, r"a TIFF with 8 channels of 16 bits is not read"),
        (BYTES, {262: [1], 338: [0, 0, 0]}, r"a TIFF with such pixels is not read"),
    ],
)
def test_tiff_that_is_refused(samples, tags, words):
    with pytest.raises(DataError, match=rf"^a\.tif: {words}"):
        decode_image(tiff_bytes(samples, tags=tags), "a.tif")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("samples", [COLORS, DEEP[..., :3], COLORS / 255])
@pytest.mark.parametrize("keep", [8, 40, 150, 0.9])
def test_tiff_cut_short_is_an_error(samples, keep):
    data = tiff_bytes(samples)
    with pytest.raises(DataError, match=r"^a\.tif: the image is cut short"):
        decode_image(data[: keep if keep > 1 else int(len(data) * keep)], "a.tif")


def test_tiff_of_several_pages_is_refused():
    pages = [Image.fromarray(photo(n)) for n in range(3)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"^a\.tif: this TIFF has 3 pages; save each as a file of its own\.$"):
        decode_image(data, "a.tif")
    small = struct.pack("<HHHII", 1, 254, 4, 1, 1) + b"\0\0\0\0"  # A table of one tag: a small copy.
    data = tiff_bytes(COLORS)
    at = 10 + 12 * int.from_bytes(data[8:10], "little")  # Where the place of the next table stands.
    data = data[:at] + struct.pack("<I", len(data)) + data[at + 4 :] + small
    np.testing.assert_array_equal(decode_image(data, "a.tif"), COLORS)
    whole = data[: -len(small)] + struct.pack("<HHHII", 1, 254, 4, 1, 2) + b"\0\0\0\0"
    with pytest.raises(DataError, match=r"^a\.tif: this TIFF has 2 pages"):
        decode_image(whole, "a.tif")


def test_a_raw_file_of_a_camera_is_refused():
    """Such a file is a TIFF whose first page is a thumbnail, and whose picture lies elsewhere."""
    with pytest.raises(DataError, match=r"^a\.dng: this TIFF begins with a small copy of its picture, .* to JPEG"):
        decode_image(tiff_bytes(COLORS, tags={254: [1]}), "a.dng")
