"""Writes YOLO text: polygons where every object has an outline, else boxes; one line an object."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from cvjax.datasets.own.annotated.outlines import pixels_of
from cvjax.datasets.own.annotated.values import Annotated, Polygons
from cvjax.datasets.own.written.examples import Example, Left
from cvjax.datasets.own.written.polygons import around, bridged, clipped

_SPLITS = {"": "train", "valid": "val", "validation": "val"}
"""How YOLO calls the splits of others; all images of a set without splits are `train`."""


def files_of(
    splits: Mapping[str, Sequence[tuple[str, Example]]], class_names: Sequence[str], left: Left
) -> dict[str, str]:
    """Returns the text of data.yaml and of each label file by its path below the folder.

    Args:
      splits: Name of the image's file and example, of each split; the split "" is all of a set without splits.
      class_names: Names of the classes in the order of their numbers.
      left: Counts of what the files do not say.
    """
    every = [thing for examples in splits.values() for _, example in examples for thing in example.objects]
    outlined = all(thing.outline is not None for thing in every) and not all(map(_is_rectangle, every))
    files = {"data.yaml": _yaml(list(splits), class_names)}
    for split, examples in splits.items():
        for name, example in examples:
            lines = []
            for thing in example.objects:
                left.crowds += thing.crowd
                left.difficult += thing.difficult
                numbers = [] if thing.crowd else _numbers(thing, example, outlined)
                if numbers:
                    lines.append(
                        " ".join([str(class_names.index(thing.name)), *(_text(number, outlined) for number in numbers)])
                    )
            place = f"{image_folder(split).replace('images', 'labels', 1)}/{name.rpartition('.')[0]}.txt"
            files[place] = "".join(f"{line}\n" for line in lines)
    return files


def image_folder(split: str) -> str:
    """Returns the folder of a split's images, below that of the set."""
    return f"images/{_SPLITS.get(split, split)}"


def _yaml(splits: Sequence[str], class_names: Sequence[str]) -> str:
    """Returns data.yaml; JSON's texts are YAML's, too, with every letter that a name may have."""
    rows = [f"{_SPLITS.get(split, split)}: {image_folder(split)}" for split in splits]
    names = [f"  {label}: {json.dumps(name, ensure_ascii=False)}" for label, name in enumerate(class_names)]
    return "\n".join(["path: .", *rows, f"nc: {len(class_names)}", "names:", *names]) + "\n"


def _numbers(thing: Annotated, example: Example, outlined: bool) -> list[float]:
    height, width = example.size
    if outlined:
        corners = _polygon(thing, example)
        return [] if corners is None else (corners / (width, height)).ravel().tolist()
    assert thing.box is not None
    x1, y1, x2, y2 = thing.box
    return [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]


def _polygon(thing: Annotated, example: Example) -> np.ndarray | None:
    """Returns the one polygon of an object that has the pixels of its outline."""
    outline = thing.outline
    assert outline is not None
    if not isinstance(outline, Polygons):
        return around(pixels_of(outline, example.size))
    if len(outline.parts) > 1:
        each = [pixels_of(Polygons((part,)), example.size) for part in outline.parts]
        if np.sum(each, axis=0).max(initial=0) > 1:  # where two parts overlap, their lines would cut out a hole
            return around(np.logical_or.reduce(each))
    return clipped(bridged(outline.parts), example.size)


def _is_rectangle(thing: Annotated) -> bool:
    """Returns whether an outline is merely the box."""
    if not isinstance(thing.outline, Polygons) or len(thing.outline.parts) != 1 or thing.box is None:
        return False
    corners = thing.outline.parts[0]
    x1, y1, x2, y2 = thing.box
    around = {(x1, y1), (x2, y1), (x2, y2), (x1, y2)}
    return len(corners) == 4 and {(x, y) for x, y in corners.tolist()} == around


def _text(value: float, outlined: bool) -> str:
    """Returns a share of a side: of boxes with all digits, so that training on them takes the very same steps."""
    return f"{value:.10f}".rstrip("0").rstrip(".") if outlined else np.format_float_positional(value, trim="-")
