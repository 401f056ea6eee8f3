"""Reads CVAT's XML 1.1 for images: boxes, rotated ones too, polygons, ellipses and masks.

    folder/annotations.xml   folder/images/...      as CVAT exports it, of a task, a job or a project
    annotations.xml                                 the file itself

A project's subsets are the splits. Classes are the labels of the file's `meta`, in their order, or else all names,
alphabetically. Objects lie over one another by their `z_order`, then in the order of the file. Shapes of one label and
one `group_id` are one object. An attribute called `difficult` marks as VOC's does; `occluded` changes nothing. Points,
lines, tags, cuboids and skeletons are passed over, which the log says.
"""

import logging
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

import numpy as np

from cvjax.data.dataset import read_file
from cvjax.datasets.listing import listed
from cvjax.datasets.own.annotated.grouping import Shape, joined, rectangle, report_passed
from cvjax.datasets.own.annotated.outlines import pixels_runs
from cvjax.datasets.own.annotated.texts import ImageFinder, ends_of, find_all
from cvjax.datasets.own.annotated.values import AnnotatedImage, Annotations, Outline, Polygons
from cvjax.datasets.voc.xml_text import parse_root
from cvjax.errors import DataError

FILE = "annotations.xml"
_ROOT = b"<annotations"
_NO_AREA = ("points", "polyline", "tag", "cuboid", "skeleton", "image_tag")
_WITH_AREA = ("box", "polygon", "ellipse", "mask")
_BOX = ("xtl", "ytl", "xbr", "ybr")
_CORNERS = 64  # of the polygon that stands for an ellipse
_LOG = logging.getLogger(__name__)


def recognize(path: pathlib.Path) -> bool:
    """Returns whether a path is such a file, or a folder that has one."""
    return _file(path) is not None


def splits(path: pathlib.Path) -> list[str]:
    """Returns the names of the subsets, in small letters; none where no image states one."""
    return list(_subsets(_root(path)))


def read(path: pathlib.Path, split: str | None) -> Annotations:
    """Reads a subset, or all images.

    Raises:
      DataError: The file is damaged, a shape is wrong or of an unknown label, or images are missing.
    """
    root, file = _root(path), _file(path)
    assert file is not None
    elements = root.findall("image") if split is None else _subsets(root)[split]
    passed: dict[str, int] = {}
    names = [(element.get("name") or "").strip() for element in elements]
    if "" in names:
        raise DataError(f"{file}: image {names.index('') + 1} of {len(names)} has no name; export it again.")
    shapes = {name: _shapes(file, name, element, passed) for name, element in zip(names, elements, strict=True)}
    if len(shapes) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file}: the image {twice} is there twice; keep one of them.")
    classes = _class_names(root, file, shapes)
    subsets = {(element.get("subset") or "").strip() for element in elements} - {""}
    below = [file.parent / "images" / subset for subset in sorted(subsets)]
    places = [*below, file.parent / "images", file.parent, *(file.parent / subset for subset in sorted(subsets))]
    finder = ImageFinder([place for place in places if place.is_dir()])
    paths = find_all(names, finder.find, file, finder.shown())
    report_passed(_LOG, file, passed)
    images = [
        AnnotatedImage(
            os.path.splitext(name)[0], where, f"{file}, image {name}", tuple(joined(shapes[name])), _size(file, element)
        )
        for name, where, element in zip(names, paths, elements, strict=True)
    ]
    return Annotations(classes, images)


def _file(path: pathlib.Path) -> pathlib.Path | None:
    files = [path] if path.is_file() else [path / FILE, *sorted(path.glob("*.xml"))[:8]]
    return next((file for file in files if file.suffix.lower() == ".xml" and _ROOT in ends_of(file)), None)


def _root(path: pathlib.Path) -> ElementTree.Element:
    file = _file(path)
    assert file is not None
    root = parse_root(read_file(os.fspath(file)), os.fspath(file))
    if root.tag != "annotations" or root.find("track") is not None:
        raise DataError(f"{file}: is not of CVAT's format for images; export the task as 'CVAT for images 1.1'.")
    return root


def _subsets(root: ElementTree.Element) -> dict[str, list[ElementTree.Element]]:
    found: dict[str, list[ElementTree.Element]] = {}
    for element in root.findall("image"):
        found.setdefault((element.get("subset") or "default").strip().lower(), []).append(element)
    return {} if set(found) <= {"default"} else found


def _class_names(
    root: ElementTree.Element, file: pathlib.Path, shapes: Mapping[str, Sequence[Shape]]
) -> tuple[str, ...]:
    labels = [label for label in root.iterfind("meta//labels/label") if not (label.findtext("parent") or "").strip()]
    names = tuple(dict.fromkeys((label.findtext("name") or "").strip() for label in labels))
    used = {shape.name: (image, shape) for image, found in shapes.items() for shape in found}
    unknown = [name for name in used if name not in names]
    if names and unknown:
        image, shape = used[unknown[0]]
        raise DataError(
            f"{file}, image {image}: {shape.place} is labeled {unknown[0]!r}, which is none of the labels of meta"
            f" ({listed(names)}); mend the label, or add it there."
        )
    drawn = {(shape.get("label") or "").strip() for tag in _WITH_AREA for shape in root.iterfind(f"image/{tag}")}
    names = names or tuple(sorted(drawn))
    if not names:
        raise DataError(f"{file}: no shape has an area and a label; label some.")
    return names


