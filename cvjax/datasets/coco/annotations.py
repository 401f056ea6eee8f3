"""Reads and checks a file of annotations in COCO's format."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cvjax.data.annotations import Objects, make_objects
from cvjax.data.identity import digest_of_arrays
from cvjax.errors import DataError

_LISTS = ("images", "categories", "annotations")
_LISTS_OF = {"image": "images", "category": "categories"}
_BOX = "[x, y, width, height]"


class CocoAnnotations(NamedTuple):
    """Holds what a file says, with the annotations as a few flat arrays.

    Attributes:
      class_names: Names of the categories, in the order of their ids.
      files: Name of each image's file, in the order of the images' ids.
      ids: COCO's id of each image.
      sizes: Height and width of each image, int [images, 2]; 0 where the file states none.
      objects: Objects of all images, image after image.
      ends: Number of objects up to and including each image, int [images].
      outlines: What `outline` returned for each object, in the order of the objects; empty without it.
      places: Where each object stands in the file, such as "annotation 7"; empty without `outline`.
      corners: Boxes of the objects as the file states them, float64 [objects, 4].
    """

    class_names: tuple[str, ...]
    files: list[str]
    ids: list[Any]
    sizes: np.ndarray
    objects: Objects
    ends: np.ndarray
    outlines: Sequence[Any] = ()
    places: Sequence[str] = ()
    corners: np.ndarray | None = None

    def of_image(self, index: int) -> Objects:
        """Returns the objects of an image, by its position."""
        return self.objects.take(np.arange(self.ends[index - 1] if index else 0, self.ends[index]))

    def digest(self) -> str:
        """Returns a digest of all objects, of the images that they are in, and of the stated sizes."""
        return digest_of_arrays(*self.objects.arrays(), self.objects.sized(), self.ends, self.sizes)


def read_annotations(
    path: str | os.PathLike[str],
    outline: Callable[[Mapping[str, Any]], tuple[Any, list[float] | None]] | None = None,
    is_class: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], bool]
    | None = None,
) -> CocoAnnotations:
    """Reads a file of annotations in COCO's format.

    An object's area is the one that the file states, as in pycocotools, else that of its box.

    Args:
      path: Path of the file.
      outline: Function from an annotation to its outline and a box [x, y, width, height] that stands in for a `bbox`
        that is not stated, if there is one; a ValueError says what is wrong. Without it outlines are not read.
      is_class: Function from a category, all categories and all annotations to whether it is a class; all are by
        default.

    Raises:
      DataError: The file is not JSON or lacks an entry, an id or a category's name occurs twice, or an annotation has
        no proper box or is of an unknown image or category.
    """
    images, categories, things = _load(path)
    if is_class is not None:
        categories = [entry for entry in categories if is_class(entry, categories, things)]
    categories = _by_id(path, "category", categories)
    names = [_text(path, f"category {_shown(entry['id'])}", entry, "name") for entry in categories]
    _refuse_twins(path, "categories", names, categories)
    images = _by_id(path, "image", images)
    files = [_text(path, f"image {_shown(entry['id'])}", entry, "file_name") for entry in images]
    _refuse_twins(path, "images", files, images)
    sizes = np.array([_size(path, entry) for entry in images], np.int64).reshape(-1, 2)

    position = {entry["id"]: number for number, entry in enumerate(images)}
    label = {entry["id"]: number for number, entry in enumerate(categories)}
    owner, labels, boxes, crowd, areas, outlines, places = [], [], [], [], [], [], []
    for number, thing in enumerate(things, 1):
        try:
            owner.append(_known(thing, "image", position))
            labels.append(_known(thing, "category", label))
            if outline is not None:
                found, around = outline(thing)
                outlines.append(found)
                places.append(_place(thing, number))
                thing = thing if around is None or thing.get("bbox") else {**thing, "bbox": around}
            boxes.append(_box(thing))
            crowd.append(_flag(thing))
            areas.append(_area(thing))
        except ValueError as error:
            of = "" if "id" in thing else f" of {len(things)}"
            raise DataError(f"{path}: {_place(thing, number)}{of} {error}.") from error
    _refuse_twice(path, "annotation", things, lambda number: files[owner[number]])
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    owner = np.array(owner, np.int64)
    # Stable, so that the objects of an image keep the order of the file.
    order = np.argsort(owner, kind="stable")
    objects = make_objects(corners, labels, crowd=crowd, areas=areas).take(order)
    ends = np.cumsum(np.bincount(owner, minlength=len(images)))
    outlines, places = ([column[row] for row in order] if column else [] for column in (outlines, places))
    ids = [entry["id"] for entry in images]
    return CocoAnnotations(tuple(names), files, ids, sizes, objects, ends, outlines, places, corners[order])


def _place(thing: Mapping[str, Any], number: int) -> str:
    return f"annotation {_shown(thing['id']) if 'id' in thing else number}"


def _load(path: str | os.PathLike[str]) -> list[list[dict[str, Any]]]:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file.") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: breaks off or is no JSON at {place}; fetch or export it again.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in {error.encoding}; fetch or export it again.") from error
    lists = [content.get(key) if isinstance(content, dict) else None for key in _LISTS]
    for key, entries in zip(_LISTS, lists):
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path}: is not in COCO's format, which has a list of {key}; fetch or export it again.")
    return lists  # pyright: ignore[reportReturnType]  # None has been refused


def _by_id(path: Any, kind: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns entries in the order of their ids, each of which has to occur once."""
    for number, entry in enumerate(entries, 1):
        if not _is_id(entry.get("id")):
            raise DataError(f"{path}: {kind} {number} of {len(entries)} has no id; give it a number.")
    label = "file_name" if kind == "image" else "name"
    _refuse_twice(path, kind, entries, lambda number: str(entries[number].get(label)))
    if len({isinstance(entry["id"], str) for entry in entries}) > 1:
        raise DataError(
            f"{path}: some ids of the {_LISTS_OF[kind]} are numbers and some are texts; make them all numbers."
        )
    return sorted(entries, key=lambda entry: entry["id"])


