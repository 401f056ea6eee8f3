"""Decoding: every kind of file that data sets hold, and the sentence for each that cannot be used."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_sets import encoded, labels, palette_png, photo

from cvjax.data.decode import decode_example, decode_image, decode_mask, encode_mask, image_size
from cvjax.errors import DataError


def assert_close(found: np.ndarray, expected: np.ndarray, levels: float) -> None:
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < levels


def test_jpeg_is_rgb():
    assert_close(decode_image(encoded(photo(0), "JPEG", quality=95), "a.jpg"), photo(0), 2)


def test_png_is_exact():
    np.testing.assert_array_equal(decode_image(encoded(photo(1), "PNG"), "a.png"), photo(1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_gray_becomes_three_equal_channels(kind):
    gray = photo(2)[..., 0]
    assert_close(decode_image(encoded(gray, kind), "a"), np.repeat(gray[..., None], 3, axis=-1), 2)


def test_cmyk_jpeg_is_converted_as_pillow_converts_it():
    data = encoded(photo(3), "JPEG", "CMYK", quality=95)
    assert_close(decode_image(data, "a.jpg"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), 3)


def test_alpha_is_dropped_not_composited():
    alpha = np.random.default_rng(0).integers(0, 256, (30, 40, 1)).astype(np.uint8)
    rgba = np.concatenate([photo(4), alpha], axis=-1)
    np.testing.assert_array_equal(decode_image(encoded(rgba, "PNG"), "a.png"), photo(4))


def test_palette_is_looked_up():
    data = encoded(photo(5), "PNG", "P")
    np.testing.assert_array_equal(decode_image(data, "a.png"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tail", [b"", b"\n"], ids=["clean", "trailing byte"])
def test_16_bit_keeps_the_high_byte(channels, tail):
    deep = np.random.default_rng(0).integers(0, 65536, (12, 9, channels)).astype(np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes() + tail
    expected = np.broadcast_to((deep >> 8)[..., ::-1], (12, 9, 3))
    np.testing.assert_array_equal(decode_image(data, "a.png"), expected)


def test_bytes_after_the_end_do_no_harm():
    data = encoded(photo(7), "JPEG")
    assert_close(decode_image(data + b"\0\0", "a.jpg"), decode_image(data, "a.jpg").astype(int), 1)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_photo_is_an_error(kind, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encoded(noise, kind)
    with pytest.raises(DataError, match=r"^cut\.img: the image is cut short or damaged .*fetch or export"):
        decode_image(data[: int(len(data) * keep)], "cut.img")


def test_truncated_photo_is_an_error_although_opencv_takes_it(monkeypatch):
    # As OpenCV releases do that fill what is missing with gray.
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: np.full((30, 40, 3), 128, np.uint8))
    with pytest.raises(DataError, match=r"^cut\.jpg: the image is cut short or damaged"):
        decode_image(encoded(photo(8), "JPEG")[:-40], "cut.jpg")


def test_no_image_is_an_error():
    with pytest.raises(DataError, match=r"^a\.jpg: the file is empty; fetch"):
        decode_image(b"", "a.jpg")
    with pytest.raises(DataError, match=r"^a\.jpg: not an image in a known format; fetch"):
        decode_image(b"nothing of an image", "a.jpg")


@pytest.mark.parametrize("encode", [palette_png, lambda mask: encoded(mask, "PNG"), encode_mask])
def test_mask_gives_the_stored_numbers(encode):
    mask = decode_mask(encode(labels(0)), "m.png", 21)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, labels(0))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("tail", [b"", b"\n"], ids=["clean", "trailing byte"])
def test_gray_mask_of_every_depth(bits, tail):
    classes = min(2**bits, 16)
    mask = np.random.default_rng(bits).integers(0, classes, (6, 16)).astype(np.uint8)
    data = gray_png(mask, bits) + tail
    np.testing.assert_array_equal(decode_mask(data, "m.png", classes), mask)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_mask_of_few_bits(bits):
    mask = np.random.default_rng(bits).integers(0, 2**bits, (6, 16)).astype(np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette([37 * n % 256 for n in range(3 * 2**bits)])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", bits=bits)
    np.testing.assert_array_equal(decode_mask(buffer.getvalue(), "m.png", 2**bits), mask)


@pytest.mark.parametrize("deep", [False, True])
def test_void_labels_become_255(deep):
    mask = np.array([[0, 11], [3, 255]], np.uint16 if deep else np.uint8)
    data = cv2.imencode(".png", mask)[1].tobytes()
    np.testing.assert_array_equal(decode_mask(data, "m.png", 11, void=(11,)), [[0, 255], [3, 255]])


@pytest.mark.parametrize(("label", "classes"), [(77, 21), (21, 21), (254, 21), (254, 254)])
def test_label_outside_is_an_error(label, classes):
    mask = labels(1)
    mask[5, 7] = label
    message = f"2011_1.png: label {label} is outside [0, {classes}) and is not 255; correct the mask"
    with pytest.raises(DataError, match=f"^{re.escape(message)}"):
        decode_mask(palette_png(mask), "2011_1.png", classes)
    mask[5, 7] = 20
    decode_mask(palette_png(mask), "2011_1.png", classes)


def test_16_bit_label_outside_is_not_wrapped():
    mask = np.array([[0, 256 + 3]], np.uint16)
    with pytest.raises(DataError, match="label 259 is outside"):
        decode_mask(cv2.imencode(".png", mask)[1].tobytes(), "m.png", 21)


def test_255_classes_leave_nothing_outside():
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), "m.png", 255), mask)
    with pytest.raises(ValueError, match="num_classes must lie in"):
        decode_mask(encode_mask(mask), "m.png", 256)


def palette(kind: str) -> bytes:
    picture = Image.open(io.BytesIO(palette_png(labels(0))))
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def gray_as_colors(kind: str, **options) -> bytes:
    return encoded(np.repeat(labels(0)[..., None], 3, axis=-1), kind, **options)


LOSSLESS = {
    "bmp": encoded(labels(0), "BMP"),
    "gif": encoded(labels(0), "GIF"),
    "tif": encoded(labels(0), "TIFF", compression="tiff_lzw"),
    "16-bit tif": encoded(labels(0).astype(np.uint16), "TIFF"),
    "32-bit tif": encoded(labels(0).astype(np.int32), "TIFF"),
    "palette tif": palette("TIFF"),
    "palette bmp": palette("BMP"),
    "lossless webp": gray_as_colors("WEBP", lossless=True),
    "gray png in colors": gray_as_colors("PNG"),
    "gray tif in colors": gray_as_colors("TIFF"),
    "opaque gray png": encoded(labels(0), "PNG", "RGBA"),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_masks_in_other_lossless_formats(kind):
    mask = decode_mask(LOSSLESS[kind], "m", 21)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, labels(0))


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PNG"])
@pytest.mark.parametrize("bits", [1, 8])
def test_two_levels_are_what_is_stored(kind, bits):
    mask = np.random.default_rng(0).integers(0, 2, (6, 16)).astype(np.uint8)
    picture = Image.fromarray(mask.astype(bool)) if bits == 1 else Image.fromarray(mask)
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    np.testing.assert_array_equal(decode_mask(buffer.getvalue(), "m", 2), mask)


def pages() -> bytes:
    buffer = io.BytesIO()
    first = Image.fromarray(labels(0))
    first.save(buffer, "TIFF", save_all=True, append_images=[first, first])
    return buffer.getvalue()


UNUSABLE = {
    "a JPEG, whose compression changes labels; save label maps": encoded(labels(0), "JPEG"),
    "a lossy WebP, whose compression": gray_as_colors("WEBP", lossless=False),
    "a TIFF with JPEG's compression, whose": encoded(labels(0), "TIFF", compression="jpeg"),
    "a color PNG, whose pixels are colors": encoded(photo(0), "PNG"),
    "a color or alpha BMP, whose": encoded(photo(0), "BMP"),
    "a color or alpha GIF, whose": palette("GIF"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_masks_that_are_no_label_maps_are_errors(what):
    with pytest.raises(DataError, match=f"^m: this mask is {what}"):
        decode_mask(UNUSABLE[what], "m", 21)


def test_masks_of_several_pages_or_of_fractions_are_errors():
    with pytest.raises(DataError, match=r"^m: this mask has 3 pages, and an image has one"):
        decode_mask(pages(), "m", 21)
    with pytest.raises(DataError, match=r"^m: this mask holds fractions, and labels are whole"):
        decode_mask(encoded(labels(0).astype(np.float32), "TIFF"), "m", 21)
    with pytest.raises(DataError, match=r"^m: this mask holds the number -3, and labels are"):
        decode_mask(encoded(np.full((2, 2), -3, np.int32), "TIFF"), "m", 21)
    with pytest.raises(DataError, match=r"^m: this mask holds the number 70000"):
        decode_mask(encoded(np.full((2, 2), 70_000, np.int32), "TIFF"), "m", 21)


@pytest.mark.parametrize("encode", [palette_png, encode_mask])
def test_truncated_mask_is_an_error(encode):
    data = encode(np.random.default_rng(0).integers(0, 21, (64, 64)).astype(np.uint8))
    with pytest.raises(DataError, match=r"^m\.png: the image is cut short or damaged"):
        decode_mask(data[: len(data) // 2], "m.png", 21)


def test_example():
    record = {"image": encoded(photo(0), "JPEG"), "mask": palette_png(labels(0)), "id": "x"}
    example = decode_example(record, 21)
    np.testing.assert_array_equal(example["image"], decode_image(record["image"], "x"))
    np.testing.assert_array_equal(example["mask"], labels(0))


def test_example_of_two_sizes_is_an_error():
    record = {"image": encoded(photo(0), "JPEG"), "mask": palette_png(labels(0, 30, 41)), "id": "x"}
    message = r"^x\.png: the mask is 30x41 \(height x width\) and its image is 30x40; make both the same size"
    with pytest.raises(DataError, match=message):
        decode_example(record, 21)


def test_image_size_reads_headers_only():
    data = encoded(photo(0, 30, 40), "PNG")
    assert image_size(data[:33], "a.png") == (30, 40)
    with pytest.raises(DataError, match=r"^a\.png: not an image"):
        image_size(b"nothing", "a.png")


def test_real_images_all_decode(shared_dir):
    voc = shared_dir / "data" / "VOCdevkit" / "VOC2012"
    count = 0
    for path in (voc / "JPEGImages").iterdir():
        mask = (voc / "SegmentationClass" / f"{path.stem}.png").read_bytes()
        record = {"image": path.read_bytes(), "mask": mask, "id": path.stem}
        example = decode_example(record, 21)
        np.testing.assert_array_equal(example["mask"], np.asarray(Image.open(io.BytesIO(mask))))
        assert example["mask"].shape == image_size(record["image"], path.name)
        count += 1
    assert count == 64


def gray_png(mask: np.ndarray, bits: int) -> bytes:
    """A gray PNG of any depth, written by hand because no library writes 2 and 4 bits."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    spread = np.unpackbits(mask.astype(">u2")[..., None].view(np.uint8), axis=-1)[..., 16 - bits :]
    rows = np.packbits(spread.reshape(mask.shape[0], -1), axis=-1)
    pixels = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
