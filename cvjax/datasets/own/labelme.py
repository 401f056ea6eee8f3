"""Reads LabelMe's JSON, one file an image: rectangles, polygons, circles and masks.

    folder/1.jpg   folder/1.json               all in one folder; the image may also lie inside the JSON (`imageData`)
    folder/train/...   folder/val/...          or a folder for each split
    folder/labels.txt                          the names of the classes in their order; else all names, alphabetically

Shapes of one label and one `group_id` are one object. Points, lines and strips have no area and are passed over, which
the log says; so are the labels `__ignore__` and `_background_`.
"""

import base64
import binascii
import logging
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvjax.data.decode import IMAGE_SUFFIXES, decode_label_numbers
from cvjax.datasets.listing import listed, read_lines
from cvjax.datasets.own.annotated.grouping import Shape, joined, rectangle, report_passed
from cvjax.datasets.own.annotated.outlines import pixels_runs
from cvjax.datasets.own.annotated.texts import ImageFinder, ends_of, read_json, split_folders
from cvjax.datasets.own.annotated.values import AnnotatedImage, Annotations, Outline, Polygons
from cvjax.errors import DataError

LABELS_FILE = "labels.txt"
_NO_CLASS = ("__ignore__", "_background_")
_NO_AREA = ("point", "points", "line", "linestrip")
_CIRCLE = 64  # corners of the polygon that stands for a circle
_LOG = logging.getLogger(__name__)


def recognize(path: pathlib.Path) -> bool:
    """Returns whether a path is a folder of LabelMe's files, maybe one for each split, or such a file."""
    return _is_labelme(path) if path.is_file() else any(map(_holds, (path, *split_folders(path))))


def splits(path: pathlib.Path) -> list[str]:
    """Returns the names of the folders with LabelMe's files; none where they lie in `path` itself."""
    return [] if path.is_file() or _holds(path) else [place.name for place in split_folders(path) if _holds(place)]


def read(path: pathlib.Path, split: str | None) -> Annotations:
    """Reads a split, or all images.

    Raises:
      DataError: A file is damaged, a shape is wrong or of an unknown label, or an image is missing.
    """
    folder = path.parent if path.is_file() else path
    places = [place for place in (folder, *split_folders(folder)) if path.is_dir() and _holds(place)]
    files = [file for place in places for file in _jsons(place)] if path.is_dir() else [path]
    contents = {file: _content(file) for file in files}
    passed: dict[str, int] = {}
    shapes = {file: _shapes(file, content, passed) for file, content in contents.items()}
    names = _class_names(folder, shapes)
    chosen = [file for file in files if split is None or file.parent == folder / split]
    finder_of = {place: ImageFinder([place, folder, folder / "images"]) for place in {file.parent for file in chosen}}
    images = [_image(file, contents[file], shapes[file], finder_of[file.parent]) for file in chosen]
    first: dict[str, str] = {}
    for image in images:
        if not image.embedded and first.setdefault(image.path, image.annotation) != image.annotation:
            two = f"{first[image.path]} and {os.path.basename(image.annotation)}"
            raise DataError(f"{two} are both of the image {image.path}; keep one of them.")
    report_passed(_LOG, path, passed)
    return Annotations(names, images)


