"""One set of labeled images in each format of labels: the same labels; and the sentence of each mistake."""

import pickle

import numpy as np
import pytest
from own_pictures import write_labels, write_parquet
from tiny_sets import encoded, photo, write_tree

from cvjax.datasets.own import open_own, splits_of
from cvjax.datasets.own.formats import format_of, targets_of
from cvjax.errors import DataError

KINDS = ("folders", "csv", "csv_of_split", "csv_of_numbers", "parquet")
NAMES = ("ant", "bee", "cat")
SETS = {
    split: [(f"{split}{number}", encoded(photo(seed + number, 8, 9), "PNG"), number % 3) for number in range(count)]
    for split, count, seed in (("train", 6, 0), ("val", 3, 10))
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_format_has_the_same_labels(kind, tmp_path):
    write_labels(kind, tmp_path, NAMES, SETS)
    assert sorted(splits_of(tmp_path)) == ["train", "val"]
    for split, examples in SETS.items():
        source = open_own(tmp_path, split, "label")
        assert source.class_names == NAMES
        found = {source[index]["image"]: source[index]["label"] for index in range(len(source))}
        assert found == {data: label for _, data, label in examples}
        assert len(set(source.ids())) == len(examples)
        assert pickle.loads(pickle.dumps(source))[1] == source[1]
    every = open_own(tmp_path, "all", "label")
    assert len(every) == 9
    assert len(set(every.ids())) == 9


def test_folders_of_classes_without_splits(tmp_path):
    write_tree(tmp_path, {f"{NAMES[label]}/{stem}.png": data for stem, data, label in SETS["train"]})
    assert splits_of(tmp_path) == []
    source = open_own(tmp_path, "train", "label")
    assert [source[index]["label"] for index in range(6)] == [0, 0, 1, 1, 2, 2]
    assert source.class_names == NAMES


IMAGES = {f"images/{number}.png": encoded(photo(number, 8, 9), "PNG") for number in range(3)}


def table_of(tmp_path, text: str, **files: bytes):
    write_tree(tmp_path, {**IMAGES, "labels.csv": text.encode(), **files})
    return open_own(tmp_path, "train", "label")


def test_tables_with_and_without_a_header(tmp_path):
    for text in ("0.png,b\n1.png,a\n", "image\tlabel\n./images/0.png\tb\n1.png\ta\n", "file_name,kind\n0,b\n1,a\n"):
        source = table_of(tmp_path, text)
        assert source.class_names == ("a", "b")
        assert [source[index]["label"] for index in range(2)] == [1, 0]
        assert source[0]["image"] == IMAGES["images/0.png"]


def test_numbers_are_classes_in_the_order_of_their_size(tmp_path):
    assert table_of(tmp_path, "0.png,10\n1.png,9\n2.png,10\n").class_names == ("9", "10")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\n0.png,cat;dog\n", r"row 2 has several labels, and a classifier learns one"),
        ("file,label\n0.png,cat\n1.png,cat,dog\n", r"row 3 has several labels"),
        ("0.png,cat,dog\n", r"row 1 has several labels; write file and label"),
        ("file,label,split\n0.png,cat,train\n1.png,dog,\n", r"row 3 lacks a cell"),
        ("file,label\n0.png,\n", r"row 2 lacks a cell"),
        ("file,label\n0.png,cat\n9.png,dog\n", r"files of its rows are absent: 1 \(9\.png\), sought in "),
        ("file,label\n0.png,cat\nimages/0.png,dog\n", r"images/0\.png has two labels, 2 and 3; keep one"),
        ("file,label\n0.png,cat\n0.png,cat\n", r"0\.png has two rows, 2 and 3; keep one"),
        ("0.png,cat\n1.png\n", r"row 2 lacks a cell"),
    ],
)
def test_a_mistake_in_a_table_is_one_sentence(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        table_of(tmp_path, text)


def test_several_tables_and_columns_of_classes(tmp_path):
    write_tree(tmp_path, {**IMAGES, "a.csv": b"0.png,x\n", "b.csv": b"0.png,x\n"})
    with pytest.raises(DataError, match=r"the labels may be in any of a\.csv, b\.csv; name the file itself"):
        open_own(tmp_path, "train", "label")
    assert len(open_own(tmp_path / "a.csv", "train", "label")) == 1
    (tmp_path / "a.csv").write_text("file,cat,dog\n0.png,1,0\n1.png,1,1\n")
    with pytest.raises(DataError, match="has a column for each class, and so several labels a row"):
        open_own(tmp_path / "a.csv", "train", "label", format="csv")


def test_a_label_that_is_no_class(tmp_path):
    with pytest.raises(DataError, match=r"labels\.csv: row 2: bee is no class \(ant, cat\); mend the label"):
        table_of(tmp_path, "file,label\n0.png,bee\n", **{"classes.txt": b"ant\ncat\n"})


@pytest.mark.parametrize("kind", ["struct", "list"])
@pytest.mark.parametrize("corners", [False, True])
def test_boxes_in_parquet(kind, corners, tmp_path):
    boxes = [[[1.0, 2.0, 30.0, 20.0], [20.0, 5.0, 35.0, 29.0]], [[10.0, 3.0, 39.0, 30.0]], []]
    labels = [[0, 1], [1], []]
    rows = []
    for number in range(3):
        written = boxes[number] if corners else [[a, b, c - a, d - b] for a, b, c, d in boxes[number]]
        objects = {"bbox": written, "category": labels[number], "iscrowd": [bool(label) for label in labels[number]]}
        if kind == "list":
            objects = [dict(zip(objects, row, strict=True)) for row in zip(*objects.values(), strict=True)]
        rows.append({"image": {"bytes": encoded(photo(number), "PNG"), "path": None}, "objects": objects})
    fields = {
        "bbox": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "Sequence"},
        "category": {"names": ["red", "white"], "_type": "ClassLabel"},
    }
    feature = [fields] if kind == "list" else {"feature": fields, "_type": "Sequence"}
    write_parquet(tmp_path, "train", rows, {"image": {"_type": "Image"}, "objects": feature})
    assert targets_of(tmp_path) == ("boxes",)
    source = open_own(tmp_path, "train", "boxes")
    assert source.class_names == ("red", "white")
    for number in range(3):
        np.testing.assert_array_equal(source[number]["boxes"], np.reshape(boxes[number], (-1, 4)))
        assert source[number]["labels"].tolist() == labels[number]
        assert source[number]["crowd"].tolist() == [bool(label) for label in labels[number]]


