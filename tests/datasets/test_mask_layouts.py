"""Folders of images and masks as people have them: names of folders and files, lists, names of classes."""

import unicodedata

import numpy as np
import pytest
from tiny_sets import encoded, labels, photo, write_tree

from cvjax.data.decode import decode_example
from cvjax.datasets.image_folder import image_folder_source, image_folder_splits
from cvjax.errors import DataError

NAMES = "\n".join(f"class {number}" for number in range(21)).encode()
IMAGE = encoded(photo(0), "PNG")


def mask(number: int) -> bytes:
    return encoded(labels(number), "PNG")


def tree(images: str, masks: str, image_end: str = "", mask_end: str = "", count: int = 2) -> dict[str, bytes]:
    """Images a, b, ... and masks of these below two folders; {} stands for the split."""
    files = {"classes.txt": NAMES}
    for seed, split in enumerate(("train", "val")):
        for number in range(count):
            letter = chr(ord("a") + number)
            files[f"{images.format(split)}/{letter}{image_end}.png"] = IMAGE
            files[f"{masks.format(split)}/{letter}{mask_end}.png"] = mask(10 * seed + number)
    return files


def assert_reads(source, ids: list[str], seeds: list[int]) -> None:
    assert [source[index]["id"] for index in range(len(source))] == ids
    for index, seed in enumerate(seeds):
        found = decode_example(source[index], 21, source.void)["mask"]
        np.testing.assert_array_equal(found, labels(seed))


@pytest.mark.parametrize(
    "masks", ["masks", "annotations", "Annotations", "annots", "labels", "SegmentationClass", "gt"]
)
@pytest.mark.parametrize("images", ["images", "JPEGImages", "imgs", "img"])
@pytest.mark.parametrize("form", ["{{}}/{0}", "{0}/{{}}"], ids=["split first", "split last"])
def test_folders_of_any_common_name(tmp_path, form, images, masks):
    folder = write_tree(tmp_path, tree(form.format(images), form.format(masks)))
    assert image_folder_splits(folder) == ["train", "val"]
    assert_reads(image_folder_source(folder, "train"), ["a", "b"], [0, 1])
    assert_reads(image_folder_source(folder, "val"), ["a", "b"], [10, 11])


def test_vocs_lists(tmp_path):
    files = {f"JPEGImages/{n}.jpg": encoded(photo(n), "JPEG") for n in range(3)}
    files |= {f"SegmentationClass/{n}.png": mask(n) for n in range(3)}
    files |= {"ImageSets/Segmentation/train.txt": b"2\n0\n", "ImageSets/Segmentation/val.txt": b"1\n"}
    folder = write_tree(tmp_path, files | {"classes.txt": NAMES, "Annotations/0.xml": b"<annotation/>"})
    assert_reads(image_folder_source(folder, "train"), ["2", "0"], [2, 0])
    assert_reads(image_folder_source(folder, "val"), ["1"], [1])


@pytest.mark.parametrize("image_end", ["", "_image", "_sat"])
@pytest.mark.parametrize("mask_end", ["", "_mask", "-mask", "_seg", "_labels", "_L", ".gt"])
def test_suffixes_beside_the_stem(tmp_path, image_end, mask_end):
    folder = write_tree(tmp_path, tree("{}/images", "{}/masks", image_end, mask_end))
    assert_reads(image_folder_source(folder, "train"), [f"a{image_end}", f"b{image_end}"], [0, 1])


def test_a_stem_that_ends_like_a_suffix_is_its_own(tmp_path):
    files = {"classes.txt": NAMES, "train/images/x.png": IMAGE, "train/images/x_mask.png": IMAGE}
    folder = write_tree(tmp_path, files | {"train/masks/x.png": mask(0), "train/masks/x_mask.png": mask(1)})
    assert_reads(image_folder_source(folder, "train"), ["x", "x_mask"], [0, 1])


@pytest.mark.parametrize(("suffix", "kind"), [("tif", "TIFF"), ("TIF", "TIFF"), ("bmp", "BMP"), ("gif", "GIF")])
def test_other_lossless_formats(tmp_path, suffix, kind):
    files = {"classes.txt": NAMES, "train/images/a.png": IMAGE, f"train/masks/a.{suffix}": encoded(labels(3), kind)}
    source = image_folder_source(write_tree(tmp_path, files), "train")
    assert_reads(source, ["a"], [3])
    assert source.header_size(0) == labels(3).shape


