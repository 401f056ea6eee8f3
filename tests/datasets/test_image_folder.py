"""A user's folder: both layouts, each mistake's sentence, preparation against direct reading."""

import re
import sys

import numpy as np
import pytest
from tiny_sets import encoded, labels, palette_png, photo, write_tree

from cvjax.data.dataset import TfdsDataset
from cvjax.data.decode import decode_example
from cvjax.datasets.image_folder import (
    image_folder_source,
    image_folder_splits,
    open_image_folder,
    prepare_image_folder,
)
from cvjax.datasets.registry import open_dataset
from cvjax.errors import DataError

NAMES = [f"class {number}" for number in range(21)]


def files(prefix: str, numbers: range) -> dict[str, bytes]:
    """Images and masks; odd images are PNG, masks are gray or with a palette."""
    tree = {}
    for number in numbers:
        image = encoded(photo(number), "PNG" if number % 2 else "JPEG")
        mask = palette_png(labels(number)) if number % 2 else encoded(labels(number), "PNG")
        tree[f"{prefix}images/{number:03d}.{'png' if number % 2 else 'jpg'}"] = image
        tree[f"{prefix}masks/{number:03d}.png"] = mask
    return tree


@pytest.fixture
def nested(tmp_path):
    """A folder for each split."""
    tree = {"classes.txt": "\n".join([*NAMES, "", ""]).encode()}
    tree |= files("train/", range(4)) | files("val/", range(4, 6))
    return write_tree(tmp_path / "pets", tree)


@pytest.fixture
def flat(tmp_path):
    """One folder with lists."""
    lists = {"train.txt": b"002\n000\n\n", "val.txt": b"003\n", "classes.txt": "\n".join(NAMES).encode()}
    return write_tree(tmp_path / "flat", {**files("", range(5)), **lists})


def keys(source) -> list[str]:
    return [source[index]["id"] for index in range(len(source))]


def test_a_folder_for_each_split(nested):
    assert image_folder_splits(nested) == ["train", "val"]
    source = image_folder_source(nested, "train")
    assert keys(source) == ["000", "001", "002", "003"]
    assert source.class_names == tuple(NAMES)
    np.testing.assert_array_equal(decode_example(source[1], 21)["image"], photo(1))
    np.testing.assert_array_equal(decode_example(source[1], 21)["mask"], labels(1))


def test_one_folder_with_lists_keeps_their_order(flat):
    assert image_folder_splits(flat) == ["train", "val"]
    assert keys(image_folder_source(flat, "train")) == ["002", "000"]
    assert keys(image_folder_source(flat, "val")) == ["003"]


@pytest.mark.parametrize("void", [(), (3, 20)])
def test_prepared_equals_folder(nested, tmp_path, void):
    builder = prepare_image_folder(tmp_path / "data", nested, void=void, progress=False)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 4, "val": 2}
    assert "tensorflow" not in sys.modules
    folder = open_dataset("image_folder_segmentation", "train", manual_dir=nested, void=void)
    prepared = open_dataset("image_folder_segmentation", "train", data_dir=tmp_path / "data")
    assert isinstance(prepared, TfdsDataset)
    assert (prepared.class_names, keys(prepared)) == (folder.class_names, keys(folder))
    for index in range(4):
        assert prepared[index]["image"] == folder[index]["image"]
        expected = np.where(np.isin(labels(index), void), 255, labels(index))
        for source in (prepared, folder):
            mask = decode_example(source[index], 21, source.void)["mask"]
            np.testing.assert_array_equal(mask, expected)


def test_several_prepared_sets_are_told_apart(nested, flat, tmp_path):
    data = tmp_path / "data"
    for folder in (nested, flat):
        prepare_image_folder(data, folder, progress=False)
    assert len(open_image_folder("train", data, config="flat")) == 2
    assert len(open_image_folder("train", data, config="pets")) == 4
    with pytest.raises(DataError, match=r"no single data set is prepared in .* \(there is flat, pets\);"):
        open_image_folder("train", data)
    with pytest.raises(DataError, match=r"cats is prepared in .* \(there is flat, pets\); name"):
        open_image_folder("train", data, config="cats")


