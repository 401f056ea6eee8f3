"""VOC 2012: lists, the trainaug union, archives and their checks, preparation against direct reading."""

import dataclasses
import pickle
import re
import sys

import numpy as np
import pytest
from tiny_sets import labels, palette_png, release, sbd_labels, sbd_tree, voc_tree, write_tar, write_tree

from cvjax.data.dataset import FolderDataset, TfdsDataset, max_size
from cvjax.data.decode import decode_example
from cvjax.datasets.registry import open_dataset
from cvjax.datasets.voc.segmentation import OFFICIAL, VOC_CLASSES, find_voc, open_voc, prepare_voc
from cvjax.errors import DataError

COUNTS = {"train": 3, "val": 2, "trainval": 5, "trainaug": 7}


def keys(source) -> list[int]:
    """The images' numbers in `voc_tree`."""
    return [int(source[index]["id"].removeprefix("2007_")) for index in range(len(source))]


def mask_of(source, index: int) -> np.ndarray:
    return decode_example(source[index], 21)["mask"]


@pytest.fixture
def devkit(tmp_path):
    """A folder with an unpacked VOCdevkit of 3 + 2 images."""
    write_tree(tmp_path / "manual" / "VOCdevkit" / "VOC2012", voc_tree())
    return tmp_path / "manual"


@pytest.fixture
def archives(tmp_path):
    """VOC's tar of 9 images, 3 and 2 of them in lists, and SBD of images in train, in val and in neither."""
    manual = tmp_path / "manual"
    voc = write_tar(manual / OFFICIAL.voc.name, "VOCdevkit/VOC2012/", voc_tree(extra=4))
    sbd = write_tar(manual / OFFICIAL.sbd.name, "benchmark_RELEASE/", sbd_tree([8, 0, 3], [5, 4, 6, 7]))
    return manual, release(voc, sbd, COUNTS)


def test_classes():
    assert len(VOC_CLASSES) == len(set(VOC_CLASSES)) == 21
    assert (VOC_CLASSES[0], VOC_CLASSES[15], VOC_CLASSES[20]) == ("background", "person", "tvmonitor")


def test_devkit_is_read_as_it_lies(devkit, tmp_path):
    source = open_dataset("voc_segmentation", "train", data_dir=tmp_path / "data", manual_dir=devkit)
    assert isinstance(source, FolderDataset)
    assert (source.name, source.split, source.class_names) == ("voc_segmentation", "train", VOC_CLASSES)
    assert keys(source) == [0, 1, 2]
    np.testing.assert_array_equal(mask_of(source, 1), labels(1, 24, 50))
    assert max_size(source) == (36, 50)
    assert keys(open_voc("val", devkit)) == [3, 4]
    assert keys(open_voc("trainval", devkit)) == [0, 1, 2, 3, 4]
    assert not (tmp_path / "data").exists()


def test_prepared_equals_folder(devkit, tmp_path):
    builder = prepare_voc(tmp_path / "data", manual_dir=devkit, progress=False)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 3, "val": 2}
    assert "tensorflow" not in sys.modules
    for split in ("train", "val", "trainval"):
        prepared, folder = open_voc(split, tmp_path / "data"), open_voc(split, devkit)
        assert isinstance(prepared, TfdsDataset)
        assert (prepared.split, prepared.class_names) == (split, VOC_CLASSES)
        assert keys(prepared) == keys(folder)
        assert max_size(prepared) == max_size(folder)
        for index in range(len(folder)):
            assert prepared[index]["image"] == folder[index]["image"]
            np.testing.assert_array_equal(mask_of(prepared, index), mask_of(folder, index))


def test_find_voc_tells_what_there_is_without_raising(devkit, archives, tmp_path):
    assert find_voc(tmp_path / "nowhere") is None
    assert find_voc(tmp_path / "nowhere", tmp_path / "nowhere") is None
    assert find_voc(devkit).kind == "devkit"
    assert find_voc(tmp_path / "data", devkit).path == devkit / "VOCdevkit" / "VOC2012"
    prepare_voc(tmp_path / "data", manual_dir=devkit, progress=False, sbd=False)
    assert find_voc(tmp_path / "data", devkit).kind == "prepared"


def test_trainaug_is_the_union_without_val(archives, tmp_path):
    manual, small = archives
    data = tmp_path / "data"
    assert find_voc(data, manual).kind == "archive"
    prepare_voc(data, manual_dir=manual, release=small, download=False, progress=False)
    source = open_voc("trainaug", data)
    assert keys(source) == [0, 1, 2, 5, 6, 7, 8]
    assert keys(open_voc("val", data)) == [3, 4]
    # VOC's mask where there is one, SBD's elsewhere.
    np.testing.assert_array_equal(mask_of(source, 0), labels(0, 30, 40))
    np.testing.assert_array_equal(mask_of(source, 3), sbd_labels(5))
    assert source.split == "trainaug"