def test_mistakes_in_parquet_are_one_sentence(tmp_path):
    rows = [{"image": {"bytes": data, "path": None}, "label": label} for _, data, label in SETS["train"]]
    write_parquet(
        tmp_path / "a",
        "train",
        rows,
        {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ant", "bee"]}},
    )
    with pytest.raises(DataError, match=r"train row 2: the label 2 is no class of ant, bee"):
        open_own(tmp_path / "a", "train", "label")
    (tmp_path / "a/train-00001-of-00002.parquet").write_bytes(b"PAR1")
    (tmp_path / "a/train-00000-of-00002.parquet").rename(tmp_path / "a/train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=r"train-00000-of-00002\.parquet is missing; fetch it, too"):
        open_own(tmp_path / "a", "train", "label")
    (tmp_path / "a/train-00000-of-00002.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"00000-of-00002\.parquet: cannot be read as parquet"):
        open_own(tmp_path / "a", "train", "label")
    write_parquet(tmp_path / "b", "train", [{"text": "a"}, {"text": "b"}], {})
    with pytest.raises(DataError, match=r"has no column of images \(text\)"):
        open_own(tmp_path / "b", "train", "label")
    write_parquet(tmp_path / "c", "train", rows, {})  # no metadata: the labels' own numbers are the classes
    assert open_own(tmp_path / "c", "train", "label").class_names == ("0", "1", "2")
    with pytest.raises(DataError, match=r"has no column of objects with bbox and category \(image, label\)"):
        open_own(tmp_path / "c", "train", "boxes")


def test_parquet_in_folders_of_splits(tmp_path):
    rows = [{"image": {"bytes": data, "path": None}, "label": label} for _, data, label in SETS["train"]]
    write_parquet(tmp_path, "train", rows, {})
    for part, split in enumerate(("train", "test")):
        place = tmp_path / "hub" / "default" / split / "0000.parquet"
        place.parent.mkdir(parents=True)
        (tmp_path / f"train-{part:05d}-of-00002.parquet").rename(place)
    assert sorted(splits_of(tmp_path / "hub")) == ["test", "train"]
    assert [open_own(tmp_path / "hub", "val", "label")[index]["label"] for index in range(3)] == [0, 1, 2]
    assert len(open_own(place, "train", "label")) == 3
    write_parquet(tmp_path / "hub" / "other", "train", rows, {})
    with pytest.raises(DataError, match="has data sets in default, other; name the folder of one"):
        open_own(tmp_path / "hub", "train", "label")


def test_formats_are_told_apart(tmp_path):
    write_labels("csv_of_split", tmp_path / "csv", NAMES, SETS)
    write_labels("folders", tmp_path / "folders", NAMES, SETS)
    write_labels("parquet", tmp_path / "parquet", NAMES, SETS)
    for name in ("csv", "folders", "parquet"):
        assert format_of(tmp_path / name).name == name
        assert targets_of(tmp_path / name) == ("label",)
