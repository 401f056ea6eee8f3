"""This module opens the splits of the data that a command names."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from cvjax.data.classes import match_classes
from cvjax.data.dataset import Dataset, Target
from cvjax.datasets.image_folder import NAME as IMAGE_FOLDER
from cvjax.datasets.own import splits_of
from cvjax.datasets.own.formats import targets_of
from cvjax.datasets.registry import OWN, list_datasets, open_dataset, own_place
from cvjax.errors import ConfigError, DataError

TARGETS: tuple[Target, ...] = ("boxes", "mask", "label")
"""What data are looked at for, the first of these that they have."""
_UNIONS = ("trainval", "trainaug", "all")


@dataclasses.dataclass(frozen=True)
class DataArguments:
    """Names data."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Name of a data set, or path of a folder or file of your own."""
    manual_dir: str | None = None
    """Folder of your own files, for a data set that is named."""
    data_dir: str | None = None
    """Folder of prepared datasets; CVJAX_DATA_DIR changes the default."""
    target: Literal["boxes", "mask", "label"] | None = None
    """What the examples carry; by default the first of these that the data have."""
    splits: tuple[str, ...] = ()
    """Names of the splits; by default train and val, of your own data all."""
    mask_values: tuple[int, ...] = ()
    """Folders of masks: the pixel value of each class, such as 0 255."""
    void: tuple[int, ...] = ()
    """Folders of masks: labels that mean "ignored"."""


def own_path(arguments: DataArguments) -> str | None:
    """Returns the path of one's own data in a recognized format; None for a data set that is named.

    Raises:
      ConfigError: The data are a path, and a folder is given besides.
    """
    name, place = own_place(arguments.data, arguments.manual_dir)
    return os.fspath(place) if name == OWN and place is not None else None


def target_of(arguments: DataArguments) -> Target:
    """Returns what the examples carry.

    Raises:
      ConfigError: There are no such data.
      DataError: The format of one's own data is not recognized.
    """
    if arguments.target is not None:
        return arguments.target
    place = own_path(arguments)
    if place is not None:
        having: list[Target] = [target for target in TARGETS if target in targets_of(place)]
    else:
        having = [target for target in TARGETS if arguments.data in list_datasets(target)]
    if having:
        return having[0]
    raise ConfigError(
        f"there is no data set {arguments.data!r}, and no such path; choose one of {', '.join(list_datasets())}."
    )


def splits_to_open(arguments: DataArguments, target: Target) -> tuple[str, ...]:
    """Returns the names of the splits, each once.

    Raises:
      DataError: The format of one's own data is not recognized.
    """
    given = tuple(dict.fromkeys(arguments.splits))
    place = own_path(arguments)
    if given or place is None:
        return given or ("train", "val")
    found = splits_of(place, target=target)
    # A union of two others would show every picture twice.
    apart = [name for name in found if name not in _UNIONS]
    return tuple(apart or found or ["all"])


def open_split(arguments: DataArguments, target: Target, split: str, on_bad_boxes: str) -> Dataset:
    """Opens a split.

    Args:
      arguments: Data that the command names.
      target: What the examples carry.
      split: Name of the split.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.

    Raises:
      ConfigError: The data do not have this target, or do not take one of the options.
      DataError: The data, or the split, are not there or damaged.
    """
    options: dict[str, Any] = {"on_bad_boxes": on_bad_boxes} if target == "boxes" else {}
    if arguments.mask_values or arguments.void:
        if arguments.data != IMAGE_FOLDER and own_path(arguments) is None:
            raise ConfigError(
                f"--mask-values and --void are of folders of your own, not of {arguments.data}; leave them out"
            )
        options |= {"values": arguments.mask_values, "void": arguments.void}
    return open_dataset(
        arguments.data,
        split,
        target=target,
        data_dir=arguments.data_dir,
        manual_dir=arguments.manual_dir,
        **options,
    )


def open_splits(
    arguments: DataArguments, target: Target, on_bad_boxes: str = "drop"
) -> tuple[list[Dataset], list[tuple[str, DataError]]]:
    """Opens all splits that can be opened, and at least one.

    Returns:
      The splits, and the names of the others with their errors.

    Raises:
      ConfigError: The data do not have this target, or do not take one of the options.
      DataError: No split can be opened.
    """
    opened: list[Dataset] = []
    failed: list[tuple[str, DataError]] = []
    for split in splits_to_open(arguments, target):
        try:
            source = open_split(arguments, target, split, on_bad_boxes)
        except DataError as error:
            failed.append((split, error))
        else:
            if source.split not in [other.split for other in opened]:  # `val` may be another's name
                opened.append(source)
    if not opened:
        raise failed[0][1]
    names = tuple(dict.fromkeys(name for source in opened for name in source.class_names))
    return [match_classes(source, names, whose="all splits") for source in opened], failed


def title_of(arguments: DataArguments, sources: Sequence[Dataset]) -> str:
    """Returns how a page calls the data: the name of the set, or of the folder or file."""
    place = arguments.manual_dir or arguments.data
    return os.path.basename(os.path.normpath(place)) or sources[0].name
