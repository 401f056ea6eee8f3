"""Writes COCO JSON: boxes, polygons as they are, and pixels as run lengths that are not compressed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvjax.datasets.own.annotated.outlines import pixels_of
from cvjax.datasets.own.annotated.values import Annotated, Polygons, Runs
from cvjax.datasets.own.written.examples import Example, Left

_DECIMALS = 9


def files_of(
    splits: Mapping[str, Sequence[tuple[str, Example]]], class_names: Sequence[str], left: Left
) -> dict[str, str]:
    """Returns the text of each file of annotations by its path below the folder; images lie in `image_folder`.

    Args:
      splits: Name of the image's file and example, of each split; the split "" is all of a set without splits.
      class_names: Names of the classes; their ids count from 1.
      left: Counts of what the files do not say.
    """
    files = {}
    for split, examples in splits.items():
        keys = [example.key for _, example in examples]
        # Ids of COCO's own are kept.
        numbers = [int(key) for key in keys] if all(map(str.isdecimal, keys)) else range(1, len(keys) + 1)
        numbers = numbers if len(set(numbers)) == len(keys) else range(1, len(keys) + 1)
        images, things = [], []
        for number, (name, example) in zip(numbers, examples, strict=True):
            height, width = example.size
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for thing in example.objects:
                left.difficult += thing.difficult
                label = class_names.index(thing.name) + 1
                of = {"id": len(things) + 1, "image_id": number, "category_id": label}
                things.append(of | _said(thing, example))
        categories = [{"id": label, "name": name} for label, name in enumerate(class_names, 1)]
        content = {"images": images, "categories": categories, "annotations": things}
        files[f"annotations/instances_{split or 'default'}.json"] = json.dumps(content, ensure_ascii=False) + "\n"
    return files


def image_folder(split: str) -> str:
    """Returns the folder of a split's images, below that of the set."""
    return f"images/{split}" if split else "images"


def _said(thing: Annotated, example: Example) -> dict[str, Any]:
    assert thing.box is not None
    x1, y1, x2, y2 = thing.box
    box = [round(value, _DECIMALS) for value in (x1, y1, x2 - x1, y2 - y1)]
    area = thing.area
    if area is None:
        area = (x2 - x1) * (y2 - y1) if thing.outline is None else int(pixels_of(thing.outline, example.size).sum())
    said: dict[str, Any] = {"bbox": box, "area": round(float(area), _DECIMALS), "iscrowd": int(thing.crowd)}
    if isinstance(thing.outline, Polygons):
        said["segmentation"] = [np.round(part, _DECIMALS).ravel().tolist() for part in thing.outline.parts]
    if isinstance(thing.outline, Runs):
        said["segmentation"] = {"size": list(thing.outline.size), "counts": thing.outline.counts.tolist()}
    return said
