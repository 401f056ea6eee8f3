"""Folders of images and XML: layouts, splits, mistakes, preparation, and a real set with real mistakes."""

import pickle

import numpy as np
import pytest
from tiny_sets import box_xml, boxes_of, corners_of, detection_tree, encoded, photo, write_tree

from cvjax.cli import prepare
from cvjax.datasets.registry import open_dataset
from cvjax.datasets.voc.xml import parse_xml
from cvjax.errors import DataError

NAME = "xml_folder_detection"


def opened(folder, split="train", **options):
    return open_dataset(NAME, split, target="boxes", manual_dir=folder, **options)


def flat(numbers, below: str = "") -> dict[str, bytes]:
    """Images and annotations side by side."""
    return {f"{below}{n}.jpg": encoded(photo(n), "JPEG") for n in numbers} | {
        f"{below}{n}.xml": box_xml(boxes_of(n)) for n in numbers
    }


@pytest.fixture
def devkit(tmp_path):
    """VOC's own layout, with lists."""
    return write_tree(tmp_path / "pets", detection_tree({"train": range(4), "val": range(4, 7), "test": range(2)}))


def test_vocs_layout_is_read(devkit):
    source = opened(devkit, "val")
    assert (source.name, source.split, source.class_names) == (NAME, "val", ("cat", "dog"))
    assert [record["id"] for record in source] == ["000004", "000005", "000006"]
    record = source[1]  # image 5 has two objects, the second difficult
    np.testing.assert_array_equal(record["boxes"], corners_of(5))
    assert (record["labels"].tolist(), record["difficult"].tolist()) == ([0, 1], [False, True])
    assert source[2]["boxes"].shape == (0, 4)
    assert pickle.loads(pickle.dumps(source))[1]["id"] == "000005"
    assert (len(opened(devkit, "test")), len(opened(devkit, "all"))) == (2, 7)
    with pytest.raises(IndexError):
        source[3]


def test_one_folder_is_split_by_the_names_alone(tmp_path):
    folder = write_tree(tmp_path / "few", flat(range(30)))
    held = {record["id"] for record in opened(folder, "val")}
    kept = {record["id"] for record in opened(folder, "train")}
    assert held | kept == {str(n) for n in range(30)}
    assert not held & kept
    assert 1 <= len(held) <= 12
    write_tree(folder, flat(range(30, 60)))
    assert held == {record["id"] for record in opened(folder, "val")} & {str(n) for n in range(30)}


def test_a_folder_for_each_split_and_lists_beside(tmp_path):
    folder = write_tree(tmp_path / "two", flat(range(3), "train/") | flat(range(3, 5), "test/images/"))
    for n in range(3, 5):
        (folder / "test" / "annotations").mkdir(exist_ok=True)
        (folder / f"test/images/{n}.xml").rename(folder / f"test/annotations/{n}.xml")
    assert [record["id"] for record in opened(folder, "val")] == ["3", "4"]  # the test images are held out
    assert opened(folder, "val").split == "test"
    assert len(opened(folder, "all")) == 5
    listed = write_tree(tmp_path / "listed", flat(range(5)) | {"train.txt": b"3\n0\n", "classes.txt": b"dog\ncat\n"})
    assert [record["id"] for record in opened(listed)] == ["3", "0"]
    assert opened(listed).class_names == ("dog", "cat")


def test_mistakes_are_named(devkit, tmp_path):
    with pytest.raises(DataError, match=r"pets: there is no split 'dev' \(found: test, train, val\); put images"):
        opened(devkit, "dev")
    (devkit / "JPEGImages/000001.jpg").unlink()
    with pytest.raises(DataError, match=r"names in test\.txt without an image or an annotation: 1 \(000001\)"):
        opened(devkit)
    folder = write_tree(tmp_path / "few", flat(range(9)))
    (folder / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"few/2\.xml: 'dog' is no class of cat; mend the name, or add"):
        opened(folder)
    (folder / "3.xml").unlink()
    with pytest.raises(DataError, match=r"images without an annotation: 1 \(3\); add the XML \(without objects"):
        opened(folder)
    with pytest.raises(DataError, match=r"nowhere: there is no split 'train' \(found: none\)"):
        opened(tmp_path / "nowhere")
    empty = write_tree(tmp_path / "empty", {f"{n}.xml": box_xml([]) for n in range(9)} | flat(()))
    write_tree(empty, {f"{n}.jpg": encoded(photo(n), "JPEG") for n in range(9)})
    with pytest.raises(DataError, match="empty: no annotation has an object; label some"):
        opened(empty)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<annotation><object>", r"a\.xml: line 1 cannot be read as XML \("),
        (box_xml([("", 1, 1, 5, 5)]), r"a\.xml: object 1 needs a name and a bndbox with the numbers xmin"),
        (box_xml([("cat", 1, 1, 5, "wide")]), "object 1 needs a name"),
        (box_xml([("cat", 1, 1, 5, "nan")]), "object 1 needs a name"),
        (b"<a><object><name>cat</name></object></a>", "object 1 needs a name"),
    ],
)
def test_damaged_xml_is_named(content, message):
    with pytest.raises(DataError, match=message):
        parse_xml(content, "a.xml")


