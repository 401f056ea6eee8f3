"""Reads the ISBI 2012 challenge's electron micrographs of membranes, and folders like them, for cross-validation.

A folder holds `images` and `labels` (or `masks`), gray pictures that share a stem. Labels are 0 in membranes and 255 in
cells. There is no official validation split. The sections are consecutive, and neighbors are much alike, so a fold is a
row of neighbors rather than every fifth section. `val` is the last fifth and `train` the rest. `val1` to `val5` and
`train1` to `train5` are all folds, and `all` is everything.
"""

import pathlib
import re

import numpy as np

from cvjax.data.dataset import FolderDataset
from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.data.pixels.lossless import MASK_SUFFIXES
from cvjax.datasets.listing import by_stem, complain
from cvjax.errors import DataError

NAME = "isbi_membrane"
CLASS_NAMES = ("membrane", "cell")
LABELS = {0: 0, 255: 1}
"""Levels of the challenge's pictures to classes."""
FOLDS = 5


def open_isbi(split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> FolderDataset:
    """Opens a split of a folder, in which 0 is membrane and 1 is cell.

    Args:
      split: "train", "val", "all", or "train1" to "train5" and "val1" to "val5".
      data_dir: Folder in which `isbi_membrane` is looked for if `manual_dir` is not given.
      manual_dir: Folder with `images` and `labels`.

    Raises:
      DataError: There is no such folder or split, or images and labels do not match one to one.
    """
    folder = pathlib.Path(manual_dir or pathlib.Path(data_dir) / NAME)
    labels = next((folder / name for name in ("labels", "masks") if (folder / name).is_dir()), None)
    if labels is None or not (folder / "images").is_dir():
        raise DataError(
            f"{folder}: there are no folders images and labels with the challenge's sections; put them there, or name "
            "another folder with --input.manual-dir."
        )
    images, masks = by_stem(folder / "images", IMAGE_SUFFIXES), by_stem(labels, MASK_SUFFIXES)
    complain(folder, "images without a label", sorted(images.keys() - masks.keys()), "add the labels")
    complain(folder, "labels without an image", sorted(masks.keys() - images.keys()), "add the images")
    stems = sorted(images, key=_by_number)
    pairs = [(stem, images[stem], masks[stem]) for stem in _chosen(stems, split, folder)]
    return FolderDataset(NAME, split, pairs, class_names=CLASS_NAMES, labels=LABELS)


def _chosen(stems: list[str], split: str, folder: pathlib.Path) -> list[str]:
    match = re.fullmatch(rf"(train|val)([1-{FOLDS}]?)", split)
    if split == "all":
        return stems
    if match is None:
        raise DataError(
            f"{folder}: there is no split {split!r}; choose train, val, all, or train1 to train{FOLDS} with val1 to "
            f"val{FOLDS}."
        )
    if len(stems) < FOLDS:
        raise DataError(f"{folder}: {len(stems)} images are too few for {FOLDS} folds; add some, or take split all.")
    held_out = set(np.array_split(stems, FOLDS)[int(match[2] or FOLDS) - 1].tolist())
    return [stem for stem in stems if (stem in held_out) == (match[1] == "val")]


def _by_number(stem: str) -> list[tuple[int, str]]:
    """Returns a sort key that puts 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", stem)]