LISTS = {
    "blank lines": b"\n\nb\n\n  a  \n\n",
    "remarks": b"# mine\nb\n# more\na\n",
    "byte-order mark": b"\xef\xbb\xbfb\na\n",
    "utf-16": "b\na\n".encode("utf-16"),
    "crlf": b"b\r\na\r\n",
    "old mac": b"b\ra\r",
    "extensions": b"b.png\na.png\n",
    "other extension": b"b.jpg\na.JPG\n",
    "paths": b"images/b.png\n./images/a.png\n",
    "windows paths": b"C:\\data\\images\\b.png\r\nC:\\data\\images\\a.png\r\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_as_people_write_them(tmp_path, kind):
    files = {"images/a.png": IMAGE, "images/b.png": IMAGE, "masks/a_mask.png": mask(0), "masks/b_mask.png": mask(1)}
    folder = write_tree(tmp_path, files | {"classes.txt": NAMES, "train.txt": LISTS[kind]})
    assert_reads(image_folder_source(folder, "train"), ["b", "a"], [1, 0])


@pytest.mark.parametrize("image_form", ["NFC", "NFD"])
@pytest.mark.parametrize("mask_form", ["NFC", "NFD"])
@pytest.mark.parametrize("list_form", ["NFC", "NFD"])
def test_unicode_forms_of_one_name(tmp_path, image_form, mask_form, list_form):
    image, other, line = (unicodedata.normalize(form, "réseau") for form in (image_form, mask_form, list_form))
    files = {f"images/{image}.png": IMAGE, f"masks/{other}.png": mask(4), "train.txt": f"{line}\n".encode()}
    folder = write_tree(tmp_path, files | {"classes.txt": NAMES})
    assert_reads(image_folder_source(folder, "train"), ["réseau"], [4])


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfsky\r\nroad\r\n\r\n", b"# two\nsky\n road \n\n", "sky\nroad".encode("utf-16")]
)
def test_class_names_as_people_write_them(tmp_path, text):
    folder = write_tree(tmp_path, {"train/images/a.png": IMAGE, "train/masks/a.png": mask(0), "classes.txt": text})
    assert image_folder_source(folder, "train").class_names == ("sky", "road")


def test_what_does_not_match_is_counted_and_named(tmp_path):
    files = tree("{}/images", "{}/masks")
    files |= {f"train/images/more{n}.png": IMAGE for n in range(5)}
    folder = write_tree(tmp_path, files)
    message = r"train: images without a mask: 5 \(more0, more1, more2, \.\.\.\); add the masks or remove these"
    with pytest.raises(DataError, match=message):
        image_folder_source(folder, "train")
    write_tree(folder, {f"train/masks/more{n}.jpg": b"" for n in range(5)})
    message = r"masks: 5 \(more0, .*\); masks has them as \.jpg, and JPEG changes labels .*: save the label maps as PNG"
    with pytest.raises(DataError, match=message.replace("masks: 5", "a mask: 5")):
        image_folder_source(folder, "train")


def test_masks_of_other_sources_are_no_rivals(tmp_path):
    files = tree("images/{}", "masks/{}") | {"annotations/a.xml": b"", "labels/a.txt": b""}
    folder = write_tree(tmp_path, files)
    assert_reads(image_folder_source(folder, "train"), ["a", "b"], [0, 1])
    write_tree(folder, {"labels/train/a.png": mask(0)})
    with pytest.raises(DataError, match=r": masks may be in any of labels, masks; rename those"):
        image_folder_source(folder, "train")


def test_values_and_void_of_masks(tmp_path):
    levels = np.array([[10, 20, 255, 0], [300, 10, 0, 20]], np.uint16)
    image = encoded(np.zeros((2, 4, 3), np.uint8), "PNG")
    files = {"train/images/a.png": image, "train/masks/a.png": encoded(levels, "PNG"), "classes.txt": b"x\ny\n"}
    source = image_folder_source(write_tree(tmp_path, files), "train", values=(10, 20), void=(0, 300))
    assert source.void == ()  # the label 0 of a record is a class, although the level 0 is void
    found = decode_example(source[0], 2, source.void)["mask"]
    np.testing.assert_array_equal(found, [[0, 1, 255, 255], [255, 0, 255, 1]])


def test_val_is_what_is_held_out(tmp_path):
    files = {path.replace("val/", "valid/"): data for path, data in tree("{}/images", "{}/masks").items()}
    source = image_folder_source(write_tree(tmp_path, files), "val")
    assert source.split == "valid"
    assert_reads(source, ["a", "b"], [10, 11])