def _size(file: pathlib.Path, element: ElementTree.Element) -> tuple[int, int] | None:
    texts = [(element.get(side) or "0").strip() for side in ("height", "width")]
    if not all(text.isdigit() for text in texts):
        raise DataError(
            f"{file}: image {element.get('name')} has {texts[0]!r} as height and {texts[1]!r} as width; write both in"
            " whole pixels."
        )
    height, width = map(int, texts)
    return (height, width) if height or width else None


def _shapes(file: pathlib.Path, image: str, element: ElementTree.Element, passed: dict[str, int]) -> list[Shape]:
    found: list[tuple[float, Shape]] = []
    for number, shape in enumerate(element, 1):
        place = f"{shape.tag} {number}"
        try:
            if shape.tag in _NO_AREA:
                passed[shape.tag] = passed.get(shape.tag, 0) + 1
                continue
            name = (shape.get("label") or "").strip()
            if not name:
                raise ValueError(f"{place} has no label; give it one, or remove it")
            marked = {entry.get("name"): (entry.text or "").strip().lower() for entry in shape.findall("attribute")}
            difficult = marked.get("difficult") in ("true", "1", "yes")
            outline, box = _outline(shape, element, place), None
            if shape.tag == "box" and not _number(shape, "rotation", place, "0"):
                x1, y1, x2, y2 = (_number(shape, key, place) for key in _BOX)
                box = x1, y1, x2, y2  # as stated, so that an inverted one is met
            group = shape.get("group_id")
            group = None if group in (None, "", "0") else group
            order = _number(shape, "z_order", place, "0")
            found.append((order, Shape(name, outline, place, group, box, difficult)))
        except ValueError as error:
            raise DataError(f"{file}, image {image}: {error}.") from error
    return [shape for _, shape in sorted(found, key=lambda pair: pair[0])]


def _number(shape: ElementTree.Element, key: str, place: str, default: str = "") -> float:
    text = shape.get(key, default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place} has {text!r} as {key}, which is no number; mend it")
    return value


def _outline(shape: ElementTree.Element, image: ElementTree.Element, place: str) -> Outline:
    if shape.tag == "box":
        x1, y1, x2, y2 = (_number(shape, key, place) for key in _BOX)
        return _turned(rectangle(x1, y1, x2, y2), _number(shape, "rotation", place, "0"))
    if shape.tag == "ellipse":
        x, y, across, down = (_number(shape, key, place) for key in ("cx", "cy", "rx", "ry"))
        angles = np.arange(_CORNERS) * 2 * np.pi / _CORNERS
        around = np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)
        return _turned(Polygons((around,)), _number(shape, "rotation", place, "0"))
    if shape.tag == "polygon":
        return Polygons((_points(shape, place),))
    if shape.tag == "mask":
        return _mask(shape, image, place)
    raise ValueError(f"{place} is of a kind that is not read; draw a polygon in its stead")


def _points(shape: ElementTree.Element, place: str) -> np.ndarray:
    try:
        rows = [[float(value) for value in pair.split(",")] for pair in (shape.get("points") or "").split(";") if pair]
        corners = np.array(rows, np.float64).reshape(-1, 2)
    except ValueError:
        corners = np.zeros((0, 2))
    if len(corners) < 3 or not np.isfinite(corners).all():
        raise ValueError(f"{place} needs 3 or more points as 'x,y;x,y;x,y'; draw it again")
    return corners


def _turned(outline: Polygons, degrees: float) -> Polygons:
    """Turns a shape clockwise around its middle."""
    if not degrees:
        return outline
    (corners,), angle = outline.parts, math.radians(degrees)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return Polygons(((corners - middle) @ turn + middle,))


def _mask(shape: ElementTree.Element, image: ElementTree.Element, place: str) -> Outline:
    """Reads a mask: run lengths of a box's pixels, outside and inside in turn, row after row."""
    left, top, width, height = (int(_number(shape, key, place)) for key in ("left", "top", "width", "height"))
    sides = (image.get("height") or "0", image.get("width") or "0")
    rows, columns = (int(side) if side.isdigit() else 0 for side in sides)
    try:
        counts = np.array([int(value) for value in (shape.get("rle") or "").split(",")], np.int64)
    except ValueError as error:
        raise ValueError(f"{place} has an rle that is no list of lengths; export it again") from error
    if min(counts.min(), left, top) < 0 or int(counts.sum()) != width * height:
        raise ValueError(
            f"{place} has an rle of {int(counts.sum())} pixels for a box of {height} x {width}; export it again"
        )
    if top + height > rows or left + width > columns:
        raise ValueError(f"{place} reaches beyond the image of {rows} x {columns}; export it again")
    pixels = np.zeros((rows, columns), bool)
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    pixels[top : top + height, left : left + width] = inside
    return pixels_runs(pixels)
