"""Reads YOLO text: a line an object, of its class and a box or a polygon in fractions of the image.

    folder/data.yaml                     names; path, train, val, test: folders, lists of files, or lists of these
    folder/images/train/1.jpg            folder/labels/train/1.txt       `images` in a path becomes `labels`
    folder/train/images/1.jpg            folder/train/labels/1.txt       so here, too
    folder/images/1.jpg                  folder/labels/1.txt, classes.txt    without data.yaml, as Label Studio has it

A line is `class x y width height`, of the box's middle, or `class x1 y1 x2 y2 x3 y3 ...`, of a polygon's corners. An
image without a label file shows none of the classes. Where a path of data.yaml is not there, its last parts below
data.yaml's folder are taken, since these files keep the paths of the machine where they were written.
"""

import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.datasets.listing import CLASSES_FILE, listed, read_class_names, read_lines, repeated
from cvjax.datasets.own.annotated.texts import ImageFinder, ends_of, files_below, find_all, portable, read_yaml
from cvjax.datasets.own.annotated.values import Annotated, AnnotatedImage, Annotations, Box, Polygons
from cvjax.errors import DataError

SPLITS = ("train", "val", "test", "valid", "validation", "trainval", "minitrain", "minival")
_YAML = (".yaml", ".yml")
_NAMES = re.compile(rb"^\xef?\xbb?\xbf?names\s*:", re.MULTILINE)
_SLACK = 0.01
"""How far beyond the image a fraction may lie; tools round, and boxes are cut off at the border."""


def recognize(path: pathlib.Path) -> bool:
    """Returns whether a path is a data.yaml or a folder with one, or has images, labels and a list of classes."""
    return _described(path) or bool(not path.is_file() and _bare(path))


def splits(path: pathlib.Path) -> list[str]:
    """Returns the names of the splits; none where images lie in one folder without a data.yaml."""
    file = _yaml_of(path)
    if file is not None:
        content = _content(file)
        return [split for split in SPLITS if content.get(split)]
    images, labels = path / "images", path / "labels"
    return [entry.name for entry in sorted(images.iterdir()) if entry.is_dir() and (labels / entry.name).is_dir()]


def read(path: pathlib.Path, split: str | None) -> Annotations:
    """Reads a split, or all images of a folder without a data.yaml.

    Raises:
      DataError: data.yaml is damaged, a folder or an image is missing, or a line of a label file is wrong.
    """
    file = _yaml_of(path)
    has_points = False
    if file is None:
        names = read_class_names(path / CLASSES_FILE)
        below = path / "images" / (split or "")
        found, place = [os.fspath(image) for image in files_below(below, IMAGE_SUFFIXES)], below
    else:
        content = _content(file)
        names, place = _class_names(file, content), file
        has_points = "kpt_shape" in content
        stated = content[split] if split is not None else [content[key] for key in SPLITS if content.get(key)]
        stated = stated if isinstance(stated, list) else [stated]
        found = [image for entry in stated for image in _images(file, content, entry, split or "all")]
    found = list(dict.fromkeys(found))
    labels = [_label_file(image) for image in found]
    _refuse_shared(found, labels)
    if found and not any(map(os.path.isfile, labels)):
        raise DataError(
            f"{place}: none of its {len(found)} images has a label file, such as {labels[0]} for {found[0]}; put the"
            " labels there."
        )
    root = os.path.commonpath([os.path.dirname(image) for image in found]) if found else ""
    keys = [os.path.splitext(os.path.relpath(image, root))[0].replace(os.sep, "/") for image in found]
    images = [
        AnnotatedImage(key, image, label, tuple(_objects(label, names, has_points)), fractions=True)
        for key, image, label in zip(keys, found, labels, strict=True)
    ]
    return Annotations(tuple(names), images)


def _described(path: pathlib.Path) -> bool:
    return bool(_candidates(path))


def _candidates(path: pathlib.Path) -> list[pathlib.Path]:
    """Lists the files at a path that may be a data.yaml."""
    files = [path] if path.is_file() else sorted(entry for entry in path.iterdir() if entry.is_file())
    return [file for file in files if file.suffix.lower() in _YAML and _NAMES.search(ends_of(file))]


def _bare(path: pathlib.Path) -> bool:
    images, labels = path / "images", path / "labels"
    return (
        (path / CLASSES_FILE).is_file() and images.is_dir() and labels.is_dir() and bool(files_below(labels, [".txt"]))
    )


def _yaml_of(path: pathlib.Path) -> pathlib.Path | None:
    files = _candidates(path)
    if len(files) > 1:
        usual = [file for file in files if file.stem in ("data", "dataset")]
        if len(usual) != 1:
            raise DataError(
                f"{path}: {listed([file.name for file in files])} all have names; name the one that is meant."
            )
        return usual[0]
    return files[0] if files else None


def _content(file: pathlib.Path) -> Mapping[str, Any]:
    content = read_yaml(file)
    if not isinstance(content, dict) or not any(content.get(split) for split in SPLITS):
        raise DataError(f"{file}: names no images; write train: and val: with their folders or lists.")
    return content


