"""Brings the examples of any format to what the writers take: objects in pixels of upright images."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cvjax.data.annotations import Objects, OnBadBoxes, check_objects, make_objects
from cvjax.data.dataset import Dataset, read_file
from cvjax.data.decode import IGNORE, decode_example, image_size
from cvjax.data.orientation import Header, check_stated_size, read_header, turned_upright
from cvjax.data.pixels.turning import turn
from cvjax.datasets.own.annotated.dataset import box_of, image_bytes, is_background
from cvjax.datasets.own.annotated.outlines import extent_of, pixels_of, pixels_runs
from cvjax.datasets.own.annotated.values import Annotated, AnnotatedImage, Annotations, Outline, Polygons
from cvjax.datasets.own.opening import headers_of


@dataclasses.dataclass
class Left:
    """Counts what the written data do not have: bad boxes, marks, and pixels that were ignored in masks."""

    bad_boxes: int = 0
    crowds: int = 0
    difficult: int = 0
    ignored_pixels: int = 0


@dataclasses.dataclass(frozen=True)
class Example:
    """Holds an image to be written.

    Attributes:
      key: Id of the example in its split.
      path: Path of its file; None where it is in `data` alone.
      data: Encoded image where it has no file of its own.
      size: Height and width of the upright image.
      objects: Objects in pixels of the upright image, each with a box inside of it.
    """

    key: str
    path: str | None
    data: bytes | None
    size: tuple[int, int]
    objects: tuple[Annotated, ...]


def upright_examples(annotations: Annotations, on_bad_boxes: OnBadBoxes, left: Left) -> Iterator[Example]:
    """Yields annotated images with all that is said about them in pixels of the upright image.

    Raises:
      DataError: An image is damaged or of another size than stated, or a box is bad.
    """
    headers = headers_of(annotations.images)
    for image, known in zip(annotations.images, headers, strict=True):
        data = image_bytes(image) if image.embedded else None
        header = known or read_header(data or image.path, image.path)
        objects = tuple(_upright(image, header, annotations, on_bad_boxes, left))
        yield Example(image.key, None if image.embedded else image.path, data, header.upright_size, objects)


def record_examples(source: Dataset, left: Left) -> Iterator[Example]:
    """Yields the examples of a dataset of boxes, or of masks, where all pixels of a class in an image are one object.

    A class called background is none.

    Raises:
      DataError: An image or a mask is damaged.
    """
    files = list(getattr(source, "image_files", list)() or ())
    one_each = len(files) == len(source)
    for index in range(len(source)):
        record = cast(Mapping[str, Any], source[index])
        key, path = str(record["id"]), files[index] if one_each else None
        size = image_size(record["image"], key)
        if "boxes" in record:
            left.bad_boxes += int(record.get("dropped_boxes", 0))
            objects = _boxed(record, source)
        else:
            objects = _outlined(record, source, left)
        yield Example(key, path, None if one_each else record["image"], size, tuple(objects))


def _boxed(record: Mapping[str, Any], source: Dataset) -> Iterator[Annotated]:
    objects = Objects(*(record[field] for field in ("boxes", "labels", "difficult", "crowd")))
    for box, label, difficult, crowd in zip(*(column.tolist() for column in objects.arrays()), strict=True):
        x1, y1, x2, y2 = box
        yield Annotated(source.class_names[label], (x1, y1, x2, y2), difficult=difficult, crowd=crowd)


def _outlined(record: Mapping[str, Any], source: Dataset, left: Left) -> Iterator[Annotated]:
    mask = decode_example(record, len(source.class_names), source.void)["mask"]
    left.ignored_pixels += int((mask == IGNORE).sum())
    for label in np.unique(mask[mask != IGNORE]).tolist():
        name, outline = source.class_names[label], pixels_runs(mask == label)
        if not is_background(name):
            yield Annotated(name, extent_of(outline), outline)


def _upright(
    image: AnnotatedImage, header: Header, annotations: Annotations, on_bad_boxes: OnBadBoxes, left: Left
) -> Iterator[Annotated]:
    names = image.annotation, os.path.basename(image.path)
    is_upright = check_stated_size(header, image.size, *names)
    size = header.upright_size if is_upright else (header.height, header.width)
    scale = np.array(size[::-1], np.float64) if image.fractions else np.ones(2)
    classes = annotations.class_names
    for thing in image.objects:
        corners = np.array(box_of(thing), np.float64) * np.tile(scale, 2)
        # In the box's own precision, and with the checks of every reader.
        found = make_objects(corners, [classes.index(thing.name)])
        where = f"{names[0]}, {thing.place}"
        kept = check_objects(found, size, where, classes, on_bad_boxes, annotations.least_side)
        if not len(kept.boxes):
            left.bad_boxes += 1
            continue
        box = np.clip(corners, 0, np.tile(size[::-1], 2))
        outline = None if thing.outline is None else _turned(thing.outline, scale, size, header, bool(is_upright))
        box = box if is_upright else turned_upright(box, header)
        x1, y1, x2, y2 = box.tolist()
        yield dataclasses.replace(thing, box=(x1, y1, x2, y2), outline=outline)


def _turned(outline: Outline, scale: np.ndarray, size: tuple[int, int], header: Header, is_upright: bool) -> Outline:
    if isinstance(outline, Polygons):
        parts = [part * scale for part in outline.parts]
        if not is_upright:  # A corner turns as an empty box.
            parts = [turned_upright(np.concatenate([part, part], axis=1), header)[:, :2] for part in parts]
        return Polygons(tuple(parts))
    if is_upright:
        return outline
    return pixels_runs(turn(pixels_of(outline, size).astype(np.uint8), header.orientation) > 0)


def encoded_image(example: Example) -> bytes:
    """Returns the encoded image of an example.

    Raises:
      DataError: Its file cannot be read.
    """
    if example.data is not None:
        return example.data
    assert example.path is not None
    return read_file(example.path)


def file_names(examples: Sequence[Example], suffixes: Sequence[str]) -> list[str]:
    """Returns a name for each image: that of its file where no other has this stem, else one made of its id."""
    names = [os.path.basename(example.path) if example.path else "" for example in examples]
    stems = [os.path.splitext(name)[0].lower() for name in names]
    twice = {stem for stem, count in Counter(stems).items() if count > 1}
    made, taken = [], {stem for stem in stems if stem not in twice}
    for example, name, stem, suffix in zip(examples, names, stems, suffixes, strict=True):
        if not name or stem in twice:
            base = example.key.replace("/", "_").replace("\\", "_")
            free, number = base, 0
            while free.lower() in taken:
                number += 1
                free = f"{base}_{number}"
            taken.add(free.lower())
            name = free + suffix
        made.append(name)
    return made
