"""Boxes in XML and in COCO's format, their images, and proposals."""

import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from bad_inputs import BadInput
from PIL import ExifTags, Image
from tiny_sets import Box, box_xml, encoded, photo

_XML = "cvjax.cli.boxes xml_folder_detection --manual-dir DATA --no-progress"
_COCO = "cvjax.cli.boxes coco --manual-dir DATA --data-dir DATA/prepared --no-progress"
_RUN = "experiments.yolo_voc quick --input.manual-dir DATA --workdir DATA/run"
_CAT: Box = ("cat", 3, 4, 20, 18)
_PHOTO = encoded(photo(0), "JPEG")  # 30 x 40


def _xml(data: bytes, image: bytes = _PHOTO, suffix: str = "jpg") -> Callable[[pathlib.Path], None]:
    def make(folder: pathlib.Path) -> None:
        (folder / "train").mkdir()
        (folder / "train" / f"a.{suffix}").write_bytes(image)
        (folder / "train" / "a.xml").write_bytes(data)

    return make


def _turned() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(photo(0), "JPEG", exif=exif)


def _object(**entries: Any) -> dict[str, Any]:
    thing = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [2, 3, 18, 15], "area": 100, "iscrowd": 0} | entries
    return {"annotations": [{key: value for key, value in thing.items() if value is not None}]}


