"""Reads images in a folder for each class, as ImageNet's are: below a folder for each split, or without splits.

folder/train/CLASS/1.jpg   folder/val/CLASS/2.jpg     read as those of `cvjax.datasets.labeled_folder`, zips too
folder/CLASS/1.jpg                                    no splits; a part can be held out
"""

import logging
import os
import pathlib
from typing import Any

from cvjax.data.dataset import Dataset, Target
from cvjax.data.joined import JoinedDataset
from cvjax.datasets.class_folders.tree import ClassTree, list_images
from cvjax.datasets.labeled_folder import LabeledFolder, labeled_splits, open_labeled_folder
from cvjax.datasets.masks.layouts import IMAGES, MASKS
from cvjax.errors import DataError

NAME = "own"
_LOG = logging.getLogger(__name__)
_SPLITS = ("train", "training", "val", "validation", "valid", "test", "testing")
_ANNOTATIONS = (".json", ".xml", ".parquet")


def recognize(place: pathlib.Path) -> bool:
    """Returns whether a folder holds images below a folder for each of two classes or more, and no annotations."""
    if not place.is_dir():
        return False
    parts = [labeled_splits(place)[split] for split in splits(place)] or [place]
    try:
        trees = [list_images(part) for part in parts]
    except DataError:
        return False
    if any(os.path.splitext(path)[1].lower() in _ANNOTATIONS for tree in trees for path in tree.files):
        return False
    names = {name for tree in trees for _, name in tree.entries}
    return len(names) > 1 and not {name.lower() for tree in trees for name in tree.classes} & {*IMAGES, *MASKS}


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
