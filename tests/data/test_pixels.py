"""Pixels of other kinds than 8-bit RGB: each comes out right, by numpy from what was written, or is refused by name."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from pixel_kinds import BYTES, COLORS, DEEP, GRAY, saved, shades
from tiff_files import tiff_bytes
from tiny_sets import encoded, photo

from cvjax.data.decode import decode_image, decode_label_numbers, image_size
from cvjax.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(kind):
    frames = [Image.fromarray(np.full((6, 8, 3), level, np.uint8)) for level in (200, 100, 0)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode_image(data, "a.img"), np.full((6, 8, 3), 200))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_16_bits(channels):
    deep = DEEP[..., 0] if channels == 1 else DEEP[..., [2, 1, 0, 3][:channels]]
    data = cv2.imencode(".png", deep)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, "a.png"), GRAY if channels == 1 else COLORS)
    for shift, high in ((4, 4095), (2, 16383), (6, 1023)):
        dark = cv2.imencode(".png", deep >> shift)[1].tobytes()
        with pytest.raises(DataError, match=rf"^a\.png: its 16-bit samples reach only {high} of 65535, .* dark; save"):
            decode_image(dark, "a.png")
        with pytest.raises(DataError, match=rf"^a\.png: its 16-bit samples reach only {high} of 65535"):
            decode_image(dark + b"\n", "a.png")
    black = cv2.imencode(".png", deep * np.uint16(0))[1].tobytes()
    assert not decode_image(black, "a.png").any()


def test_png_of_16_bits_with_gray_and_alpha():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP[..., :2])
    np.testing.assert_array_equal(decode_image(png(8, 6, 16, 4, rows), "a.png"), GRAY)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit(kind):
    bits = RNG.integers(0, 2, (6, 8)).astype(bool)
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(bits), kind), "a.img"), shades(bits * 255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_gray_with_alpha(kind):
    picture = Image.fromarray(BYTES[..., :2], "LA") if kind != "WEBP" else Image.fromarray(BYTES)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    expected = COLORS if kind == "WEBP" else GRAY
    np.testing.assert_array_equal(decode_image(saved(picture, kind, **options), "a.img"), expected)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
@pytest.mark.parametrize("transparent", [0, 3])
def test_a_palette_with_transparency_gives_its_colors(kind, transparent):
    indices = np.arange(48, dtype=np.uint8).reshape(6, 8) % 8
    palette = RNG.integers(0, 256, (8, 3)).astype(np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(palette.tobytes())
    data = saved(picture, kind, transparency=transparent)
    np.testing.assert_array_equal(decode_image(data, "a.img"), palette[indices])


@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_a_color_key_does_not_paint(kind):
    picture = Image.fromarray(BYTES[..., 0] if kind == "L" else COLORS)
    key = int(BYTES[2, 2, 0]) if kind == "L" else tuple(map(int, COLORS[2, 2]))
    data = saved(picture, "PNG", transparency=key)
    np.testing.assert_array_equal(decode_image(data, "a.png"), GRAY if kind == "L" else COLORS)


def inks(colors: np.ndarray) -> np.ndarray:
    """Cyan, magenta and yellow for colors, and no black."""
    return np.concatenate([255 - colors, np.zeros_like(colors[..., :1])], axis=-1)


def test_cmyk_jpeg_has_inverted_inks_as_adobe_writes_them():
    colors = photo(3)
    data = saved(Image.fromarray(inks(colors), "CMYK"), "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in data  # Pillow writes the inks inverted, and a segment of Adobe's.
    assert np.abs(decode_image(data, "a.jpg").astype(int) - colors).mean() < 2


def test_ycck_jpeg():
    """The segment of Adobe with transform 2 says that the first three inks are stored as luma and chroma."""
    colors = photo(3)
    luma = np.asarray(Image.fromarray(255 - colors).convert("YCbCr"))  # of the colors' complements, by the standard
    stored = np.concatenate([luma, np.full((30, 40, 1), 255, np.uint8)], -1)
    data = saved(Image.fromarray(255 - stored, "CMYK"), "JPEG", quality=100, subsampling=0)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    data = data[:at] + b"\2" + data[at + 1 :]
    assert np.abs(decode_image(data, "a.jpg").astype(int) - colors).mean() < 2


def test_levels_of_a_pgm_are_those_of_its_header():
    data = b"P5 8 6 4095\n" + (DEEP[..., 0] >> 4).astype(">u2").tobytes()
    expected = (DEEP[..., 0] >> 4) * (65535 / 4095) / 256
    assert np.abs(decode_image(data, "a.pgm") - expected[..., None]).max() <= 1
    data = b"P6 8 6 255\n" + COLORS.tobytes()
    np.testing.assert_array_equal(decode_image(data, "a.ppm"), COLORS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_the_content_and_not_the_suffix_decides(kind):
    data = encoded(photo(0), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    found = decode_image(data, "a.jpg")
    assert np.abs(found.astype(int) - expected).max() <= 2
    assert image_size(data, "a.jpg") == (30, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_every_format_cut_short_is_an_error(kind, keep):
    data = encoded(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8), kind)
    with pytest.raises(DataError, match=r"^a\.img: the image is cut short or damaged"):
        decode_image(data[: int(len(data) * keep)], "a.img")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty; fetch"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "this is a HEIC photograph, as phones write them, .* convert it to JPEG",
        ),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "this is an SVG drawing, which has no pixels, .* as PNG"),
        (b"<?xml version='1.0'?>\n<svg/>", "this is an SVG drawing"),
        (b"<!DOCTYPE html><html>404</html>", "this is a web page, as a failed download leaves it, .* fetch"),
        (b"%PDF-1.7\n", "this is a PDF, and is not read; export its pages as PNG"),
        (b"\x93NUMPY\1\0", "this is an array of NumPy, and is not read; save it as PNG"),
        (b"\0" * 128 + b"DICM", "this is a DICOM file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "this is a pointer of Git LFS, .* `git lfs pull`"),
        (b"no image", "not an image in a known format; fetch"),
    ],
)
def test_what_is_no_image_is_named(data, words):
    for read in (decode_image, image_size):
        with pytest.raises(DataError, match=rf"^a\.jpg: {words}"):
            read(data, "a.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_more_pixels_than_fit_are_refused_before_they_are_made(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)  # nobody may ask it
    if kind == "PNG":
        data = png(50_000, 50_000, 8, 0, b"")
    elif kind == "TIFF":
        data = tiff_bytes(COLORS, tags={256: [60_000], 257: [60_000]})
    elif kind == "JPEG":
        data = encoded(photo(0), "JPEG")
        at = data.index(b"\xff\xc0") + 5
        data = data[:at] + struct.pack(">HH", 60_000, 60_000) + data[at + 4 :]
    else:
        data = encoded(photo(0), "BMP")
        data = data[:18] + struct.pack("<ii", 60_000, 60_000) + data[26:]
    with pytest.raises(DataError, match=r"^a\.img: its header claims more pixels than any .* 178,956,970; cut it into"):
        decode_image(data, "a.img")


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DataError, match=r"^a\.png: "):
        decode_image(png(0, 4, 8, 0, b""), "a.png")


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
@pytest.mark.parametrize("deep", [False, True])
def test_masks_of_equal_channels_give_one(shape, deep):
    numbers = RNG.integers(0, 21, (6, 8)).astype(np.uint16 if deep else np.uint8)
    stored = np.repeat(numbers[..., None], 4, axis=-1)
    stored[..., 3] = np.iinfo(numbers.dtype).max
    data = cv2.imencode(".png", numbers if len(shape) == 2 else stored[..., : shape[2]])[1].tobytes()
    found = decode_label_numbers(data, "m.png")
    assert found.dtype == numbers.dtype
    np.testing.assert_array_equal(found, numbers)


def test_masks_with_alpha():
    numbers = RNG.integers(0, 21, (6, 8)).astype(np.uint8)
    opaque = saved(Image.fromarray(np.stack([numbers, np.full_like(numbers, 255)], -1), "LA"), "PNG")
    np.testing.assert_array_equal(decode_label_numbers(opaque, "m.png"), numbers)
    alpha = np.full_like(numbers, 255)
    alpha[0, 0] = 0
    clear = saved(Image.fromarray(np.stack([numbers, alpha], -1), "LA"), "PNG")
    with pytest.raises(DataError, match=r"^m\.png: parts of this mask are transparent, .* with 255 where nothing"):
        decode_label_numbers(clear, "m.png")


@pytest.mark.parametrize("key", [0, 3])
def test_a_transparent_number_is_the_number(key):
    """Tools mark the background of a palette or gray mask as transparent."""
    numbers = RNG.integers(0, 5, (6, 8)).astype(np.uint8)
    gray = Image.fromarray(numbers)
    np.testing.assert_array_equal(decode_label_numbers(saved(gray, "PNG", transparency=key), "m.png"), numbers)
    palette = Image.fromarray(numbers)
    palette.putpalette(RNG.integers(0, 256, 15).astype(np.uint8).tobytes())
    np.testing.assert_array_equal(decode_label_numbers(saved(palette, "PNG", transparency=key), "m.png"), numbers)


@pytest.mark.parametrize("colors", [2, 3, 5, 16, 17, 200, 256])
def test_a_palette_mask_of_any_number_of_colors(colors):
    """Pillow writes 1, 2, 4 or 8 bits, as few as the palette needs; the colors repeat, the indices do not."""
    numbers = (np.arange(256).reshape(16, 16) % colors).astype(np.uint8)
    picture = Image.fromarray(numbers)
    picture.putpalette([level for number in range(colors) for level in (7 * (number % 2), 0, 0)])
    data = saved(picture, "PNG")
    assert data[24] == next(bits for bits in (1, 2, 4, 8) if colors <= 2**bits)
    np.testing.assert_array_equal(decode_label_numbers(data, "m.png"), numbers)


def png(width: int, height: int, bits: int, color: int, rows: bytes) -> bytes:
    """A PNG by its header and its rows, each after a byte 0."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