def embedded_image(path: str) -> bytes:
    """Returns the encoded image that a file of LabelMe's holds.

    Raises:
      DataError: The file is damaged.
    """
    try:
        return base64.b64decode(read_json(path)["imageData"], validate=False)
    except (binascii.Error, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: its imageData is no image in base64; put the image beside it.") from error


def _is_labelme(file: pathlib.Path) -> bool:
    return file.suffix.lower() == ".json" and b'"shapes"' in ends_of(file)


def _jsons(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".json" and file.name[:1] != ".")


def _holds(folder: pathlib.Path) -> bool:
    return any(map(_is_labelme, _jsons(folder)[:8]))


def _content(file: pathlib.Path) -> Mapping[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{file}: has no list of shapes as LabelMe's files have; export it again, or move it away.")
    return content


def _class_names(folder: pathlib.Path, shapes: Mapping[pathlib.Path, Sequence[Shape]]) -> tuple[str, ...]:
    if (folder / LABELS_FILE).is_file():
        names = tuple(name for name in read_lines(folder / LABELS_FILE) if name not in _NO_CLASS)
    else:
        names = tuple(sorted({shape.name for found in shapes.values() for shape in found}))
    if not names:
        raise DataError(f"{folder}: no shape has an area and a label; label some.")
    for file, found in shapes.items():
        for shape in found:
            if shape.name not in names:
                raise DataError(
                    f"{file}: {shape.place} is labeled {shape.name!r}, which is not in {folder / LABELS_FILE}"
                    f" ({listed(names)}); mend the label, or add it there."
                )
    return names


def _image(
    file: pathlib.Path, content: Mapping[str, Any], shapes: Sequence[Shape], finder: ImageFinder
) -> AnnotatedImage:
    stated = content.get("imagePath")
    path = finder.find(stated) if isinstance(stated, str) else None
    path = path or next((found for end in IMAGE_SUFFIXES if (found := finder.find(file.stem + end))), None)
    if path is None and not content.get("imageData"):
        raise DataError(f"{file}: its image {stated} is not there, nor inside it; put it beside the file.")
    size = tuple(content.get(key) or 0 for key in ("imageHeight", "imageWidth"))
    if not all(type(side) is int and side >= 0 for side in size):
        raise DataError(f"{file}: imageHeight and imageWidth are {size}; write whole pixels, or leave both out.")
    objects = tuple(joined(shapes))
    height, width = size
    where = path or os.fspath(file)
    return AnnotatedImage(file.stem, where, os.fspath(file), objects, (height, width) if any(size) else None, not path)


def _shapes(file: pathlib.Path, content: Mapping[str, Any], passed: dict[str, int]) -> list[Shape]:
    found = []
    for number, shape in enumerate(content["shapes"], 1):
        place = f"shape {number}"
        try:
            kind = shape.get("shape_type") or "polygon"
            name = shape.get("label")
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"{place} has no label; give it one, or remove it")
            skipped = name if name in _NO_CLASS else kind if kind in _NO_AREA else None
            if skipped is not None:
                passed[skipped] = passed.get(skipped, 0) + 1
                continue
            outline = _outline(kind, shape, content, place)
            group = shape.get("group_id")
            found.append(Shape(name.strip(), outline, place, None if group is None else str(group)))
        except (ValueError, AttributeError) as error:
            reason = error if isinstance(error, ValueError) else f"{place} is no shape; mend it"
            raise DataError(f"{file}: {reason}.") from error
    return found


def _outline(kind: str, shape: Mapping[str, Any], content: Mapping[str, Any], place: str) -> Outline:
    points = shape.get("points")
    wanted = {"polygon": "3 or more", "rectangle": "2", "circle": "2", "mask": "2"}
    if kind not in wanted:
        raise ValueError(f"{place} is a {kind!r}, which is not read; draw a polygon in its stead")
    points = points if isinstance(points, list) else []
    pairs = all(
        isinstance(point, list) and len(point) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in point)
        for point in points
    )
    enough = pairs and (
        len(points) >= 3 if kind == "polygon" else len(points) == 2 or (kind == "rectangle" and len(points) == 4)
    )
    if not enough:
        raise ValueError(f"{place}, a {kind}, needs {wanted[kind]} points of two numbers each; draw it again")
    corners = np.array(points, np.float64)
    if kind == "polygon":
        return Polygons((corners,))
    if kind == "rectangle":
        (x1, y1), (x2, y2) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return rectangle(x1, y1, x2, y2)
    if kind == "circle":
        angles = np.arange(_CIRCLE) * 2 * np.pi / _CIRCLE
        around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return Polygons((corners[0] + np.hypot(*(corners[1] - corners[0])) * around,))
    return _mask(corners, shape, content, place)


def _mask(corners: np.ndarray, shape: Mapping[str, Any], content: Mapping[str, Any], place: str) -> Outline:
    """Reads a mask: a PNG in base64, whose first pixel lies at the first point."""
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not (type(height) is int and type(width) is int):
        raise ValueError(f"{place} is a mask, and imageHeight and imageWidth are not stated; write both")
    try:
        picture = decode_label_numbers(base64.b64decode(shape.get("mask") or ""), place) > 0
    except (binascii.Error, TypeError, DataError) as error:
        raise ValueError(f"{place} is a mask without a PNG in base64; draw it again") from error
    left, top = np.round(corners.min(axis=0)).astype(int).tolist()
    pixels = np.zeros((height, width), bool)
    rows, columns = min(picture.shape[0], height - top), min(picture.shape[1], width - left)
    if min(left, top) < 0 or rows < picture.shape[0] or columns < picture.shape[1]:
        raise ValueError(f"{place}, a mask, reaches beyond the image of {height} x {width}; draw it again")
    pixels[top : top + rows, left : left + columns] = picture
    return pixels_runs(pixels)