def _class_names(file: pathlib.Path, content: Mapping[str, Any]) -> list[str]:
    stated = content.get("names")
    if isinstance(stated, dict):
        numbers = [int(key) if str(key).isdigit() else -1 for key in stated]
        if sorted(numbers) != list(range(len(numbers))):
            raise DataError(
                f"{file}: the numbers of names are {listed(list(stated))}; write 0, 1, 2 and so on, each once."
            )
        stated = [stated[key] for _, key in sorted(zip(numbers, stated, strict=True))]
    if not isinstance(stated, list) or not stated:
        raise DataError(f"{file}: names holds no names; write a list of them, in the order of the labels' numbers.")
    for number, name in enumerate(stated):
        if isinstance(name, bool | dict | list) or name is None:
            raise DataError(f"{file}: name {number} is read as {name!r}; put it in quotes.")
    names = [str(name) for name in stated]
    if twice := repeated(names):
        raise DataError(f"{file}: {listed(twice)} is there more than once; give every class a name of its own.")
    count = content.get("nc")
    if count is not None and count != len(names):
        raise DataError(f"{file}: nc is {count} and there are {len(names)} names; make them agree.")
    return names


def _images(file: pathlib.Path, content: Mapping[str, Any], stated: Any, split: str) -> list[str]:
    """Lists the images that an entry of data.yaml names: a folder, a list of files, or a list of entries."""
    if isinstance(stated, list):
        return [image for entry in stated for image in _images(file, content, entry, split)]
    if not isinstance(stated, str):
        raise DataError(f"{file}: {split} is {stated!r}; write a folder, or a list of images in a .txt.")
    root = _resolve(file, str(content.get("path") or "."), file.parent) or file.parent
    place = _resolve(file, stated, root)
    if place is None:
        raise DataError(f"{file}: {split} is {stated}, which is not in {root}; mend the path, or path:.")
    if place.is_dir():
        found = [os.fspath(image) for image in files_below(place, IMAGE_SUFFIXES)]
        if not found:
            raise DataError(f"{file}: {split} is {stated}, and {place} has no images; add some, or mend the path.")
        return found
    if place.suffix.lower() in IMAGE_SUFFIXES:
        return [os.fspath(place)]
    return find_all(read_lines(place), ImageFinder([place.parent, root, file.parent]).find, place, root)


def _resolve(file: pathlib.Path, stated: str, root: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder or file that a path of data.yaml means; None where it is not there."""
    native = pathlib.Path(stated).expanduser()
    if native.is_absolute() and native.exists():
        return native
    parts = [part for part in portable(stated).split("/") if part not in ("", ".")]
    outer = [root / pathlib.Path(*parts[start:]) for start in range(len(parts))] or [root]
    inner = [file.parent / pathlib.Path(*parts[start:]) for start in range(len(parts))]
    return next((pathlib.Path(os.path.normpath(place)) for place in (*outer, *inner) if place.exists()), None)


def _label_file(image: str) -> str:
    """Returns the path of an image's label file: the last `images` in the path becomes `labels`."""
    parts = os.path.splitext(image)[0].split(os.sep)
    where = max((number for number, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if where is not None:
        parts[where] = "labels"
    return os.sep.join(parts) + ".txt"


def _refuse_shared(images: Sequence[str], labels: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for image, label in zip(images, labels, strict=True):
        if first.setdefault(label, image) != image:
            two = f"{os.path.basename(first[label])} and {os.path.basename(image)}"
            raise DataError(f"{os.path.dirname(image)}: {two} share a stem, and so {label}; keep one of them.")


def _objects(file: str, names: Sequence[str], has_points: bool) -> list[Annotated]:
    """Reads a label file; one that is not there has no objects. A pose is its box; its points are left out."""
    if not os.path.isfile(file):
        return []
    objects = []
    try:
        with open(file, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if words := line.split()[: 5 if has_points else None]:
                    objects.append(_object(words, names, f"line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}); export the labels again.") from error
    except ValueError as error:
        raise DataError(f"{file}: {error}.") from error
    return objects


def _object(words: Sequence[str], names: Sequence[str], place: str) -> Annotated:
    try:
        label, *values = map(float, words)
    except ValueError as error:
        raise ValueError(f"{place} holds {' '.join(words)[:60]!r}, which is no row of numbers; mend it") from error
    if not label.is_integer() or not 0 <= label < len(names):
        raise ValueError(
            f"{place} has the class {words[0]}, and the {len(names)} names are those of 0 to {len(names) - 1}; mend the"
            " line, or add the name"
        )
    if not all(map(math.isfinite, values)) or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        hint = "a score at its end belongs to predictions: take it off" if len(values) == 5 else "mend it"
        raise ValueError(
            f"{place} has {len(values)} numbers after its class, where a box has 4 and a polygon an x and a y for each"
            f" of 3 corners or more; {hint}"
        )
    name = names[int(label)]
    if len(values) == 4:
        x, y, width, height = values
        _check(values, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), place)
        box: Box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return Annotated(name, box, place=place)
    _check(values, values, place)
    return Annotated(name, None, Polygons((np.array(values, np.float64).reshape(-1, 2),)), place=place)


def _check(values: Sequence[float], corners: Sequence[float], place: str) -> None:
    """Refuses numbers that are no fractions of the image's sides, such as percents and pixels."""
    far = [value for value in (*values, *corners) if not -_SLACK <= value <= 1 + _SLACK]
    if far:
        meant = "percents" if max(values) <= 100 else "pixels"
        kind = f"divide {meant} by {'100' if meant == 'percents' else 'the side of the image'}"
        outside = max(values) <= 1 + _SLACK
        way = "mend the line" if outside else f"{kind} in all label files"
        raise ValueError(f"{place} reaches {far[0]:g}, where fractions of the image go from 0 to 1; {way}")
