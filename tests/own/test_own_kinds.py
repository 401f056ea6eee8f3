"""What tools and people write in each format beside the plain case: paths, encodings, shapes, turned photographs."""

import base64
import json
import logging
import math
import pathlib

import numpy as np
import pytest
from own_sets import (
    CLASSES,
    coco_content,
    labelme_content,
    mask_of,
    photos,
    put,
    write_coco,
    write_cvat,
    write_labelme,
    write_yolo,
    yolo_lines,
)
from PIL import ExifTags, Image
from tiny_sets import encoded, mask_png, photo

from cvjax.cli.data.convert import main as convert
from cvjax.data.annotations import decode_boxes_example
from cvjax.data.decode import decode_example
from cvjax.data.objects import decode_objects
from cvjax.datasets.own import open_own, splits_of
from cvjax.errors import DataError

SPLITS = photos()
TRAIN = SPLITS["train"]


def _same(folder: pathlib.Path, split: str = "train", shown=TRAIN) -> None:
    """Asserts that a folder's boxes are those of the photographs."""
    source = open_own(folder, split, "boxes")
    assert len(source) == len(shown)
    for index, each in enumerate(shown):
        wanted = np.array([thing.box for thing in each.things]).reshape(-1, 4)
        np.testing.assert_allclose(source[index]["boxes"], wanted, atol=1e-5)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_with_a_byte_order_mark(tmp_path, encoding):
    text = json.dumps(coco_content(TRAIN), ensure_ascii=False)
    put(tmp_path / "coco", "mine.json", text.encode(encoding))
    for each in TRAIN:
        put(tmp_path, f"coco/{each.stem}.png", each.data)
        put(tmp_path, f"labelme/{each.stem}.png", each.data)
        put(tmp_path, f"labelme/{each.stem}.json", json.dumps(labelme_content(each, True)).encode(encoding))
    _same(tmp_path / "coco")
    _same(tmp_path / "labelme")


def test_coco_with_paths_of_windows_and_ids_that_are_texts(tmp_path):
    content = coco_content(TRAIN, folder="C:\\Users\\ann\\pets\\")
    for entry in (*content["images"], *content["categories"]):
        entry["id"] = f"n{entry['id']}"
    for thing in content["annotations"]:
        thing |= {key: f"n{thing[key]}" for key in ("image_id", "category_id")}
    put(tmp_path, "mine.json", json.dumps(content))
    for each in TRAIN:
        put(tmp_path, f"data/{each.stem}.png", each.data)
    _same(tmp_path)
    _same(tmp_path / "mine.json")


def test_coco_of_two_years(tmp_path):
    for year in ("2014", "2017"):
        write_coco(tmp_path, {f"train{year}": TRAIN})
    write_coco(tmp_path, {"val2017": SPLITS["val"]})
    put(tmp_path, "annotations/captions_val2017.json", "{}")
    assert splits_of(tmp_path) == ["train2014", "train2017", "val"]
    _same(tmp_path, "val", SPLITS["val"])


@pytest.mark.parametrize(
    "way", ["plain", "absolute list", "list of files", "roboflow", "two folders", "beside", "windows", "poses"]
)
def test_yolo_as_people_lay_it_out(tmp_path, way):
    write_yolo(tmp_path, {"train": TRAIN, "val": SPLITS["val"]})
    names = json.dumps(CLASSES)
    rows = {"train": "images/train", "val": "images/val"}
    if way == "list of files":
        rows["train"] = "lists/train.txt"
        put(tmp_path, "lists/train.txt", "".join(f"../images/train/{each.stem}.png\r\n" for each in TRAIN))
    if way == "absolute list":
        rows["train"] = "train.txt"
        put(tmp_path, "train.txt", "".join(f"{tmp_path}/images/train/{each.stem}.png\n" for each in TRAIN))
    if way == "poses":
        rows["kpt_shape"] = "[2, 2]"
        for split, shown in SPLITS.items():
            for each in shown:
                lines = yolo_lines(each, False).replace("\n", " 0.1 0.2 0.3 0.4\n") if each.things else ""
                put(tmp_path, f"labels/{split}/{each.stem}.txt", lines)
    if way == "roboflow":
        for split, folder in (("train", "train"), ("val", "valid")):
            for kind in ("images", "labels"):
                (tmp_path / folder).mkdir(exist_ok=True)
                (tmp_path / kind / split).rename(tmp_path / folder / kind)
        rows = {"train": "../train/images", "val": "../valid/images", "test": ""}
    if way == "two folders":
        put(tmp_path, "more/images/p2.png", TRAIN[2].data)
        (tmp_path / "images/train/p2.png").unlink()
        rows["train"] = '["images/train", "more/images"]'
    if way == "beside":
        for each in TRAIN:
            (tmp_path / f"images/train/{each.stem}.png").rename(tmp_path / f"{each.stem}.png")
            put(tmp_path, f"{each.stem}.txt", "\ufeff" + yolo_lines(each, False))
        put(tmp_path, "train.txt", "".join(f"./{each.stem}.png\n" for each in TRAIN))
        rows["train"] = "train.txt"
    if way == "windows":
        rows["train"] = "'C:\\Users\\ann\\pets\\images\\train'"
    text = "\n".join(["\ufeffnames: " + names, *(f"{key}: {value}" for key, value in rows.items())])
    put(tmp_path, "data.yaml", text)
    _same(tmp_path)
    _same(tmp_path / "data.yaml")
    _same(tmp_path, "val", SPLITS["val"])


