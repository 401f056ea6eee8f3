"""Reads images in a folder for each class, as ImageNet's are: below a folder for each split, or without splits.

    folder/train/CLASS/1.jpg   folder/val/CLASS/2.jpg     read as those of `cvjax.datasets.labeled_folder`, zips too
    folder/CLASS/1.jpg                                    no splits; a part can be held out

The labels are the order of the classes' names.
"""

import logging
import os
import pathlib
from typing import Any

from cvjax.data.dataset import Dataset, Target
from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.data.joined import JoinedDataset
from cvjax.datasets.class_folders.tree import ClassTree, list_images
from cvjax.datasets.labeled_folder import LabeledFolder, labeled_splits, open_labeled_folder
from cvjax.datasets.masks.layouts import IMAGES, MASKS
from cvjax.errors import DataError

NAME = "own"
_LOG = logging.getLogger(__name__)
_SPLITS = ("train", "training", "val", "validation", "valid", "test", "testing")
_ANNOTATIONS = (".json", ".xml", ".parquet")
_LOOKED_AT = 20


def recognize(place: pathlib.Path) -> bool:
    """Returns whether a folder holds images below a folder for each of two classes or more, and no annotations."""
    if not place.is_dir():
        return False
    parts = [labeled_splits(place)[split] for split in splits(place)] or [place]
    try:
        seen = [_seen(part) for part in parts]
    except (DataError, OSError):
        return False
    names = {name for own, _ in seen for name in own}
    is_annotated = any(annotated for _, annotated in seen) or any(map(_is_annotation, _listed(place)[0]))
    return len(names) > 1 and not is_annotated and not {name.lower() for name in names} & {*IMAGES, *MASKS}


def splits(place: pathlib.Path) -> list[str]:
    """Returns the names of a folder's splits, none where its folders are those of classes."""
    return [name for name in labeled_splits(place) if name.lower() in _SPLITS]


def open_folders(place: pathlib.Path, split: str | None, target: Target = "label", **options: Any) -> Dataset:
    """Opens a split of a folder of classes.

    Args:
      place: Folder.
      split: Name of the split; None for all examples.
      target: What records carry, always labels.
      **options: Options of other formats.

    Raises:
      DataError: Images cannot be used, see `cvjax.datasets.class_folders.tree`, or a split has classes that the first
        one lacks.
    """
    del target, options
    if split is not None:
        return open_labeled_folder(split, place, place, name=NAME)
    found = splits(place)
    if found:
        return _joined(place, sorted(found, key=lambda name: not name.lower().startswith("train")))
    tree = list_images(place)
    tree.check(fills_all=True)
    return _whole(place, tree)


def _joined(place: pathlib.Path, names: list[str]) -> Dataset:
    """Returns the examples of all splits, where possible with the name of its split in each id."""
    parts = [open_labeled_folder(name, place, place, name=NAME) for name in names]
    classes = parts[0].class_names
    if any(part.class_names != classes or not (place / part.split).is_dir() for part in parts):
        return JoinedDataset(NAME, "all", parts)
    entries = [(f"{part.split}/{path}", label) for part in parts for path, label in part.entries()]
    return LabeledFolder(place, "all", entries, classes, NAME)


def _whole(place: pathlib.Path, tree: ClassTree) -> LabeledFolder:
    if tree.other:
        _LOG.warning("%s: passed over %s", place, tree.other)
    label = {name: number for number, name in enumerate(tree.classes)}
    return LabeledFolder(place, "all", [(path, label[name]) for path, name in tree.entries], tree.classes, NAME)


def _seen(part: pathlib.Path) -> tuple[set[str], bool]:
    """Looks at the first folders of classes alone, because there may be a million files.

    Returns:
      The names of those that hold images, and whether annotations lie in or beside them.
    """
    if part.is_file():
        return {name for _, name in list_images(part).entries}, False
    files, folders = _listed(part)
    while len(folders) == 1 and not any(_is_image(name) for name in files):  # a folder around the classes
        part = part / folders[0]
        beside, folders = _listed(part)
        files += beside
    names: set[str] = set()
    for folder in folders[:_LOOKED_AT]:
        for _, _, found in os.walk(part / folder):
            files += found
            if any(map(_is_image, found)):
                names.add(folder)
                break
    return names, any(map(_is_annotation, files))


def _listed(folder: pathlib.Path) -> tuple[list[str], list[str]]:
    """Returns the names of a folder's files and folders, sorted, without hidden ones."""
    entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda e: e.name)
    return [e.name for e in entries if e.is_file()], [e.name for e in entries if e.is_dir()]


def _is_annotation(name: str) -> bool:
    return name.lower().endswith(_ANNOTATIONS)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
