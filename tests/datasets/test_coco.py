"""COCO's format: categories, crowds, folders, and what is wrong with a file."""

import json
import pickle

import numpy as np
import pytest
from PIL import ExifTags, Image
from tiny_sets import encoded, photo

from cvjax.data.dataset import image_sizes
from cvjax.datasets import image_headers
from cvjax.datasets.image_headers import read_headers
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
    data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else None
    path = folder / "annotations" / "instances_val2017.json"
    path.write_bytes(json.dumps(content).encode() if data is None else data)


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
    said = r"^b\.jpg \(image 20 of instances_val2017\.json\): box 1 of 1, dog at \(3, 4, 3, 13\), is empty"
    with pytest.raises(DataError, match=said):
        opened(folder)
    record = opened(folder, on_bad_boxes="drop")[1]
    assert (len(record["boxes"]), record["dropped_boxes"]) == (0, 1)


IMAGES, CATEGORIES, THINGS = (CONTENT[key] for key in ("images", "categories", "annotations"))


def with_thing(**entries) -> dict:
    """The content with another annotation, of id 5, whose entries are changed."""
    thing = {"id": 5, "image_id": 10, "category_id": 7, "bbox": [1, 2, 3, 4]} | entries
    return CONTENT | {"annotations": [*THINGS, {key: value for key, value in thing.items() if value is not None}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"\xe8": 1}', "is no text in utf-8"),
        (
            {**CONTENT, "images": [*IMAGES, {"id": 10, "file_name": "x/d.jpg"}]},
            "image 10 is there twice, that of a.jpg and that of x/d.jpg; give each its own id, also",
        ),
        (
            {**CONTENT, "images": [*IMAGES, {"id": 40, "file_name": "a.jpg"}]},
            "the images 10 and 40 have the same file a.jpg",
        ),
        ({**CONTENT, "images": [*IMAGES, {"id": "40", "file_name": "d.jpg"}]}, "some ids of the images are numbers"),
        ({**CONTENT, "images": [*IMAGES, {"file_name": "d.jpg"}]}, "image 4 of 4 has no id"),
        ({**CONTENT, "images": [*IMAGES, {"id": 40}]}, "image 40 has no file_name"),
        (
            {**CONTENT, "images": [*IMAGES, {"id": 40, "file_name": "d.jpg", "height": "9", "width": 9}]},
            'image 40 has "9" as height and 9 as width',
        ),
        (
            {**CONTENT, "categories": [*CATEGORIES, {"id": 2, "name": "pig"}]},
            "category 2 is there twice, that of cat and that of pig",
        ),
        (
            {**CONTENT, "categories": [*CATEGORIES, {"id": 3, "name": "cat"}]},
            "the categories 2 and 3 have the same name cat",
        ),
        ({**CONTENT, "categories": [*CATEGORIES, {"id": 3}]}, "category 3 has no name"),
        (with_thing(image_id=11), "annotation 5 is of the image 11, which is not listed; list the image, or"),
        (with_thing(image_id="10"), 'annotation 5 is of the image "10", which is not listed'),
        (with_thing(image_id=None), "annotation 5 has no image_id"),
        (with_thing(category_id=1), "annotation 5 is of the category 1, which is not listed"),
        (
            with_thing(bbox=[1, 2, 3, 2, 3, 4, 1, 4]),
            "annotation 5 has the bbox .1, 2, 3, 2, 3, 4, 1, 4. and not .* or export boxes and no outlines",
        ),
        (with_thing(bbox=None), "annotation 5 has no bbox and not"),
        (with_thing(bbox=[1, 2, "3", 4]), 'annotation 5 has the bbox .1, 2, "3", 4. and'),
        (with_thing(bbox=[1, 2, float("nan"), 4]), "annotation 5 has the bbox .1, 2, NaN, 4. and"),
        (with_thing(bbox=[1, 2, True, 4]), "annotation 5 has the bbox .1, 2, true, 4. and"),
        (with_thing(area="12"), 'annotation 5 has "12" as area'),
        (with_thing(area=-1), "annotation 5 has -1 as area"),
        (with_thing(iscrowd=2), "annotation 5 has 2 as iscrowd; write 0 or 1"),
        (
            {**CONTENT, "annotations": [with_thing()["annotations"][-1], with_thing(image_id=20)["annotations"][-1]]},
            "annotation 5 is there twice, that of a.jpg and that of b.jpg; give each its own id.$",
        ),
        ("{", "breaks off or is no JSON at line 1, column 2"),
        ("[]", "is not in COCO's format"),
        ({"images": []}, "is not in COCO's format, which has a list of categories"),
        (CONTENT | {"images": []}, r"annotation 1 of 3 is of the image 30, which is not listed"),
        (
            CONTENT | {"annotations": [{"image_id": 10, "category_id": 7, "bbox": [1, 2, 3]}]},
            r"annotation 1 of 1 has the bbox \[1, 2, 3\] and not \[x, y, width, height\]",
        ),
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
    with pytest.raises(DataError, match=r"_val2017\.json: 1 of its 3 images are not in .*/images/val2017 \(a\.jpg\)"):
        opened(folder)
    (folder / "images").rename(folder / "photos")
    with pytest.raises(DataError, match="the annotations of val2017 have no images; put them into"):
        opened(folder)


def test_sizes_are_those_of_the_files(folder):
    images = [{key: value for key, value in image.items() if key not in ("height", "width")} for image in IMAGES]
    write(folder, CONTENT | {"images": [*images[:2], images[2] | {"height": 0, "width": 0}]})
    source = opened(folder)
    assert image_sizes(source) == [(24, 50), (36, 20), (30, 40)]
    np.testing.assert_array_equal(source[2]["boxes"][1], (35, 3, 40, 12))  # cut off at the file's border
    write(folder, CONTENT | {"images": [*IMAGES[:2], IMAGES[2] | {"height": 72, "width": 40}]})
    said = r"^b\.jpg \(image 20 of instances_val2017\.json\): .* stated as 72x40 .* b\.jpg has 36x20; put the image"
    with pytest.raises(DataError, match=said):
        opened(folder)


def test_a_turned_photograph(folder):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8  # turned to the left by a viewer: y becomes the width minus x
    (folder / "images/val2017/c.jpg").write_bytes(encoded(photo(0), "JPEG", exif=exif))
    upright = IMAGES[0] | {"height": 40, "width": 30}
    for image, box in ((upright, [2, 31, 5, 7]), (IMAGES[0], [2, 2, 7, 5])):
        things = with_thing(image_id=30, bbox=box)["annotations"][-1:]
        write(folder, {**CONTENT, "images": [image, *IMAGES[1:]], "annotations": things})
        source = opened(folder)
        np.testing.assert_array_equal(source[2]["boxes"], [(2, 31, 7, 38)])
        assert image_sizes(source)[2] == (40, 30)


def test_files_in_folders_and_files_that_are_absent(folder):
    images = folder / "images"
    (images / "val2017" / "deep").mkdir()
    (images / "val2017" / "a.jpg").rename(images / "val2017" / "deep" / "a.jpg")
    for below in ("", "val2017/", "images/val2017/"):
        names = {"a.jpg": "deep/a.jpg"}
        renamed = [image | {"file_name": below + names.get(image["file_name"], image["file_name"])} for image in IMAGES]
        write(folder, CONTENT | {"images": renamed})
        assert [path[len(str(images)) :] for path in opened(folder).image_files()] == [
            f"/val2017/{name}" for name in ("deep/a.jpg", "b.jpg", "c.jpg")
        ]
    many = [{"id": 100 + n, "file_name": f"no{n}.jpg"} for n in range(5)]
    write(folder, CONTENT | {"images": [*renamed, *many]})
    with pytest.raises(
        DataError, match=r"5 of its 8 images are not in .* \(no0\.jpg, no1\.jpg, no2\.jpg, \.\.\.\); add"
    ):
        opened(folder)


def test_outlines_do_not_matter_and_areas_are_kept(folder):
    things = [
        {
            "id": 1,
            "image_id": 10,
            "category_id": 2,
            "bbox": [1, 1, 8, 8],
            "area": 20.5,
            "segmentation": [[1, 1, 9, 1, 9, 9]],
        },
        {"id": 2, "image_id": 10, "category_id": 2, "bbox": [0, 0, 9, 9], "area": 5, "iscrowd": 1}
        | {"segmentation": {"counts": "PPYo0", "size": [24, 50]}},
        {"id": 3, "image_id": 10, "category_id": 2, "bbox": [2, 3, 4, 5], "area": None, "iscrowd": False}
        | {"segmentation": {"counts": [1199, 1], "size": [24, 50]}},
    ]
    write(folder, CONTENT | {"annotations": things})
    record = opened(folder)[0]
    assert record["areas"].tolist() == [20.5, 5, 20]  # the last is its box's
    assert record["crowd"].tolist() == [False, True, False]


def test_headers_of_large_sets_are_kept_until_a_file_changes(folder, monkeypatch):
    paths, data_dir = opened(folder).image_files(), folder / "data"

    def sizes(paths):
        found = read_headers(paths, data_dir, keep_from=3)
        return [header and (header.height, header.width, header.orientation) for header in found]

    first = sizes(paths)
    assert first == [(24, 50, 1), (36, 20, 1), (30, 40, 1)]
    (kept,) = (data_dir / "headers").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(image_headers, "read_header", lambda *_: pytest.fail("a header is read again"))
        assert sizes(paths) == first
    assert sizes(paths[::-1]) == first[::-1]
    changed = folder / "images/val2017/a.jpg"
    for data, wanted in ((b"torn", None), (encoded(photo(0, 9, 8), "PNG"), (9, 8, 1))):
        changed.write_bytes(data)
        assert [sizes(paths), sizes(paths)] == 2 * [[wanted, *first[1:]]]
    for damaged in (b"", b"\x93NUMPY"):
        for file in (data_dir / "headers").iterdir():
            file.write_bytes(damaged)
        assert sizes(paths) == [(9, 8, 1), *first[1:]]
    assert kept.exists()