def test_bad_boxes_stop_or_are_dropped(tmp_path):
    folder = write_tree(tmp_path / "bad", flat(range(9)))
    (folder / "1.xml").write_bytes(box_xml([("cat", 1, 1, 9, 9), ("dog", 7, 8, 7, 8), ("dog", 9, 9, 90, 12)]))
    with pytest.raises(DataError, match=r"bad/1\.xml: box 2 of 3, dog at \(7, 8, 7, 8\), is empty or inverted; mend"):
        opened(folder)
    records = {record["id"]: record for record in opened(folder, "all", on_bad_boxes="drop")}
    np.testing.assert_array_equal(records["1"]["boxes"], [(0, 0, 9, 9), (8, 8, 40, 12)])  # the last one is cut off
    assert [records[key]["dropped_boxes"] for key in ("0", "1")] == [0, 1]
    (folder / "1.xml").write_bytes(box_xml([("cat", 41, 1, 49, 9)]))
    with pytest.raises(DataError, match=r"bad/1\.xml: box 1 of 1, cat at .* is outside its image of 30x40"):
        list(opened(folder, "all"))


def test_prepared_records_are_those_of_the_folder(devkit, tmp_path, capsys):
    (devkit / "Annotations/000003.xml").write_bytes(box_xml([("cat", 3, 3, 3, 9), ("dog", 1, 2, 8, 9)], difficult=(1,)))
    args = [NAME, "--data-dir", str(tmp_path / "data"), "--manual-dir", str(devkit), "--no-progress"]
    with pytest.raises(DataError, match=r"000003\.xml: box 1 of 2, cat at \(3, 3, 3, 9\)"):
        prepare.main(args)
    prepare.main([*args, "--on-bad-boxes", "drop"])
    printed = capsys.readouterr().out
    assert printed.endswith("pets/1.0.0: test 2, train 4, val 3; 0 skipped, 1 boxes dropped\n")
    for split in ("train", "val", "test"):
        stored = open_dataset(NAME, split, target="boxes", data_dir=tmp_path / "data")
        assert stored.class_names == ("cat", "dog")
        source = opened(devkit, split, on_bad_boxes="drop")
        for record, twin in zip(stored, source, strict=True):
            for key in record.keys() - {"dropped_boxes"}:  # preparation has settled it
                np.testing.assert_array_equal(record[key], twin[key])
                assert np.asarray(record[key]).dtype == np.asarray(twin[key]).dtype
    with pytest.raises(DataError, match="no single data set is prepared"):
        open_dataset(NAME, "train", target="boxes", data_dir=tmp_path)


def test_blood_cells_have_two_bad_boxes(shared_dir):
    folder = shared_dir / "data" / "bccd"
    with pytest.raises(
        DataError, match=r"Annotations/BloodImage_00338\.xml: box 13 of 14, RBC at \(504, 337, 504, 337\)"
    ):
        opened(folder)
    source = opened(folder, "all", on_bad_boxes="drop")
    assert (len(source), source.class_names) == (364, ("Platelets", "RBC", "WBC"))
    records = list(source)
    counts = np.bincount(np.concatenate([record["labels"] for record in records]))
    assert counts.tolist() == [361, 4153, 372]
    assert sum(record["dropped_boxes"] for record in records) == 2
    assert [len(opened(folder, split, on_bad_boxes="drop")) for split in ("train", "val", "test")] == [205, 87, 72]
    for record in records:
        boxes = record["boxes"]
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (640, 480)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
