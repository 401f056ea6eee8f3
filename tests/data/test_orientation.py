"""The turn that EXIF states: images as Pillow and a table of its own turn them, masks with their images."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from tiff_files import tiff_bytes
from tiny_sets import encoded, labels, palette_png, photo, write_tree

import cvjax.datasets.labeled_folder as labeled_folder
from cvjax.data.dataset import TfdsDataset, image_sizes
from cvjax.data.decode import decode_example, decode_image, decode_label_numbers, decode_labeled, image_size
from cvjax.data.objects import decode_objects
from cvjax.data.photos import photo_size, read_photo
from cvjax.datasets.image_folder import image_folder_source, prepare_image_folder
from cvjax.datasets.xml_folder import prepare_xml_folder, xml_folder_source
from cvjax.errors import DataError

# Where the first row and the first column of the stored pixels are to be seen, as EXIF 2.32 (4.6.4) has it.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
KINDS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}


def tagged(pixels: np.ndarray, kind: str, orientation: int, order: str = ">") -> bytes:
    """Pixels as a file of a format with the tag."""
    if kind == "TIFF":
        return tiff_bytes(pixels, order, tags={274: [orientation]})
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    return encoded(pixels, kind, exif=exif, **KINDS[kind])


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(30, 40), (32, 32)])
@pytest.mark.parametrize("order", "<>")
def test_images_are_upright(kind, orientation, size, order, tmp_path):
    stored = photo(6, *size)
    data = tagged(stored, kind, orientation, order)
    image = decode_image(data, "a.img")
    with Image.open(io.BytesIO(data)) as picture:
        seen = np.asarray(ImageOps.exif_transpose(picture.convert("RGB") if kind == "TIFF" else picture))
    assert image.shape == TURNED[orientation](stored).shape
    assert image.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(image.astype(int), TURNED[orientation](stored), atol=30 if kind == "JPEG" else 0)
    assert np.abs(image.astype(int) - seen).max() <= (2 if kind == "JPEG" else 0)
    assert image_size(data, "a.img") == image.shape[:2]
    path = tmp_path / "a.img"
    path.write_bytes(data)
    assert photo_size(path) == image.shape[:2]
    np.testing.assert_array_equal(read_photo(path), image)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_png_with_its_tag_after_the_pixels(orientation):
    data = tagged(photo(0), "PNG", orientation)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    np.testing.assert_array_equal(decode_image(moved, "a.png"), TURNED[orientation](photo(0)))


@pytest.mark.parametrize("before", [0, 1, 4080, 4090, 4096, 60_000])
def test_a_jpeg_with_its_tag_behind_other_segments(before):
    """Profiles of color may stand first, and bytes may fill before a marker."""
    data = tagged(photo(0), "JPEG", 6)
    other = b"\xff\xe2" + (before + 2).to_bytes(2) + b"\xff" * before
    moved = data[:2] + other + b"\xff\xff" + other + data[2:]
    np.testing.assert_array_equal(decode_image(moved, "a.jpg"), decode_image(data, "a.jpg"))
    assert image_size(moved, "a.jpg") == (40, 30)


@pytest.mark.parametrize("orientation", [6, 8])
@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_deep_tiff_is_upright(orientation, kind):
    stored = photo(1)
    samples = stored.astype(kind) * np.array(257 if kind == "u2" else 1 / 255, kind)
    data = tiff_bytes(samples, tags={274: [orientation]})
    np.testing.assert_array_equal(decode_image(data, "a.tif"), TURNED[orientation](stored))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_means_nothing_turns_nothing(kind, orientation):
    assert decode_image(tagged(photo(2), kind, orientation), "a.img").shape == (30, 40, 3)


@pytest.mark.parametrize("keep", range(0, 25, 4))
def test_a_damaged_tag_turns_nothing(keep):
    exif = Image.Exif()
    exif[0x0112] = 6
    body = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    body = body[:keep].ljust(len(body), b"\xff")
    data = encoded(photo(3), "JPEG")
    data = data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + data[2:]
    np.testing.assert_array_equal(decode_image(data, "a.jpg"), decode_image(encoded(photo(3), "JPEG"), "a.jpg"))


def test_the_case_of_a_photograph_of_a_phone(shared_dir):
    """The image is 64x80 for a viewer, and the box lies on the object there."""
    folder = shared_dir / "cases" / "d2_exif" / "train"
    with Image.open(folder / "a.jpg") as picture:
        seen = np.asarray(ImageOps.exif_transpose(picture))
    image = read_photo(folder / "a.jpg")
    assert image.shape == (80, 64, 3)
    assert np.abs(image.astype(int) - seen).max() <= 2
    record = xml_folder_source(folder.parent, "train")[0]
    np.testing.assert_array_equal(record["boxes"], [[34, 50, 54, 75]])


@pytest.mark.parametrize("orientation", TURNED)
def test_a_mask_fits_the_upright_image_or_is_turned_with_it(orientation):
    stored, mask = photo(0), labels(0)
    image = tagged(stored, "PNG", orientation)
    upright = TURNED[orientation](mask)
    for drawn in (upright, mask) if orientation > 4 else (upright,):
        example = decode_example({"image": image, "mask": palette_png(np.ascontiguousarray(drawn)), "id": "x"}, 21)
        np.testing.assert_array_equal(example["image"], TURNED[orientation](stored))
        np.testing.assert_array_equal(example["mask"], upright)


def test_a_square_mask_is_as_a_viewer_shows_it():
    image, mask = tagged(photo(0, 32, 32), "PNG", 6), labels(0, 32, 32)
    example = decode_example({"image": image, "mask": palette_png(mask), "id": "x"}, 21)
    np.testing.assert_array_equal(example["mask"], mask)


@pytest.mark.parametrize(("of_image", "of_mask"), [*itertools.product([1, 3, 6], [1, 3, 6, 7])])
def test_a_mask_has_a_tag_of_its_own(of_image, of_mask):
    image, mask = photo(0), labels(0)
    upright = TURNED[of_image](mask)
    inverse = {6: 8}.get(of_mask, of_mask)  # The others are their own inverse.
    stored = np.ascontiguousarray(TURNED[inverse](upright))
    data = tagged(stored, "PNG", of_mask)
    np.testing.assert_array_equal(decode_label_numbers(data, "m.png"), upright)
    example = decode_example({"image": tagged(image, "PNG", of_image), "mask": data, "id": "x"}, 21)
    np.testing.assert_array_equal(example["mask"], upright)


def test_sizes_that_fit_neither_way_are_an_error():
    record = {"image": tagged(photo(0), "JPEG", 6), "mask": palette_png(labels(0, 30, 41)), "id": "x"}
    with pytest.raises(DataError, match=r"the mask is 30x41 \(height x width\) and its image is 40x30;"):
        decode_example(record, 21)
    record = {"image": encoded(photo(0), "JPEG"), "mask": palette_png(labels(0, 40, 30)), "id": "x"}
    with pytest.raises(DataError, match=r"the mask is 40x30 \(height x width\) and its image is 30x40;"):
        decode_example(record, 21)


def test_objects_and_their_classes_are_turned_with_the_image():
    numbers = np.zeros((30, 40), np.uint8)
    numbers[2:7, 10:30] = 1
    record = {
        "image": tagged(photo(0), "JPEG", 6),
        "mask": palette_png(numbers),
        "classes": palette_png(numbers * np.uint8(4)),
        "id": "x",
    }
    things = decode_objects(record, 21)["objects"]
    # Row 2 of 30 becomes column 29 - 2, column 10 becomes row 10.
    np.testing.assert_array_equal(things.boxes, [[23, 10, 28, 30]])
    np.testing.assert_array_equal(things.labels, [4])


def test_masks_of_a_folder_and_of_the_set_prepared_from_it(tmp_path):
    """One mask is drawn on the stored pixels, one on what a viewer shows, one has no tag beside it."""
    mask = labels(0)
    turned = np.ascontiguousarray(TURNED[6](mask))
    folder = write_tree(
        tmp_path / "mine",
        {
            "classes.txt": "\n".join(map(str, range(21))).encode(),
            "train/images/a.png": tagged(photo(0), "PNG", 6),
            "train/masks/a.png": palette_png(mask),
            "train/images/b.jpg": tagged(photo(0), "JPEG", 6),
            "train/masks/b.png": palette_png(turned),
            "train/images/c.png": encoded(photo(0), "PNG"),
            "train/masks/c.png": palette_png(mask),
        },
    )
    files = image_folder_source(folder, "train")
    builder = prepare_image_folder(tmp_path / "data", folder, progress=False)
    prepared = TfdsDataset(builder.data_dir, "train")
    for source in (files, prepared):
        assert image_sizes(source) == [(40, 30), (40, 30), (30, 40)]
        first, second, third = (decode_example(source[index], 21) for index in range(3))
        np.testing.assert_array_equal(first["image"], TURNED[6](photo(0)))
        np.testing.assert_array_equal(first["mask"], turned)
        np.testing.assert_array_equal(second["mask"], turned)
        np.testing.assert_array_equal(third["mask"], mask)


def test_boxes_of_a_prepared_set_are_those_of_the_folder(tmp_path):
    box = "<bndbox><xmin>3</xmin><ymin>5</ymin><xmax>29</xmax><ymax>39</ymax></bndbox>"
    folder = write_tree(
        tmp_path / "pets",
        {
            "train/a.jpg": tagged(photo(0), "JPEG", 8),
            "train/a.xml": f"<annotation><object><name>cat</name>{box}</object></annotation>".encode(),
        },
    )
    builder = prepare_xml_folder(tmp_path / "data", folder, progress=False)
    for source in (
        xml_folder_source(folder, "train"),
        TfdsDataset(builder.data_dir, "train", target="boxes"),
    ):
        np.testing.assert_array_equal(source[0]["boxes"], [[2, 4, 29, 39]])
        assert image_sizes(source) == [(40, 30)]
        assert decode_image(source[0]["image"], "a").shape == (40, 30, 3)


def test_labeled_images_are_upright(tmp_path):
    folder = write_tree(tmp_path, {"train/cat/a.png": tagged(photo(0), "PNG", 6)})
    source = labeled_folder.open_labeled_folder("train", tmp_path, folder)
    np.testing.assert_array_equal(decode_labeled(source[0], 1)["image"], TURNED[6](photo(0)))


def test_opencv_is_never_asked_to_turn(monkeypatch):
    """Its releases differ in the formats whose tag they see."""
    seen = []
    decode = cv2.imdecode

    def spy(data, flags):
        seen.append(flags)
        return decode(data, flags)

    monkeypatch.setattr(cv2, "imdecode", spy)
    decode_image(tagged(photo(0), "JPEG", 6), "a.jpg")
    assert seen
    assert all(flags & cv2.IMREAD_IGNORE_ORIENTATION for flags in seen)