def test_shapes_of_labelme(tmp_path, caplog):
    content = labelme_content(TRAIN[0], polygons=True)
    pixels = np.zeros((5, 6), np.uint8)
    pixels[1:, 2:5] = 1
    content["shapes"] = [
        {"label": "cat", "shape_type": "rectangle", "points": [[12, 9], [2, 3]]},
        {"label": "dog", "shape_type": "circle", "points": [[20, 12], [20, 18]]},
        {"label": "emu", "points": [[1, 15], [4, 15], [4, 20]], "group_id": 3},
        {"label": "emu", "points": [[6, 15], [9, 15], [9, 20]], "group_id": 3},
        {"label": "emu", "shape_type": "mask", "points": [[28, 2], [33, 6]], "mask": _base64(mask_png(pixels))},
        {"label": "emu", "shape_type": "point", "points": [[1, 1]]},
        {"label": "_background_", "points": [[1, 1], [3, 1], [3, 3]]},
    ]
    put(tmp_path, "p0.json", json.dumps(content))
    put(tmp_path, "p0.png", TRAIN[0].data)
    with caplog.at_level(logging.WARNING):
        objects = open_own(tmp_path, "all", "boxes")[0]
    assert "passed over shapes that have no area or no class: _background_ (1), point (1)" in caplog.text
    wanted = [(2, 3, 12, 9), (14, 6, 26, 18), (1, 15, 9, 20), (30, 3, 33, 7)]
    np.testing.assert_allclose(objects["boxes"], wanted, atol=1e-5)
    mask = decode_example(open_own(tmp_path, "all", "mask")[0], 4)["mask"]
    assert (mask[3:9, 2:12] == 1).all()
    assert (mask == 2).sum() == pytest.approx(math.pi * 36, rel=0.03)
    np.testing.assert_array_equal(mask[2:7, 28:34] == 3, pixels == 1)
    found = decode_objects(open_own(tmp_path, "all", "objects")[0], 4)["objects"]
    assert found.labels.tolist() == [1, 2, 3, 3]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_shapes_of_cvat(tmp_path, caplog):
    write_cvat(tmp_path, {"train": TRAIN})
    inside = np.zeros((3, 4), bool)
    inside[0, 1:] = inside[2, :2] = True
    shapes = [
        '<box label="cat" xtl="10" ytl="8" xbr="20" ybr="12" rotation="90" z_order="0"/>',
        '<ellipse label="dog" cx="20" cy="16" rx="5" ry="3" z_order="-1"><attribute name="difficult">true</attribute>'
        "</ellipse>",
        '<mask label="emu" rle="1, 3, 4, 2, 2" left="30" top="1" width="4" height="3" z_order="0"/>',
        '<points label="cat" points="1,1"/>',
    ]
    file = tmp_path / "annotations.xml"
    before, _, behind = file.read_text().partition("<polygon")
    file.write_text(before + "".join(shapes) + behind[behind.index("</image>") :])
    with caplog.at_level(logging.WARNING):
        objects = open_own(tmp_path, "train", "boxes")[0]
    assert "points (1)" in caplog.text
    # The ellipse lies below all others, and the turned box stands upright around the same middle.
    np.testing.assert_allclose(objects["boxes"], [(15, 13, 25, 19), (13, 5, 17, 15), (30, 1, 34, 4)], atol=1e-5)
    assert objects["difficult"].tolist() == [True, False, False]
    mask = decode_example(open_own(tmp_path, "train", "mask")[0], 4)["mask"]
    np.testing.assert_array_equal(mask[1:4, 30:34] == 3, inside)
    assert (mask[5:15, 13:17] == 1).all()


def test_cvats_labels_without_meta_are_those_of_all_subsets(tmp_path):
    write_cvat(tmp_path, {"train": TRAIN, "val": SPLITS["val"]})
    file = tmp_path / "annotations.xml"
    head, _, behind = file.read_text().partition("<meta>")
    file.write_text(head + behind.partition("</meta>")[2])
    _same(tmp_path)
    for split in ("train", "val"):
        assert open_own(tmp_path, split, "boxes").class_names == CLASSES


