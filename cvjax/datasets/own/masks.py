"""Reads folders of images and masks: of numbers, with `classes.txt`, or of colors, with a table of them.

The layouts are those of `cvjax.datasets.masks.layouts`, VOC's among them, and folders of images and masks without
splits. Masks of numbers are read as those of `cvjax.datasets.image_folder`. `cvjax.datasets.own.colors` says
how masks of colors are read. A folder with both files has masks of colors if its first mask has.
"""

import os
import pathlib
from typing import Any

import numpy as np

from cvjax.data.dataset import Dataset, Files, Target, read_file
from cvjax.data.decode import decode_image, decode_label_numbers
from cvjax.datasets.image_folder import folder_of_numbers
from cvjax.datasets.listing import CLASSES_FILE, read_class_names
from cvjax.datasets.masks.layouts import find_splits, find_whole, holds_masks, read_pairs
from cvjax.datasets.own.colors import TABLES, ColorMasks, find_table, read_table
from cvjax.errors import DataError

NAME = "own"
_UNSPLIT = "default"  # the one list in an export of CVAT whose images were not divided
_NAMES = (CLASSES_FILE, "class_names.txt")  # the second is what labelme2voc writes


def recognize(place: pathlib.Path) -> bool:
    """Returns whether a folder holds images and masks that are pictures, in one of the layouts.

    Raises:
      DataError: It is not clear which of several folders is meant.
    """
    found = [*find_splits(place).values(), find_whole(place)] if place.is_dir() else []
    return any(split is not None and holds_masks(split) for split in found)


def splits(place: pathlib.Path) -> list[str]:
    """Returns the names of a folder's splits, none where it has no splits.

    Raises:
      DataError: It is not clear which of several folders is meant.
    """
    found = list(find_splits(place))
    return [] if found == [_UNSPLIT] else found


def open_masks(
    place: pathlib.Path,
    split: str | None,
    target: Target = "mask",
    *,
    void: tuple[int, ...] = (),
    values: tuple[int, ...] = (),
    **options: Any,
) -> Dataset:
    """Opens a split of a folder of images and masks.

    Args:
      place: Folder.
      split: Name of the split; None for all examples.
      target: What records carry, always masks.
      void: Numbers in masks of numbers that are ignored.
      values: Numbers of the classes in masks of numbers, see `cvjax.datasets.image_folder.image_folder_source`.
      **options: Options of other formats.

    Raises:
      DataError: Names or table are absent or wrong, or images and masks do not match one to one.
      ConfigError: The values are not one for each class.
    """
    del target, options
    pairs = _pairs(place, split)
    table = find_table(place)
    names = next((place / name for name in _NAMES if (place / name).is_file()), None)
    if table is not None and (names is None or _is_colored(pairs[0][2])):
        return ColorMasks(NAME, split or "all", pairs, read_table(table))
    if names is None:
        raise DataError(
            f"{place}: nothing names the classes; write {CLASSES_FILE} with a name a line for masks of numbers, or a"
            f" table of colors such as {TABLES[0]} (name,r,g,b) for masks of colors."
        )
    return folder_of_numbers(NAME, split or "all", place, pairs, read_class_names(names), void, values)


def _pairs(place: pathlib.Path, split: str | None) -> list[Files]:
    found = find_splits(place)
    if split is not None:
        return read_pairs(place, split, found[split])
    if found:  # an image that is in two lists counts once
        images: dict[str, Files] = {}
        for name, own in found.items():
            for key, image, mask in read_pairs(place, name, own):
                images.setdefault(str(image), (f"{name}/{key}", image, mask))
        return list(images.values())
    whole = find_whole(place)
    assert whole is not None  # or nobody would take the folder for this format
    return read_pairs(place, "train", whole)


def _is_colored(mask: str | os.PathLike[str]) -> bool:
    """Returns whether a mask is a picture of colors: more than gray, and no palette, whose indices may be meant."""
    name = os.fspath(mask)
    data = read_file(name)
    try:
        decode_label_numbers(data, name)
    except DataError:
        return bool(np.ptp(decode_image(data, name), axis=2).any())
    return False