def _refuse_twice(path: Any, kind: str, entries: Sequence[Mapping[str, Any]], name_of: Callable[[int], str]) -> None:
    """Refuses an id that two entries have; the message names both by `name_of` their positions."""
    first: dict[Any, int] = {}
    for number, entry in enumerate(entries):
        key = entry.get("id")
        if key is None or not _is_id(key):  # Annotations need none.
            continue
        if first.setdefault(key, number) != number:
            two = name_of(first[key]), name_of(number)
            whose = f"twice that of {two[0]}" if two[0] == two[1] else f"that of {two[0]} and that of {two[1]}"
            rest = "" if kind == "annotation" else ", also in the annotations"
            raise DataError(f"{path}: {kind} {_shown(key)} is there twice, {whose}; give each its own id{rest}.")


def _refuse_twins(path: Any, kind: str, names: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> None:
    first: dict[str, Any] = {}
    for name, entry in zip(names, entries, strict=True):
        if name in first:
            what = "file" if kind == "images" else "name"
            raise DataError(
                f"{path}: the {kind} {_shown(first[name])} and {_shown(entry['id'])} have the same {what} {name}; make"
                " them one, also in the annotations."
            )
        first[name] = entry["id"]


def _text(path: Any, what: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{path}: {what} has no {key}; give it one.")
    return value


def _known(thing: Mapping[str, Any], kind: str, numbers: Mapping[Any, int]) -> int:
    key = thing.get(f"{kind}_id")
    if not _is_id(key) or key not in numbers:
        stated = f"has no {kind}_id" if key is None else f"is of the {kind} {_shown(key)}, which is not listed"
        raise ValueError(f"{stated}; list the {kind}, or take the annotation away")
    return numbers[key]


def _box(thing: Mapping[str, Any]) -> list[float]:
    box = thing.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        stated = "no bbox" if box is None else f"the bbox {_shown(box)}"
        hint = ", or export boxes and no outlines" if isinstance(box, list) and len(box) > 4 else ""
        raise ValueError(f"has {stated} and not {_BOX} in four numbers; mend it{hint}")
    return box


def _flag(thing: Mapping[str, Any]) -> bool:
    value = thing.get("iscrowd") or 0
    if value not in (0, 1):
        raise ValueError(f"has {_shown(value)} as iscrowd; write 0 or 1")
    return bool(value)


def _area(thing: Mapping[str, Any]) -> float:
    area = thing.get("area")
    if area is None:
        return math.nan
    if not _is_number(area) or area < 0:
        raise ValueError(f"has {_shown(area)} as area; write it in square pixels, or leave it out for the box's")
    return area


def _size(path: Any, image: Mapping[str, Any]) -> tuple[int, int]:
    height, width = (image.get(key) or 0 for key in ("height", "width"))
    if not all(_is_number(side) and side >= 0 and side == int(side) for side in (height, width)):
        raise DataError(
            f"{path}: image {_shown(image['id'])} has {_shown(height)} as height and {_shown(width)} as width; write"
            " both in whole pixels, or 0 for both."
        )
    return int(height), int(width)


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _shown(value: Any) -> str:
    """Returns a value as JSON has it, cut off where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