def test_boxes_reach_over_the_border_and_bad_ones_are_dropped(tmp_path):
    content = coco_content(TRAIN)
    content["annotations"][0]["bbox"] = [-5, -5, 15, 15]
    content["annotations"][1]["bbox"] = [5, 5, 0, 15]
    put(tmp_path, "mine.json", json.dumps(content))
    for each in TRAIN:
        put(tmp_path, f"{each.stem}.png", each.data)
    source = open_own(tmp_path, "all", "boxes", on_bad_boxes="drop")
    np.testing.assert_array_equal(source[0]["boxes"], [[0, 0, 10, 10]])
    assert [source[index]["dropped_boxes"] for index in range(3)] == [0, 1, 0]


def test_what_masks_cannot_hold_is_refused(tmp_path):
    content = coco_content(TRAIN[:1])
    thing = content["annotations"][0]
    content["annotations"] = [{**thing, "id": number} for number in range(255)]
    put(tmp_path, "many.json", json.dumps(content))
    content["annotations"] = [thing | {"segmentation": {"size": [12, 72], "counts": [864]}}]
    put(tmp_path, "other.json", json.dumps(content))
    put(tmp_path, "p0.png", TRAIN[0].data)
    with pytest.raises(DataError, match=r"many.json, image p0.png: there are 255 objects in p0.png, and at most 254"):
        open_own(tmp_path / "many.json", "all", "objects")
    assert decode_example(open_own(tmp_path / "many.json", "all", "mask")[0], 4)["mask"].max() == 1
    with pytest.raises(DataError, match=r"annotation 1 has run lengths of 12x72 \(height x width\) and .* has 24x36"):
        open_own(tmp_path / "other.json", "all", "mask")


def test_a_damaged_image_is_met_when_it_is_read(tmp_path):
    write_coco(tmp_path, {"train": TRAIN})
    (tmp_path / "images/train/p1.png").write_bytes(TRAIN[1].data[:-60])
    source = open_own(tmp_path, "train", "boxes")
    decode_boxes_example(source[0], 3)
    with pytest.raises(ValueError, match="11"):
        decode_boxes_example(source[1], 3)


@pytest.mark.parametrize("stated", ["upright", "stored"])
@pytest.mark.parametrize("form", ["polygon", "runs"])
def test_a_turned_photograph(tmp_path, stated, form):
    """EXIF turns the stored 30 x 40 pixels to 40 x 30; annotations of either frame mark the same pixels upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    put(tmp_path, "own/p.jpg", encoded(photo(1), "JPEG", exif=exif))
    upright = np.zeros((40, 30), np.uint8)
    upright[5:9, 20:27] = 1
    pixels = upright if stated == "upright" else np.rot90(upright)  # undoes a quarter turn clockwise
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    x1, y1, x2, y2 = (float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    outline: object = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    if form == "runs":
        flat = np.concatenate([[0], pixels.T.ravel(), [0]])
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        counts = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
        outline = {"size": list(pixels.shape), "counts": counts}
    content = {
        "images": [{"id": 1, "file_name": "p.jpg", "height": pixels.shape[0], "width": pixels.shape[1]}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": outline}
        ],
    }
    put(tmp_path, "own/mine.json", json.dumps(content))
    places = [tmp_path / "own"]
    for to in ("coco", "yolo"):
        convert([str(tmp_path / "own"), str(tmp_path / to), "--to", to])
        places.append(tmp_path / to)
    for place in places:
        np.testing.assert_allclose(open_own(place, "train", "boxes")[0]["boxes"], [[20, 5, 27, 9]], atol=1e-5)
        if place.name != "yolo" or form == "runs":  # a rectangle is a mere box in YOLO text
            decoded = decode_example(open_own(place, "train", "mask")[0], 2)
            np.testing.assert_array_equal(decoded["mask"], upright)


def test_a_class_called_background_is_the_background(tmp_path):
    write_labelme(tmp_path, {"train": TRAIN})
    text = (tmp_path / "labels.txt").read_text().replace("dog", "Background")
    (tmp_path / "labels.txt").write_text(text)
    for file in (tmp_path / "train").glob("*.json"):
        file.write_text(file.read_text().replace('"dog"', '"Background"'))
    source = open_own(tmp_path, "train", "mask")
    assert source.class_names == ("background", "cat", "emu")
    wanted = mask_of(TRAIN[1])
    np.testing.assert_array_equal(decode_example(source[1], 3)["mask"], np.where(wanted == 1, 1, 0))
