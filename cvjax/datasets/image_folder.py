"""Reads a user's own folder of images and masks as a segmentation data set.

The layouts are those of `cvjax.datasets.masks.layouts`, all with `classes.txt` (one class name per line, background
included, first is label 0). Masks are lossless pictures of numbers. Labels given as `void` are ignored, and so is 255.

A prepared set belongs to the content of the folder: its files with their sizes and times, and the options. A folder of
other content with the same name is prepared beside it.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cvjax.data.dataset import Dataset, Files, FolderDataset, TfdsDataset, held_out, prepared_dir
from cvjax.data.decode import IGNORE
from cvjax.data.identity import digest_of_files
from cvjax.datasets.listing import CLASSES_FILE, read_class_names, repeated
from cvjax.datasets.masks.layouts import find_splits, read_pairs
from cvjax.datasets.prepared import find_config, find_content
from cvjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cvjax.datasets.writers import PairsBuilder

NAME = "image_folder_segmentation"
_LARGEST = 65_535  # that a mask can hold


def image_folder_source(
    folder: pathlib.Path, split: str, *, void: tuple[int, ...] = (), values: tuple[int, ...] = ()
) -> FolderDataset:
    """Reads a split of a folder where it lies, in the order of its list or else of the names.

    With `values` the masks hold these levels in the place of the classes 0, 1, ..., such as 0 and 255. The records then
    have masks of our labels, in which `void` is 255 already.

    Args:
      folder: Folder of images and masks.
      split: Name of the split; "val" is the split held out, under any name that the folder gives it.
      void: Levels in the masks that are ignored.
      values: Levels of the classes, in their order; none if the masks hold class numbers.

    Raises:
      DataError: `classes.txt` or the split is absent, or images and masks do not match one to one.
      ConfigError: The levels are not one for each class, or contradict each other.
    """
    folder = pathlib.Path(folder)
    splits = find_splits(folder)
    split = held_out(split, splits)
    if split not in splits:
        known = ", ".join(splits) or "none"
        raise DataError(
            f"{folder}: there is no split {split!r} (found: {known}); put images and masks into "
            f"{split}/images and {split}/masks, or a list of stems into {split}.txt beside them."
        )
    pairs = read_pairs(folder, split, splits[split])
    return folder_of_numbers(NAME, split, folder, pairs, read_class_names(folder / CLASSES_FILE), void, values)


def folder_of_numbers(
    name: str,
    split: str,
    folder: pathlib.Path,
    pairs: Sequence[Files],
    class_names: Sequence[str],
    void: tuple[int, ...] = (),
    values: tuple[int, ...] = (),
) -> FolderDataset:
    """Returns the dataset of images and masks of numbers.

    Args:
      name, split: Attributes that every dataset has.
      folder: The user's folder, for messages.
      pairs: Id, image path and mask path of each example, in order.
      class_names: Names of the classes, in the order of their labels.
      void, values: Arguments of `image_folder_source`.

    Raises:
      ConfigError: The levels are not one for each class, or contradict each other.
    """
    _check_levels(folder, len(class_names), void, values)
    if not values:
        return FolderDataset(name, split, pairs, class_names=class_names, void=void)
    labels = {IGNORE: IGNORE} | dict.fromkeys(void, IGNORE) | {value: label for label, value in enumerate(values)}
    return FolderDataset(name, split, pairs, class_names=class_names, labels=labels)


def image_folder_splits(folder: pathlib.Path) -> list[str]:
    """Lists the splits that a folder has, by its subfolders or its lists."""
    return list(find_splits(pathlib.Path(folder)))


def open_image_folder(
    split: str,
    data_dir: pathlib.Path,
    manual_dir: pathlib.Path | None = None,
    *,
    void: tuple[int, ...] = (),
    values: tuple[int, ...] = (),
    config: str | None = None,
) -> Dataset:
    """Opens a split of the folder `manual_dir`, else of the set that was prepared in `data_dir`.

    The folder is read as it is, or from the set that was prepared from just these files with just these options.

    Args:
      split: Name of the split; "val" is the split held out, under any name that the folder gives it.
      data_dir: TFDS's root folder.
      manual_dir: Folder of images and masks.
      void: Labels to ignore when a folder is read; in a prepared set they are fixed already.
      values: Levels that stand for the classes in a folder's masks, see `image_folder_source`; in a prepared set they
        are fixed already.
      config: Name of the prepared set, where there are several and no folder is given.

    Raises:
      DataError: Nothing is there, several prepared sets are, or the split is absent.
    """
    if manual_dir is None:
        place = prepared_dir(data_dir, NAME, find_config(data_dir, NAME, config))
    else:
        source = image_folder_source(manual_dir, split, void=void, values=values)
        found = find_content(data_dir, NAME, lambda: _content(manual_dir, void, values))
        if found is None:
            return source
        place = found
    present = {path.name.removeprefix(f"{NAME}-").split(".")[0] for path in place.glob(f"{NAME}-*")}
    return TfdsDataset(place, held_out(split, present), name=NAME)


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

    Where that name is taken by other content, a part of the digest is added to it.

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
    sources = _sources(folder, void, values)
    if not sources:
        raise DataError(
            f"{folder}: there are no images to prepare; make SPLIT/images and SPLIT/masks there, or images, "
            "masks and a list SPLIT.txt."
        )
    return prepare_pairs(
        ImageFolderSegmentation,
        re.sub(r"[^\w.-]", "_", folder.resolve().name),
        pathlib.Path(data_dir),
        sources,
        description=f"Images and masks from the folder {folder.name}.",
        skip_damaged=skip_damaged,
        overwrite=overwrite,
        progress=progress,
        content=_content(folder, void, values),
        beside=True,
    )


def _sources(folder: pathlib.Path, void: tuple[int, ...], values: tuple[int, ...]) -> dict[str, FolderDataset]:
    splits = image_folder_splits(folder)
    return {split: image_folder_source(folder, split, void=void, values=values) for split in splits}


def _content(folder: pathlib.Path, void: tuple[int, ...], values: tuple[int, ...]) -> str:
    """Returns the digest of all files and options that decide what a set prepared from a folder holds."""
    folder = pathlib.Path(folder).resolve()
    sources = _sources(folder, void, values)
    lists = [split.listing for split in find_splits(folder).values() if split.listing is not None]
    files = [file for source in sources.values() for file in source.files()]
    splits = {split: [key for key, *_ in source.pairs] for split, source in sources.items()}
    return digest_of_files(
        folder, [folder / CLASSES_FILE, *lists, *files], times=True, void=void, values=values, splits=splits
    )


def _check_levels(folder: pathlib.Path, classes: int, void: tuple[int, ...], values: tuple[int, ...]) -> None:
    if outside := [level for level in (*void, *values) if not 0 <= level <= _LARGEST]:
        raise ConfigError(f"a mask holds levels from 0 to {_LARGEST}, and {outside[0]} is none; mend the option.")
    if not values:
        return
    if len(values) != classes:
        raise ConfigError(
            f"{folder}: there are {len(values)} values for {classes} classes; give --input.mask-values one for each"
            f" name in {CLASSES_FILE}."
        )
    if twice := repeated([*map(str, values)]):
        raise ConfigError(f"the mask value {twice[0]} stands for two classes; give every class a value of its own.")
    if both := sorted(set(values) & set(void)):
        raise ConfigError(f"the mask value {both[0]} stands for a class, and void lists it too; leave out one.")
