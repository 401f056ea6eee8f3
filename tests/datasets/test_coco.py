"""COCO's format: categories, crowds, folders, and what is wrong with a file."""

import json
import pickle

import numpy as np
import pytest
from tiny_sets import encoded, photo

from cvjax.data.dataset import image_sizes
from cvjax.datasets.registry import open_dataset
from cvjax.errors import DataError

# Categories leave numbers out, and neither images nor annotations come in order, as in COCO.
CONTENT = {
    "images": [
        {"id": 30, "file_name": "c.jpg", "height": 30, "width": 40},
        {"id": 10, "file_name": "a.jpg", "height": 24, "width": 50},
        {"id": 20, "file_name": "b.jpg", "height": 36, "width": 20},
    ],
    "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 90, "name": "cow"}],
    "annotations": [
        {"image_id": 30, "category_id": 7, "bbox": [1.5, 2, 10.25, 5], "iscrowd": 0},
        {"image_id": 10, "category_id": 90, "bbox": [0, 0, 50, 24], "iscrowd": 1},
        {"image_id": 30, "category_id": 2, "bbox": [35, 3, 9, 9]},
    ],
}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, CONTENT)
    for number, image in enumerate(CONTENT["images"]):
        path = tmp_path / "images" / "val2017" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photo(number, image["height"], image["width"]), "JPEG"))
    return tmp_path


def write(folder, content) -> None:
    (folder / "annotations").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "annotations" / "instances_val2017.json").write_text(text)


def opened(folder, split="val", **options):
    return open_dataset("coco", split, target="boxes", manual_dir=folder, data_dir=folder / "data", **options)


def test_records(folder):
    first = opened(folder)
    assert (first.name, first.split, first.class_names) == ("coco", "val", ("cat", "dog", "cow"))
    for source in (first, pickle.loads(pickle.dumps(first))):
        records = list(source)
        assert [record["id"] for record in records] == ["10", "20", "30"]
        assert records[2]["image"] == (folder / "images/val2017/c.jpg").read_bytes()
        np.testing.assert_array_equal(records[2]["boxes"], [(1.5, 2, 11.75, 7), (35, 3, 40, 12)])  # the last cut off
        assert records[2]["labels"].tolist() == [1, 0]
        assert records[0]["crowd"].tolist() == [True]
        assert records[1]["boxes"].shape == (0, 4)
        assert not any(record["difficult"].any() for record in records)
    assert image_sizes(source) == [(24, 50), (36, 20), (30, 40)]
    assert len(opened(folder, "val2017")) == 3
    with pytest.raises(IndexError):
        source[3]


def test_bad_boxes(folder):
    thing = {"image_id": 20, "category_id": 7, "bbox": [3, 4, 0, 9]}
    write(folder, CONTENT | {"annotations": [*CONTENT["annotations"], thing]})
    with pytest.raises(DataError, match=r"^b\.jpg \(image 20\): box 1 of 1, dog at \(3, 4, 3, 13\), is empty"):
        opened(folder)[1]
    record = opened(folder, on_bad_boxes="drop")[1]
    assert (len(record["boxes"]), record["dropped_boxes"]) == (0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not in COCO's format"),
        ("[]", "is not in COCO's format"),
        ({"images": []}, r"lacks an entry .* \('categories'\)"),
        (CONTENT | {"images": []}, r"annotation of no image or category \(30\)"),
        (CONTENT | {"annotations": [{"image_id": 10, "category_id": 7, "bbox": [1, 2, 3]}]}, "is not in COCO's format"),
    ],
)
def test_damaged_files_are_named(folder, content, message):
    write(folder, content)
    with pytest.raises(DataError, match=rf"instances_val2017\.json: .*{message}"):
        opened(folder)


def test_what_is_missing_is_named(folder):
    with pytest.raises(DataError, match=r"coco: there is no annotations/instances_train\.json \(or train2017, "):
        opened(folder, "train")
    (folder / "images/val2017/a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read"):
        opened(folder)[0]
    (folder / "images").rename(folder / "photos")
    with pytest.raises(DataError, match="the annotations of val2017 have no images; put them into"):
        opened(folder)
