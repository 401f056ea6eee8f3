"""One's own data with boxes and outlines, in formats that are recognized: what cannot be read of them."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from bad_inputs import BadInput
from own_sets import CLASSES, coco_content, labelme_content, photos, put, write_cvat, write_voc, write_yolo

_CONVERT = "cvjax.cli.data.convert DATA DATA/out --to yolo"
_RUN = "experiments.yolo_voc quick --data DATA --workdir DATA/run"
_MASKS = "experiments.deeplab_voc quick --data DATA --workdir DATA/run"
_SPLITS = photos()
_TRAIN = {"train": _SPLITS["train"]}
_Make = Callable[[pathlib.Path], None]


def _nothing(folder: pathlib.Path) -> None:
    put(folder, "notes.doc", "no data")


def _labels(folder: pathlib.Path) -> None:
    put(folder, "labels.csv", "p0.png,cat\np1.png,dog\n")
    for each in _SPLITS["train"][:2]:
        put(folder, each.file, each.data)


def _coco(change: Callable[[dict[str, Any]], object]) -> _Make:
    """Writes a file in COCO's format, changed, with its images."""

    def make(folder: pathlib.Path) -> None:
        content = coco_content(_SPLITS["train"])
        change(content)
        put(folder, "mine.json", json.dumps(content))
        for each in _SPLITS["train"]:
            put(folder, f"images/{each.stem}.png", each.data)

    return make


def _thing(**entries: Any) -> _Make:
    return _coco(lambda content: content["annotations"][0].update(entries))


def _cut_off(folder: pathlib.Path) -> None:
    _coco(lambda content: None)(folder)
    place = folder / "mine.json"
    place.write_text(place.read_text()[:300])


def _yolo(path: str, content: str) -> _Make:
    """Writes YOLO text with one file's content replaced."""

    def make(folder: pathlib.Path) -> None:
        write_yolo(folder, _TRAIN)
        put(folder, path, content)

    return make


def _line(text: str) -> _Make:
    return _yolo("labels/train/p1.txt", f"1 0.5 0.5 0.25 0.25\n{text}\n")


def _yaml(**entries: Any) -> _Make:
    rows = {"train": "images/train", "names": list(CLASSES), **entries}
    return _yolo("data.yaml", "\n".join(f"{key}: {json.dumps(value)}" for key, value in rows.items()))


def _twins(folder: pathlib.Path) -> None:
    write_yolo(folder, _TRAIN)
    put(folder, "images/train/p1.jpg", _SPLITS["train"][1].data)


def _unlabeled(folder: pathlib.Path) -> None:
    write_yolo(folder, _TRAIN)
    (folder / "labels").rename(folder / "texts")


def _labelme(change: Callable[[dict[str, Any]], object], with_image: bool = True) -> _Make:
    """Writes a file of LabelMe's, changed, with its image."""

    def make(folder: pathlib.Path) -> None:
        content = labelme_content(_SPLITS["train"][0], polygons=True)
        change(content)
        put(folder, "p0.json", json.dumps(content))
        put(folder, "labels.txt", "\n".join(CLASSES))
        if with_image:
            put(folder, "p0.png", _SPLITS["train"][0].data)

    return make


def _shape(**entries: Any) -> _Make:
    return _labelme(lambda content: content["shapes"][0].update(entries))


def _cvat(old: str, new: str) -> _Make:
    """Writes CVAT's XML with a text replaced."""

    def make(folder: pathlib.Path) -> None:
        write_cvat(folder, _TRAIN)
        place = folder / "annotations.xml"
        assert old in place.read_text()
        place.write_text(place.read_text().replace(old, new))

    return make


def _two_formats(folder: pathlib.Path) -> None:
    write_yolo(folder, _TRAIN)
    write_cvat(folder, _TRAIN)


def _taken(folder: pathlib.Path) -> None:
    write_yolo(folder, _TRAIN)
    put(folder, "out/mine.txt", "a file of mine")


_POLYGON = 'points="3.2,2.1;20.7,4.3;17.9,19.6;5.1,15.2"'

