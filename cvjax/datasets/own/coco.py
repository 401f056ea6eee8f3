"""Reads COCO JSON of any classes: boxes, polygons, and run lengths, compressed or not.

    file.json                                           all of its images, which lie beside it or in a folder there
    folder/train/_annotations.coco.json                 a file in each split's folder, as Roboflow exports them
    folder/annotations/instances_train.json             a file for each split, with folder/train or folder/images/train
    folder/annotations/instances_default.json           one file and no splits, as CVAT exports them
    folder/train.json                                   files in the folder itself

A split is called as its file is, without `instances_`, `annotations` and a year, or as its folder is where the file
says nothing. Categories are numbered in the order of their ids. A category that only groups the others, as Roboflow
adds one, is no class.
"""

import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvjax.datasets.coco.annotations import CocoAnnotations, read_annotations
from cvjax.datasets.own.annotated.outlines import decompressed, extent_of
from cvjax.datasets.own.annotated.texts import ImageFinder, ends_of, find_all, split_folders
from cvjax.datasets.own.annotated.values import Annotated, AnnotatedImage, Annotations, Outline, Polygons, Runs
from cvjax.errors import DataError

_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_OTHERS = re.compile(r"^(person_keypoints|captions|stuff|panoptic|image_info)_")
_SPLIT = re.compile(r"^(train|val|valid|validation|test|trainval|minival|dev)([-_]?(mini|dev|std|20\d\d))*$")
_COUNTS = "counts as a list of lengths or as COCO's text"


def recognize(path: pathlib.Path) -> bool:
    """Returns whether a path is a file in COCO's format, or a folder that has some."""
    return _is_coco(path) if path.is_file() else bool(_files(path))


def splits(path: pathlib.Path) -> list[str]:
    """Returns the names of the splits of a folder; none of a file, or where one file has all."""
    return [] if path.is_file() else [name for name in _files(path) if name]


def read(path: pathlib.Path, split: str | None) -> Annotations:
    """Reads a file, or a split of a folder.

    Raises:
      DataError: The file is damaged, an annotation is wrong, or images are missing.
    """
    file = path if path.is_file() else _files(path)[split or ""]
    said = read_annotations(file, outline_of, _is_class)
    finder = ImageFinder(_folders(file, path if path.is_dir() else file.parent, split))
    paths = find_all(said.files, finder.find, file, finder.shown())
    return Annotations(said.class_names, [_image(said, index, file, paths[index]) for index in range(len(paths))])


def outline_of(thing: Mapping[str, Any]) -> tuple[Outline | None, list[float] | None]:
    """Reads the `segmentation` of an annotation.

    Returns:
      The outline, or None where there is none, and the box [x, y, width, height] around it where no `bbox` is stated.

    Raises:
      ValueError: It is neither polygons nor run lengths.
    """
    stated = thing.get("segmentation")
    if not stated:
        return None, None
    outline = _runs(stated) if isinstance(stated, dict) else _polygons(stated)
    if thing.get("bbox"):
        return outline, None
    x1, y1, x2, y2 = extent_of(outline)
    return outline, [x1, y1, x2 - x1, y2 - y1]


def _polygons(stated: Any) -> Polygons:
    parts = stated if isinstance(stated, list) else [stated]
    if all(isinstance(value, int | float) for value in parts):
        parts = [parts]  # One polygon without the list around it, as some tools write it.
    for part in parts:
        numbers = isinstance(part, list) and all(type(value) in (int, float) and math.isfinite(value) for value in part)
        if not numbers or len(part) < 6 or len(part) % 2:
            raise ValueError(
                "has a segmentation that is no list of polygons [x1, y1, x2, y2, x3, y3, ...] of three corners or more;"
                " mend it, or leave it empty"
            )
    return Polygons(tuple(np.array(part, np.float64).reshape(-1, 2) for part in parts))


