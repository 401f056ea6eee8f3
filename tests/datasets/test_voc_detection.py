"""VOC's boxes: years and their union, archives and their checks, preparation against direct reading."""

import hashlib
import pickle

import numpy as np
import pytest
from tiny_sets import corners_of, detection_tree, write_tar, write_tree

from cvjax.data.dataset import image_sizes
from cvjax.datasets.archives import Archive
from cvjax.datasets.registry import list_datasets, open_dataset
from cvjax.datasets.voc.detection import CLASS_NAMES, OFFICIAL, SPLITS, YearArchive, prepare_voc_detection
from cvjax.errors import ConfigError, DataError

# 2012's numbers begin with 100, so that the two years' images differ.
TREES = {
    "2007": detection_tree({"train": range(3), "val": range(3, 5), "test": range(5, 8)}),
    "2012": detection_tree({"train": range(100, 104), "val": range(104, 106)}),
}


def opened(split, data_dir, manual_dir=None, **options):
    options = {"target": "boxes", "data_dir": data_dir, "manual_dir": manual_dir} | options
    return open_dataset("voc_detection", split, **options)


def numbers(source) -> list[int]:
    return [int(record["id"]) for record in source]


@pytest.fixture
def devkit(tmp_path):
    """A folder with a VOCdevkit of both years."""
    for year, tree in TREES.items():
        write_tree(tmp_path / "manual" / "VOCdevkit" / f"VOC{year}", tree)
    return tmp_path / "manual"


def test_classes_and_splits():
    assert len(CLASS_NAMES) == 20
    assert (CLASS_NAMES[0], CLASS_NAMES[7], CLASS_NAMES[14]) == ("aeroplane", "cat", "person")
    assert "voc_detection" in list_datasets("boxes")
    with pytest.raises(
        ConfigError, match="voc_segmentation has masks, no boxes; choose one of coco, own, scenes, voc_det"
    ):
        open_dataset("voc_segmentation", "train", target="boxes")
    counts = {part + known.year: count for known in OFFICIAL for part, count in known.counts.items()}
    assert sum(counts[part] for part in SPLITS["trainval0712"]) == 16_551


def test_a_devkit_is_read_as_it_lies(devkit, tmp_path):
    source = opened("train2007", tmp_path / "data", devkit)
    assert (source.name, source.split, source.class_names) == ("voc_detection", "train2007", CLASS_NAMES)
    record = source[2]
    assert record["image"] == TREES["2007"]["JPEGImages/000002.jpg"]
    np.testing.assert_array_equal(record["boxes"], corners_of(2))
    assert (record["labels"].tolist(), record["difficult"].tolist()) == ([7, 11], [False, True])
    assert not record["crowd"].any()
    union = opened("trainval0712", tmp_path / "data", devkit)
    assert (union.name, union.split, union.class_names) == ("voc_detection", "trainval0712", CLASS_NAMES)
    assert numbers(union) == [*range(5), *range(100, 106)]
    assert numbers(pickle.loads(pickle.dumps(union))) == numbers(union)
    assert image_sizes(union)[:4] == [(30, 40), (24, 50), (36, 20), (30, 40)]
    for index in (-1, 11):
        with pytest.raises(IndexError):
            union[index]
    assert numbers(opened("test2007", tmp_path, devkit / "VOCdevkit")) == [5, 6, 7]
    assert numbers(opened("val2012", tmp_path, devkit / "VOCdevkit" / "VOC2012")) == [104, 105]
    assert not (tmp_path / "data").exists()