def test_unpacked_sbd_gives_the_same(archives, tmp_path):
    manual, small = archives
    prepare_voc(tmp_path / "packed", manual_dir=manual, release=small, progress=False)
    folder = tmp_path / "unpacked"
    write_tree(folder / "VOCdevkit" / "VOC2012", voc_tree(extra=4))
    write_tree(folder / "benchmark_RELEASE", sbd_tree([8, 0, 3], [5, 4, 6, 7]))
    prepare_voc(tmp_path / "data", manual_dir=folder, progress=False)
    packed, unpacked = open_voc("trainaug", tmp_path / "packed"), open_voc("trainaug", tmp_path / "data")
    assert [packed[index] for index in range(7)] == [unpacked[index] for index in range(len(unpacked))]


def test_segmentation_class_aug_serves_as_sbd(tmp_path):
    files = voc_tree(extra=2)
    for number in (0, 3, 5, 6):
        files[f"SegmentationClassAug/2007_{number:06d}.png"] = palette_png(sbd_labels(number))
    write_tree(tmp_path / "VOCdevkit" / "VOC2012", files)
    folder = open_voc("trainaug", tmp_path)
    prepare_voc(tmp_path / "data", manual_dir=tmp_path, progress=False)
    for source in (folder, open_voc("trainaug", tmp_path / "data")):
        assert keys(source) == [0, 1, 2, 5, 6]
        np.testing.assert_array_equal(mask_of(source, 0), labels(0, 30, 40))
        np.testing.assert_array_equal(mask_of(source, 3), sbd_labels(5))


@pytest.mark.parametrize("split", ["train", "val", "trainval", "trainaug"])
def test_wrong_counts_are_an_error(archives, tmp_path, split):
    manual, small = archives
    wrong = dataclasses.replace(small, counts={**COUNTS, split: 99})
    message = rf"{re.escape(OFFICIAL.voc.name)}: split {split} has {COUNTS[split]} images and not 99; fetch"
    with pytest.raises(DataError, match=message):
        prepare_voc(tmp_path / "data", manual_dir=manual, release=wrong, progress=False)
    assert find_voc(tmp_path / "data") is None