def _runs(stated: Mapping[str, Any]) -> Runs:
    size, counts = stated.get("size"), stated.get("counts")
    whole = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if not whole or not isinstance(counts, list | str):
        raise ValueError(f"has run lengths without a size [height, width] or without {_COUNTS}; mend it")
    if isinstance(counts, str):
        lengths = decompressed(counts)
    elif all(type(value) is int and value >= 0 for value in counts):
        lengths = np.array(counts, np.int64)
    else:
        raise ValueError(f"has run lengths that are no {_COUNTS}; mend it")
    height, width = stated["size"]
    if int(lengths.sum()) != height * width:
        raise ValueError(f"has run lengths of {int(lengths.sum())} pixels for a size of {height} x {width}; mend it")
    return Runs((height, width), lengths)


def _is_class(
    category: Mapping[str, Any], categories: Sequence[Mapping[str, Any]], things: Sequence[Mapping[str, Any]]
) -> bool:
    """Returns whether a category is no mere heading: one that all others name as theirs and no annotation uses."""
    if category.get("supercategory") != "none" or len(categories) < 2:
        return True
    others = [other for other in categories if other is not category]
    if any(other.get("supercategory") != category.get("name") for other in others):
        return True
    return any(thing.get("category_id") == category.get("id") for thing in things)


def _image(said: CocoAnnotations, index: int, file: pathlib.Path, path: str) -> AnnotatedImage:
    first, behind = int(said.ends[index - 1]) if index else 0, int(said.ends[index])
    assert said.corners is not None
    corners, areas = said.corners[first:behind].tolist(), said.objects.sized()[first:behind].tolist()
    objects = []
    for row, ((x1, y1, x2, y2), area) in enumerate(zip(corners, areas, strict=True), first):
        name, crowd = said.class_names[said.objects.labels[row]], bool(said.objects.crowd[row])
        outline = said.outlines[row]
        objects.append(Annotated(name, (x1, y1, x2, y2), outline, crowd=crowd, area=area, place=said.places[row]))
    height, width = said.sizes[index].tolist()
    size = (height, width) if height or width else None
    return AnnotatedImage(str(said.ids[index]), path, f"{file}, image {said.files[index]}", tuple(objects), size)


def _is_coco(file: pathlib.Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    ends = ends_of(file)
    return b'"shapes"' not in ends and _KEYS.search(ends) is not None


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the files of a folder's splits by their names; by "" where one file has all.

    Raises:
      DataError: Two files are of one split.
    """
    found = [
        file
        for place in (folder, *split_folders(folder))
        for file in sorted(place.glob("*.json"))
        if not _OTHERS.match(file.name)
    ]
    # A folder of LabelMe's has a file an image; the first one tells.
    files = [file for file in found if _is_coco(file)] if found and any(_is_coco(file) for file in found[:8]) else []
    names = [_name(file, folder) for file in files]
    if len(files) == 1 and not _SPLIT.match(names[0]):
        return {"": files[0]}
    plain = [re.sub(r"[-_]?20\d\d$", "", name) for name in names]
    names = [short if plain.count(short) == 1 else name for name, short in zip(names, plain, strict=True)]
    for name in names:
        if names.count(name) > 1:
            two = [os.path.relpath(file, folder) for file, other in zip(files, names, strict=True) if other == name]
            raise DataError(f"{folder}: the split {name!r} is in {' and '.join(two)}; name the one that is meant.")
    return dict(zip(names, files, strict=True))


def _name(file: pathlib.Path, folder: pathlib.Path) -> str:
    stem = re.sub(r"^instances_", "", file.stem)
    stem = re.sub(r"^[-_.]*(annotations?|labels|coco)?([-_.]coco)?$", "", stem)
    if _SPLIT.match(stem):
        return stem
    own = file.parent.name
    return own if file.parent != folder and (_SPLIT.match(own) or not stem) and own != "annotations" else stem


def _folders(file: pathlib.Path, root: pathlib.Path, split: str | None) -> list[pathlib.Path]:
    """Lists the folders in which a file's images may lie."""
    stem = re.sub(r"^instances_", "", file.stem)
    names = [name for name in dict.fromkeys((split or "", stem)) if name]
    above = file.parent.parent if file.parent.name == "annotations" else file.parent
    places = [
        file.parent,
        *(place / name for name in names for place in (above, above / "images", root, root / "images")),
    ]
    places += [place / name for place in (above, root) for name in ("images", "data", "")]
    return [place for place in dict.fromkeys(places) if place.is_dir()]