def _coco(**entries: Any) -> Callable[[pathlib.Path], None]:
    """Writes two images with a box, with some of the file's lists changed."""
    content = {
        "images": [
            {"id": n, "file_name": f"{name}.jpg", "height": 30, "width": 40} for n, name in ((1, "a"), (2, "b"))
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        **_object(),
        **entries,
    }

    def make(folder: pathlib.Path) -> None:
        for name in ("annotations", "train2017"):
            (folder / name).mkdir()
        (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
        for name in ("a", "b"):
            (folder / "train2017" / f"{name}.jpg").write_bytes(_PHOTO)

    return make


def _image(**entries: Any) -> dict[str, Any]:
    return {"images": [{"id": 1, "file_name": "a.jpg", "height": 30, "width": 40} | entries]}


def _cut_off(folder: pathlib.Path) -> None:
    """Writes a COCO file that ends in its midst."""
    _coco()(folder)
    path = folder / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text()[:99])


def _proposals_of_others(folder: pathlib.Path) -> None:
    """Writes a folder of images, and proposals that say they are of other ones."""
    for split in ("train", "val"):
        (folder / split).mkdir()
        (folder / split / "a.jpg").write_bytes(_PHOTO)
        (folder / split / "a.xml").write_bytes(box_xml([_CAT]))
        place = folder / "boxes" / "xml_folder_detection" / split
        place.mkdir(parents=True)
        for name, array in (("boxes", np.zeros((1, 4), np.float32)), ("ends", np.ones(1, np.int64))):
            buffer = io.BytesIO()
            np.save(buffer, array)
            (place / f"{name}.npy").write_bytes(buffer.getvalue())
        (place / "ids.json").write_text('["a"]')
        (place / "config.json").write_text('{"images": "0123456789abcdef"}')


_TEXT = box_xml([_CAT]).decode()

ROWS = [
    BadInput(
        "XML that states another size than its image has",
        _XML,
        _xml(box_xml([_CAT], size=(60, 80))),
        ("DATA/train/a.xml", "60x80", "a.jpg has 30x40"),
    ),
    BadInput(
        "XML of an image that a viewer turns, with a size that fits neither way",
        f"{_RUN} --data xml_folder_detection",
        _xml(box_xml([_CAT], size=(30, 41)), _turned()),
        ("DATA/train/a.xml", "30x41", "a.jpg has 40x30"),
    ),
    BadInput(
        "XML whose size is no number",
        _XML,
        _xml(_TEXT.replace("<height>30", "<height>tall").encode()),
        ("DATA/train/a.xml", "'tall' by '40'"),
    ),
    BadInput(
        "XML that breaks off",
        f"{_RUN} --data xml_folder_detection",
        _xml(_TEXT.replace("><", ">\n<").encode()[:120]),
        ("DATA/train/a.xml", "line 9"),
    ),
    BadInput(
        "an empty XML file",
        _XML,
        _xml(b""),
        ("DATA/train/a.xml", "empty"),
    ),
    BadInput(
        "XML with a letter of another encoding and without a declaration",
        _XML,
        _xml(_TEXT.replace("cat", "ch\xe8vre").encode("latin-1")),
        ("DATA/train/a.xml", "line 1", "utf-8"),
    ),
    BadInput(
        "XML in an encoding that nobody knows",
        _XML,
        _xml(b'<?xml version="1.0" encoding="x-mine"?>' + _TEXT.encode()),
        ("DATA/train/a.xml", "x-mine"),
    ),
    BadInput(
        "XML of another tool's format",
        _XML,
        _xml(b'<annotations><image name="a.jpg"><box label="cat" xtl="1" ytl="2"/></image></annotations>'),
        ("DATA/train/a.xml", "<annotations>", "PASCAL VOC"),
    ),
    BadInput(
        "XML with a box that lacks a corner",
        _XML,
        _xml(_TEXT.replace("<xmax>20</xmax>", "").encode()),
        ("DATA/train/a.xml", "object 1", "xmax"),
    ),
    BadInput(
        "XML with another word than 0 or 1 as difficult",
        _XML,
        _xml(_TEXT.replace("<difficult>0", "<difficult>rather").encode()),
        ("DATA/train/a.xml", "object 1", "'rather'"),
    ),
    BadInput(
        "XML with a box whose corners are exchanged",
        f"{_RUN} --data xml_folder_detection",
        _xml(box_xml([("cat", 20, 4, 3, 18)])),
        ("DATA/train/a.xml", "cat at (20, 4, 3, 18)", "--input.on-bad-boxes drop"),
    ),
    BadInput(
        "XML with a box beside its image",
        _XML,
        _xml(box_xml([_CAT, ("cat", 45, 4, 60, 18)])),
        ("DATA/train/a.xml", "box 2 of 2", "outside its image of 30x40"),
    ),
    BadInput(
        "a COCO file that is cut off",
        _COCO,
        _cut_off,
        ("DATA/annotations/instances_train2017.json", "line 1"),
    ),
    BadInput(
        "a COCO file without categories",
        _COCO,
        _coco(categories=None),
        ("instances_train2017.json", "categories"),
    ),
    BadInput(
        "COCO that states another size than its image has",
        f"{_RUN} --data coco",
        _coco(**_image(height=60, width=80)),
        ("a.jpg (image 1 of instances_train2017.json)", "60x80", "30x40"),
    ),
    BadInput(
        "a COCO image whose height is a text",
        _COCO,
        _coco(**_image(height="30")),
        ("instances_train2017.json", "image 1", '"30"'),
    ),
    BadInput(
        "an image's id twice in COCO",
        f"{_RUN} --data coco",
        _coco(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]),
        ("instances_train2017.json", "image 1", "a.jpg", "b.jpg"),
    ),
    BadInput(
        "a file under two ids in COCO",
        _COCO,
        _coco(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}]),
        ("instances_train2017.json", "1 and 2", "a.jpg"),
    ),
    BadInput(
        "COCO images that are not there",
        _COCO,
        _coco(images=[{"id": n, "file_name": f"deep/{n}.jpg"} for n in range(5)], annotations=[]),
        ("instances_train2017.json", "5 of its 5 images", "deep/0.jpg, deep/1.jpg, deep/2.jpg, ..."),
    ),
    BadInput(
        "a category's id twice in COCO",
        _COCO,
        _coco(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]),
        ("instances_train2017.json", "category 1", "cat", "dog"),
    ),
    BadInput(
        "a category's name twice in COCO",
        _COCO,
        _coco(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]),
        ("instances_train2017.json", "1 and 2", "cat"),
    ),
    BadInput(
        "an annotation's id twice in COCO",
        _COCO,
        _coco(annotations=[_object()["annotations"][0], _object(image_id=2)["annotations"][0]]),
        ("instances_train2017.json", "annotation 7", "a.jpg", "b.jpg"),
    ),
    BadInput(
        "a COCO annotation of an image that is not listed",
        _COCO,
        _coco(**_object(image_id=9)),
        ("instances_train2017.json", "annotation 7", "image 9"),
    ),
    BadInput(
        "a COCO annotation of a category that is not listed",
        _COCO,
        _coco(**_object(category_id="cat")),
        ("instances_train2017.json", "annotation 7", 'category "cat"'),
    ),
    BadInput(
        "a COCO box of eight numbers",
        f"{_RUN} --data coco",
        _coco(**_object(bbox=[2, 3, 20, 3, 20, 18, 2, 18])),
        ("instances_train2017.json", "annotation 7", "[2, 3, 20, 3, 20, 18, 2, 18]", "[x, y, width, height]"),
    ),
    BadInput(
        "a COCO box with a number in quotes",
        _COCO,
        _coco(**_object(bbox=[2, 3, "18", 15])),
        ("instances_train2017.json", "annotation 7", '[2, 3, "18", 15]'),
    ),
    BadInput(
        "a COCO box that is not a number",
        _COCO,
        _coco(**_object(bbox=[2, 3, float("nan"), 15])),
        ("instances_train2017.json", "annotation 7", "NaN"),
    ),
    BadInput(
        "a COCO area below 0",
        _COCO,
        _coco(**_object(area=-4)),
        ("instances_train2017.json", "annotation 7", "-4 as area"),
    ),
    BadInput(
        "a COCO box without width",
        _COCO,
        _coco(**_object(bbox=[2, 3, 0, 15])),
        ("a.jpg (image 1 of instances_train2017.json)", "cat at (2, 3, 2, 18)", "--on-bad-boxes drop"),
    ),
    BadInput(
        "proposals that were made of other images",
        "experiments.fast_rcnn_voc quick --data xml_folder_detection --input.manual-dir DATA --workdir DATA/run"
        " --input.proposals-from DATA/boxes",
        _proposals_of_others,
        ("DATA/boxes/xml_folder_detection/train", "xml_folder_detection/train"),
    ),
]