def test_official_counts():
    assert OFFICIAL.counts == {"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582}


@pytest.mark.parametrize("name", [OFFICIAL.voc.name, OFFICIAL.sbd.name])
def test_damaged_archive_is_an_error(archives, tmp_path, name):
    manual, small = archives
    content = bytearray((manual / name).read_bytes())
    content[700] ^= 1
    (manual / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{re.escape(name)}: its sha256 is .* remove the file and fetch it"):
        prepare_voc(tmp_path / "data", manual_dir=manual, release=small, progress=False)


def test_archives_are_fetched(archives, tmp_path):
    _, small = archives
    prepare_voc(tmp_path / "data", release=small, progress=False)
    assert len(open_voc("trainaug", tmp_path / "data")) == 7
    names = {path.name for path in (tmp_path / "data" / "downloads").iterdir() if path.is_file()}
    assert names == {OFFICIAL.voc.name, OFFICIAL.sbd.name}


def test_a_wrong_download_is_not_kept(archives, tmp_path):
    _, small = archives
    wrong = dataclasses.replace(small, voc=small.voc._replace(url=small.sbd.url, size=0))
    with pytest.raises(DataError, match=r"VOCtrainval_11-May-2012\.tar\.part: its sha256 is .* fetch"):
        prepare_voc(tmp_path / "data", release=wrong, progress=False)
    assert list((tmp_path / "data" / "downloads").iterdir()) == []


def test_without_network_the_message_says_where_to_put_the_archive(archives, tmp_path):
    manual, small = archives
    (manual / OFFICIAL.sbd.name).unlink()
    message = r"benchmark\.tgz: is not there and could not be fetched from file:.*put it into .*--no-sbd"
    with pytest.raises(DataError, match=message):
        prepare_voc(tmp_path / "data", manual_dir=manual, release=small, progress=False)
    prepare_voc(tmp_path / "data", manual_dir=manual, release=small, sbd=False, progress=False)
    with pytest.raises(DataError, match=r"prepared without SBD, so there is no trainaug; put benchmark\.tgz"):
        open_voc("trainaug", tmp_path / "data")
    assert len(open_voc("train", tmp_path / "data")) == 3


def test_nowhere(tmp_path):
    message = rf"^voc_segmentation is not in {re.escape(str(tmp_path))}, .*; put one there, or run `cvjax data"
    with pytest.raises(DataError, match=message):
        open_voc("train", tmp_path)
    with pytest.raises(DataError, match=message):
        prepare_voc(tmp_path, download=False)


def test_archive_must_be_prepared_before_opening(archives):
    manual, _ = archives
    with pytest.raises(DataError, match=rf"prepared once; run `.* --data-dir {re.escape(str(manual))}"):
        open_voc("train", manual)


def test_unknown_split(devkit):
    with pytest.raises(DataError, match=r"no split 'test'; choose one of train, val, trainval, trainaug\.$"):
        open_voc("test", devkit)


def test_devkit_without_aug_masks_has_no_trainaug(devkit):
    with pytest.raises(DataError, match=r"VOC2012: trainaug needs SegmentationClassAug there, or SBD; put"):
        open_voc("trainaug", devkit)


@pytest.mark.parametrize("part", ["JPEGImages/2007_000001.jpg", "SegmentationClass/2007_000001.png"])
def test_list_that_names_an_absent_file(devkit, tmp_path, part):
    (devkit / "VOCdevkit" / "VOC2012" / part).unlink()
    message = rf"VOC2012: {part} is absent although ImageSets/Segmentation/train\.txt names it; add it"
    with pytest.raises(DataError, match=message):
        open_voc("train", devkit)
    with pytest.raises(DataError, match=message):
        prepare_voc(tmp_path / "data", manual_dir=devkit, progress=False)
    assert keys(open_voc("val", devkit)) == [3, 4]


def test_absent_list(devkit):
    lists = devkit / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train.txt").unlink()
    assert keys(open_voc("val", devkit)) == [3, 4]
    with pytest.raises(DataError, match=r"ImageSets/Segmentation/train\.txt is absent; add the list"):
        open_voc("train", devkit)
    (lists / "val.txt").unlink()
    with pytest.raises(DataError, match=r"ImageSets/Segmentation holds neither train\.txt nor val\.txt"):
        open_voc("val", devkit)


def test_damaged_pair_stops_preparation_or_is_counted(devkit, tmp_path):
    photo = devkit / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2007_000001.jpg"
    photo.write_bytes(photo.read_bytes()[:300])
    data = tmp_path / "data"
    with pytest.raises(DataError, match=r"2007_000001\.jpg: the image is cut short or damaged"):
        prepare_voc(data, manual_dir=devkit, progress=False)
    assert find_voc(data) is None
    builder = prepare_voc(data, manual_dir=devkit, progress=False, skip_damaged=True)
    assert [message.partition(":")[0] for message in builder.skipped] == ["2007_000001.jpg"]
    assert keys(open_voc("train", data)) == [0, 2]


def test_split_without_an_intact_pair(devkit, tmp_path):
    voc = devkit / "VOCdevkit" / "VOC2012"
    for number in (3, 4):
        (voc / "JPEGImages" / f"2007_{number:06d}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="split 'val' has no intact pair among its 2; prepare without"):
        prepare_voc(tmp_path / "data", manual_dir=devkit, progress=False, skip_damaged=True)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("")
    with pytest.raises(DataError, match="split 'val' is empty; fill its list"):
        prepare_voc(tmp_path / "data", manual_dir=devkit, progress=False)
    assert find_voc(tmp_path / "data") is None


def test_data_dir_that_cannot_be_made(devkit, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/data: cannot be made or written to \(Not a directory\); choose another"):
        prepare_voc(tmp_path / "file" / "data", manual_dir=devkit, progress=False)


@pytest.mark.parametrize(("content", "message"), [(b"no matlab", "cannot be read"), (None, "is absent or unreadable")])
def test_sbd_mask_that_is_damaged_or_absent(archives, tmp_path, content, message):
    manual, _ = archives
    files = sbd_tree([5], [6])
    del files["dataset/cls/2007_000006.mat"]
    if content is not None:
        files["dataset/cls/2007_000006.mat"] = content
    sbd = write_tar(manual / OFFICIAL.sbd.name, "benchmark_RELEASE/", files)
    small = release(manual / OFFICIAL.voc.name, sbd, {})
    with pytest.raises(DataError, match=rf"benchmark\.tgz: dataset/cls/2007_000006\.mat {message}"):
        prepare_voc(tmp_path / "data", manual_dir=manual, release=small, progress=False)


def test_a_prepared_set_belongs_to_its_files(devkit, tmp_path):
    data = tmp_path / "data"
    prepare_voc(data, manual_dir=devkit, progress=False)
    prepare_voc(data, manual_dir=devkit, progress=False)
    assert isinstance(open_voc("train", data, devkit), TfdsDataset)
    lists = devkit / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000002\n")
    with pytest.raises(DataError, match=r"2012/1\.0\.0: was prepared from other files .* with --overwrite, or name"):
        prepare_voc(data, manual_dir=devkit, progress=False)
    assert keys(open_voc("train", data)) == [0, 1, 2]
    assert keys(open_voc("train", data, devkit)) == [2]
    with pytest.raises(DataError, match="is not in"):
        open_voc("train", data, tmp_path / "elsewhere")
    prepare_voc(data, manual_dir=devkit, progress=False, overwrite=True)
    assert keys(open_voc("train", data)) == [2]


def test_sources_pickle_after_reading(devkit, tmp_path):
    prepare_voc(tmp_path / "data", manual_dir=devkit, progress=False)
    for root in (devkit, tmp_path / "data"):
        source = open_voc("train", root)
        first, size = source[0], max_size(source)
        copy = pickle.loads(pickle.dumps(source))
        assert copy[0] == first
        assert (len(copy), copy.split, copy.class_names, max_size(copy)) == (3, "train", VOC_CLASSES, size)


def test_real_devkit(shared_dir, tmp_path):
    train, val = (open_voc(split, tmp_path, shared_dir / "data") for split in ("train", "val"))
    assert (len(train), len(val)) == (43, 21)
    for source in (train, val):
        assert max_size(source) == (500, 500)
        for index in range(len(source)):
            decode_example(source[index], 21)