def test_images_and_masks_must_match(nested):
    extra = files("train/", range(10, 15))
    write_tree(nested, {path: content for path, content in extra.items() if "images" in path})
    message = rf"^{re.escape(str(nested / 'train'))}: images without a mask: 5 \(010, 011, 012, \.\.\.\); add"
    with pytest.raises(DataError, match=message):
        image_folder_source(nested, "train")
    write_tree(nested, {path: content for path, content in extra.items() if "masks" in path})
    (nested / "train" / "images" / "002.jpg").unlink()
    with pytest.raises(DataError, match=r"masks without an image: 1 \(002\); add the images or remove these"):
        image_folder_source(nested, "train")


def test_list_that_names_absent_files(flat):
    (flat / "train.txt").write_text("000\n777\n")
    with pytest.raises(DataError, match=r"names in train\.txt without an image or a mask: 1 \(777\); add"):
        image_folder_source(flat, "train")


def test_absent_split(nested, flat):
    for folder in (nested, flat):
        with pytest.raises(DataError, match=r"there is no split 'test' \(found: train, val\); put images"):
            image_folder_source(folder, "test")


def test_absent_folder(tmp_path):
    with pytest.raises(DataError, match=r"gone: there is no split 'train' \(found: none\)"):
        image_folder_source(tmp_path / "gone", "train")
    with pytest.raises(DataError, match=r"gone: there are no images to prepare; make SPLIT/images"):
        prepare_image_folder(tmp_path / "data", tmp_path / "gone")


def test_class_names_are_needed(nested):
    (nested / "classes.txt").write_text("\n")
    with pytest.raises(DataError, match=r"classes\.txt: there are no names; write one class name a line"):
        image_folder_source(nested, "train")
    (nested / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes\.txt: cannot be read \(No such file or directory\); write"):
        image_folder_source(nested, "train")


def test_two_images_of_one_stem(nested):
    write_tree(nested, {"train/images/000.png": encoded(photo(0), "PNG")})
    with pytest.raises(DataError, match=r"images: 000\.\w+ and 000\.\w+ share a stem; keep one of them"):
        image_folder_source(nested, "train")


def test_empty_split(nested):
    write_tree(nested, {"test/images/.keep": b"", "test/masks/.keep": b""})
    with pytest.raises(DataError, match=r"test: split 'test' has no images; add some"):
        image_folder_source(nested, "test")


def test_wrong_label_names_the_mask(nested, tmp_path):
    write_tree(nested, {"train/masks/001.png": palette_png(np.full((30, 40), 30, np.uint8))})
    with pytest.raises(DataError, match=r"^001\.png: label 30 is outside \[0, 21\)"):
        prepare_image_folder(tmp_path / "data", nested, progress=False)
    builder = prepare_image_folder(tmp_path / "data", nested, progress=False, skip_damaged=True)
    assert len(builder.skipped) == 1
    assert keys(open_image_folder("train", tmp_path / "data")) == ["000", "002", "003"]


def test_real_folder(shared_dir):
    folder = shared_dir / "data" / "camvid"
    assert image_folder_splits(folder) == ["train", "val"]
    for split, count in (("train", 367), ("val", 101)):
        source = image_folder_source(folder, split, void=(11,))
        assert (len(source), len(source.class_names)) == (count, 11)
        for index in range(count):
            example = decode_example(source[index], 11, source.void)
            assert example["image"].shape == (360, 480, 3)
        assert example["mask"].max() == 255  # The void label, 11, is there and has been turned.
    with pytest.raises(DataError, match="label 11 is outside"):
        decode_example(source[0], 11)