ROWS = [
    BadInput("a folder of no known format", _CONVERT, _nothing, ("1 .doc", "COCO JSON", "--format")),
    BadInput("a folder of two formats", _CONVERT, _two_formats, ("YOLO text", "CVAT", "yolo or cvat")),
    BadInput(
        "a path where there is nothing, to convert", _CONVERT.replace("DATA ", "DATA/mine "), _nothing, ("DATA/mine",)
    ),
    BadInput("a format that does not exist", f"{_CONVERT} --format yollo", _nothing, ("yollo", "coco, yolo")),
    BadInput("labels of images, to convert", _CONVERT, _labels, ("a CSV of labels", "no boxes, outlines or masks")),
    BadInput("a folder to convert into that is full", _CONVERT, _taken, ("DATA/out", "another folder")),
    BadInput(
        "a set without splits, to train on",
        _RUN,
        _coco(lambda content: None),
        ("has no splits", "--input.hold-out"),
    ),
    BadInput(
        "a set without the split that is scored",
        _RUN,
        lambda folder: write_yolo(folder, _TRAIN),
        ("'val'", "train", "--input.hold-out"),
    ),
    BadInput(
        "XML with boxes, to train masks on", _MASKS, lambda folder: write_voc(folder, _TRAIN), ("VOC XML", "masks")
    ),
    BadInput(
        "boxes in COCO JSON, to train masks on",
        f"{_MASKS} --input.hold-out 0.4",
        _coco(lambda content: content["annotations"][0].pop("segmentation")),
        ("mine.json", "annotation 1", "cat", "outline"),
    ),
    BadInput("COCO JSON of one's own that is cut off", _CONVERT, _cut_off, ("mine.json", "line 1")),
    BadInput("an annotation of a category that is not there", _CONVERT, _thing(category_id=8), ("annotation 1", "8")),
    BadInput("a polygon of two corners in COCO JSON", _CONVERT, _thing(segmentation=[[1, 2, 3, 4]]), ("annotation 1",)),
    BadInput(
        "run lengths that do not fill their image",
        _CONVERT,
        _thing(segmentation={"size": [24, 36], "counts": [7, 9]}),
        ("annotation 1", "16 pixels", "24 x 36"),
    ),
    BadInput(
        "run lengths in a text that breaks off",
        _CONVERT,
        _thing(segmentation={"size": [24, 36], "counts": "o"}),
        ("annotation 1", "breaks off"),
    ),
    BadInput(
        "a box outside of its image in COCO JSON", _CONVERT, _thing(bbox=[90, 2, 5, 5]), ("annotation 1", "24x36")
    ),
    BadInput(
        "an image of COCO JSON that is not there",
        _CONVERT,
        _coco(lambda content: content["images"][0].update(file_name="C:\\pets\\p9.png")),
        ("mine.json", "p9.png", "1 of its 3 images"),
    ),
    BadInput(
        "COCO JSON of one's own that states another size than its image has",
        _CONVERT,
        _coco(lambda content: content["images"][1].update(width=80)),
        ("mine.json", "p1.png", "24x80", "24x37"),
    ),
    BadInput("a class number that has no name", _CONVERT, _line("3 0.5 0.5 0.2 0.2"), ("p1.txt", "line 2", "class 3")),
    BadInput("percents in YOLO text", _CONVERT, _line("1 50 50 20 20"), ("p1.txt", "line 2", "by 100")),
    BadInput("pixels in YOLO text", _CONVERT, _line("1 300 200 120 90"), ("p1.txt", "line 2", "side of the image")),
    BadInput("a score at the end of YOLO's line", _CONVERT, _line("1 .5 .5 .2 .2 .9"), ("p1.txt", "line 2", "score")),
    BadInput("words in YOLO text", _CONVERT, _line("dog 0.5 0.5 0.2 0.2"), ("p1.txt", "line 2", "dog")),
    BadInput("an empty box in YOLO text", _CONVERT, _line("1 0.5 0.5 0 0.2"), ("p1.txt", "line 2", "dog", "empty")),
    BadInput("two images with one label file", _CONVERT, _twins, ("p1.jpg and p1.png", "p1.txt")),
    BadInput("YOLO images without any label file", _CONVERT, _unlabeled, ("none of its 3 images", "p0.txt")),
    BadInput("a data.yaml with a number left out", _CONVERT, _yaml(names={"0": "cat", "2": "dog"}), ("0, 2",)),
    BadInput("a data.yaml with another number of names", _CONVERT, _yaml(nc=5), ("nc is 5", "3 names")),
    BadInput("a data.yaml whose folder is not there", _CONVERT, _yaml(train="D:\\pets\\pictures"), ("D:\\pets",)),
    BadInput("a data.yaml with a name that YAML reads as a truth value", _CONVERT, _yaml(names=[True, "b"]), ("True",)),
    BadInput(
        "a data.yaml with a Windows path in double quotes",
        _CONVERT,
        _yolo("data.yaml", 'names: [cat]\ntrain: "C:\\mine"\n'),
        ("data.yaml", "line 2", "backslashes"),
    ),
    BadInput(
        "a list that names an image that is not there",
        _CONVERT,
        lambda folder: (_yaml(train="train.txt")(folder), put(folder, "train.txt", "./images/train/p7.png\n"))[-1],
        ("train.txt", "p7.png"),
    ),
    BadInput("LabelMe's JSON that is none", _CONVERT, lambda f: put(f, "p0.json", '{"shapes": [}'), ("line 1",)),
    BadInput("a label that is not in labels.txt", _CONVERT, _shape(label="cow"), ("p0.json", "shape 1", "cow")),
    BadInput("a shape of LabelMe's without a label", _CONVERT, _shape(label=""), ("p0.json", "shape 1", "no label")),
    BadInput("a polygon of LabelMe's with two points", _CONVERT, _shape(points=[[1, 2], [3, 4]]), ("shape 1",)),
    BadInput("a shape of LabelMe's of an unknown kind", _CONVERT, _shape(shape_type="cube"), ("shape 1", "cube")),
    BadInput("LabelMe's JSON without its image", _CONVERT, _labelme(lambda c: None, False), ("p0.json", "p0.png")),
    BadInput(
        "a label that is not in CVAT's meta",
        _CONVERT,
        _cvat('label="cat"', 'label="cow"'),
        ("polygon 1", "cow", "meta"),
    ),
    BadInput("a polygon of CVAT's with a point", _CONVERT, _cvat(_POLYGON, 'points="3,2"'), ("p0.png", "polygon 1")),
    BadInput(
        "an image of CVAT's that is not there", _CONVERT, _cvat('"p1.png"', '"p9.png"'), ("annotations.xml", "p9.png")
    ),
    BadInput("a video of CVAT's", _CONVERT, _cvat("<image ", "<track/><image "), ("annotations.xml", "images 1.1")),
]