def test_prepared_records_are_those_of_the_devkit(devkit, tmp_path):
    builder = prepare_voc_detection(tmp_path / "data", manual_dir=devkit, progress=False)
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert counts == {"train2007": 3, "val2007": 2, "test2007": 3, "train2012": 4, "val2012": 2}
    assert builder.dropped_boxes == 0
    for split in SPLITS:
        stored, source = opened(split, tmp_path / "data"), opened(split, tmp_path, devkit)
        assert (stored.name, stored.split, stored.class_names) == (source.name, source.split, source.class_names)
        for record, twin in zip(stored, source, strict=True):
            assert record.keys() == twin.keys()
            for key in record:
                np.testing.assert_array_equal(record[key], twin[key])
    again = prepare_voc_detection(tmp_path / "data", manual_dir=tmp_path / "gone", progress=False)
    assert again.data_dir == builder.data_dir


def test_archives_are_checked_and_prepared(tmp_path):
    official = []
    for known in OFFICIAL[:2]:
        lists = {part: range(10 * n, 10 * n + 3) for n, part in enumerate(known.counts)}
        path = write_tar(tmp_path / "manual" / known.archive.name, "VOCdevkit/VOC2007/", detection_tree(lists))
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        archive = Archive(known.archive.name, "", len(content), "", digest)
        official.append(YearArchive(archive, "2007", dict.fromkeys(known.counts, 3)))
    options = {"manual_dir": tmp_path / "manual", "progress": False}
    with pytest.raises(DataError, match=r"train2007: the archives in .*manual must be prepared once; run `cvjax"):
        opened("train2007", tmp_path / "data", tmp_path / "manual")
    wrong = [official[0]._replace(counts={"train": 4})]
    with pytest.raises(DataError, match="train has 3 images and not 4; fetch the archive again"):
        prepare_voc_detection(tmp_path / "data", official=wrong, **options)
    builder = prepare_voc_detection(tmp_path / "data", official=official, **options)
    assert {*builder.info.splits} == {"train2007", "val2007", "test2007"}
    assert numbers(opened("trainval2007", tmp_path / "data")) == [0, 1, 2, 10, 11, 12]
    path = tmp_path / "manual" / OFFICIAL[0].archive.name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"VOCtrainval_06-Nov-2007\.tar: it has .* bytes and not"):
        prepare_voc_detection(tmp_path / "data", official=official, overwrite=True, **options)


def test_what_is_missing_is_named(devkit, tmp_path):
    with pytest.raises(DataError, match="no split 'train'; choose one of train2007, val2007, test2007, train2012"):
        opened("train", tmp_path, devkit)
    with pytest.raises(DataError, match=r"^val2012 is not in .*nowhere.*, neither prepared nor as VOCdevkit/VOC2007"):
        opened("val2012", tmp_path / "data", tmp_path / "nowhere")
    with pytest.raises(DataError, match="voc_detection is not in"):
        prepare_voc_detection(tmp_path / "data", download=False, progress=False)
    place = devkit / "VOCdevkit" / "VOC2012"
    (place / "Annotations/000104.xml").unlink()
    with pytest.raises(DataError, match=r"VOC2012: Annotations/000104\.xml is absent although ImageSets/Main/val\.txt"):
        opened("trainval0712", tmp_path, devkit)
    (place / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(DataError, match=r"VOC2012: ImageSets/Main/val\.txt is absent; add the list of val images"):
        opened("val2012", tmp_path, devkit)


def test_bad_boxes(devkit, tmp_path):
    path = devkit / "VOCdevkit/VOC2007/Annotations/000004.xml"
    path.write_bytes(path.read_bytes().replace(b"<xmax>13", b"<xmax>2"))
    with pytest.raises(DataError, match=r"Annotations/000004\.xml: box 1 of 1, cat at \(5, 2, 2, 20\), is empty"):
        list(opened("val2007", tmp_path, devkit))
    dropped = opened("val2007", tmp_path, devkit, on_bad_boxes="drop")
    assert [record["dropped_boxes"] for record in dropped] == [0, 1]
    builder = prepare_voc_detection(tmp_path / "data", manual_dir=devkit, on_bad_boxes="drop", progress=False)
    assert builder.dropped_boxes == 1
