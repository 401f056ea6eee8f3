"""Reads a user's own folder of images and masks as a segmentation data set.

Two layouts are read, both with `classes.txt` (one class name per line, background included, first is label 0):

    folder/train/images/0001.jpg   folder/train/masks/0001.png   folder/val/...      a folder for each split
    folder/images/0001.jpg         folder/masks/0001.png         folder/train.txt    a list of stems for each

An image and its mask share a stem. Masks are gray or palette PNGs. Labels given as `void` are ignored.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cvjax.data.dataset import Dataset, FolderDataset, TfdsDataset, prepared_dir
from cvjax.data.decode import IGNORE, IMAGE_SUFFIXES
from cvjax.datasets.prepared import find_config
from cvjax.errors import DataError

if TYPE_CHECKING:
    from cvjax.datasets.writers import PairsBuilder

NAME = "image_folder_segmentation"
CLASSES_FILE = "classes.txt"
_SHOWN = 3  # How many of the offending files a message lists.


def image_folder_source(
    folder: pathlib.Path, split: str, *, void: tuple[int, ...] = (), values: tuple[int, ...] = ()
) -> FolderDataset:
    """Reads a split of a folder where it lies, in the order of its list or else of the names.

    With `values` the masks hold these levels in the place of the classes 0, 1, ..., such as 0 and 255.

    Raises:
      DataError: `classes.txt` or the split is absent, or images and masks do not match one to one.
    """
    folder = pathlib.Path(folder)
    place = folder / split
    listed: list[str] | None = None
    if not _has_pairs(place):
        place, listing = folder, folder / f"{split}.txt"
        if not (_has_pairs(folder) and listing.is_file()):
            known = ", ".join(image_folder_splits(folder)) or "none"
            raise DataError(
                f"{folder}: there is no split {split!r} (found: {known}); put images and masks into "
                f"{split}/images and {split}/masks, or a list of stems into {split}.txt beside them."
            )
        listed = [line.strip() for line in read_lines(listing)]
    images = by_stem(place / "images", IMAGE_SUFFIXES)
    masks = by_stem(place / "masks", (".png",))
    if listed is None:
        complain(place, "images without a mask", sorted(images.keys() - masks.keys()), "add the masks")
        complain(place, "masks without an image", sorted(masks.keys() - images.keys()), "add the images")
        listed = sorted(images)
    else:
        absent = [stem for stem in listed if stem not in images or stem not in masks]
        complain(place, f"names in {split}.txt without an image or a mask", absent, "add the files")
    if not listed:
        raise DataError(f"{place}: split {split!r} has no images; add some to images and masks.")
    pairs = [(stem, images[stem], masks[stem]) for stem in listed]
    names, labels = _class_names(folder), None
    if values:
        if len(values) != len(names):
            raise DataError(f"{folder}: there are {len(values)} values for {len(names)} classes; give one for each.")
        labels = dict.fromkeys(void, IGNORE) | {value: label for label, value in enumerate(values)}
    return FolderDataset(NAME, split, pairs, class_names=names, void=void, labels=labels)


def image_folder_splits(folder: pathlib.Path) -> list[str]:
    """Lists the splits that a folder has, by its subfolders or its lists."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        return []
    if _has_pairs(folder):
        return sorted(path.stem for path in folder.glob("*.txt") if path.name != CLASSES_FILE)
    return sorted(path.name for path in folder.iterdir() if _has_pairs(path))


def open_image_folder(
    split: str,
    data_dir: pathlib.Path,
    manual_dir: pathlib.Path | None = None,
    *,
    void: tuple[int, ...] = (),
    values: tuple[int, ...] = (),
    config: str | None = None,
) -> Dataset:
    """Opens a split of the folder `manual_dir` as it is, else as it was prepared in `data_dir`.

    Args:
      split: Name of the split.
      data_dir: TFDS's root folder.
      manual_dir: Folder of images and masks.
      void: Labels to ignore when a folder is read; in a prepared set they are fixed already.
      values: Levels that stand for the classes in a folder's masks, see `image_folder_source`; in a prepared set they
        are fixed already.
      config: Name of the prepared set, where there are several; it is the name of the folder that the set came from.

    Raises:
      DataError: Nothing is there, several prepared sets are, or the split is absent.
    """
    if manual_dir is not None:
        return image_folder_source(manual_dir, split, void=void, values=values)
    return TfdsDataset(prepared_dir(data_dir, NAME, find_config(data_dir, NAME, config)), split, name=NAME)


def prepare_image_folder(
    data_dir: pathlib.Path,
    folder: pathlib.Path,
    *,
    void: tuple[int, ...] = (),
    values: tuple[int, ...] = (),
    skip_damaged: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> "PairsBuilder":
    """Writes all of a folder's splits as ArrayRecord below `data_dir`, under the folder's name.

    Args:
      data_dir: TFDS's root folder.
      folder: Folder of images and masks.
      void: Labels that become 255.
      values: Levels that stand for the classes in the masks, see `image_folder_source`.
      skip_damaged: Whether to leave out pairs that do not decode; the builder's `skipped` holds their messages.
      overwrite: Whether to prepare again.
      progress: Whether to show a bar on the terminal.

    Raises:
      DataError: The folder has no split, a split is incomplete, or a pair is damaged.
    """
    from cvjax.datasets.writers import ImageFolderSegmentation, prepare_pairs

    folder = pathlib.Path(folder)
    splits = image_folder_splits(folder)
    if not splits:
        raise DataError(
            f"{folder}: there are no images to prepare; make SPLIT/images and SPLIT/masks there, or images, "
            "masks and a list SPLIT.txt."
        )
    return prepare_pairs(
        ImageFolderSegmentation,
        re.sub(r"[^\w.-]", "_", folder.resolve().name),
        pathlib.Path(data_dir),
        {split: image_folder_source(folder, split, void=void, values=values) for split in splits},
        description=f"Images and masks from the folder {folder.name}.",
        skip_damaged=skip_damaged,
        overwrite=overwrite,
        progress=progress,
    )


def _has_pairs(folder: pathlib.Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _class_names(folder: pathlib.Path) -> list[str]:
    names = read_lines(folder / CLASSES_FILE)
    if not names:
        raise DataError(f"{folder / CLASSES_FILE}: there are no names; write one class name a line.")
    return names


def read_lines(path: pathlib.Path) -> list[str]:
    """Reads the lines of a list that are not empty, stripped.

    Raises:
      DataError: The list cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); write one name a line into it, as UTF-8.") from error


def by_stem(folder: pathlib.Path, suffixes: tuple[str, ...]) -> Mapping[str, str]:
    """Maps stems to the paths of a folder's files with one of the suffixes.

    Raises:
      DataError: Two files share a stem.
    """
    found: dict[str, str] = {}
    for entry in os.scandir(folder):
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() not in suffixes or stem.startswith("."):
            continue
        if stem in found:
            other = os.path.basename(found[stem])
            raise DataError(f"{folder}: {other} and {entry.name} share a stem; keep one of them.")
        found[stem] = entry.path
    return found


def complain(place: pathlib.Path, what: str, stems: Iterable[str], fix: str) -> None:
    """Raises a DataError that lists the stems, if there are any."""
    stems = list(stems)
    if stems:
        shown = ", ".join(stems[:_SHOWN]) + (", ..." if len(stems) > _SHOWN else "")
        raise DataError(f"{place}: {what}: {len(stems)} ({shown}); {fix} or remove these.")
