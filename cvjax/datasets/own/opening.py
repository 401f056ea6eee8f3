"""Opens a file or folder of one's own as a dataset."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from cvjax.data.annotations import OnBadBoxes
from cvjax.data.dataset import Dataset, Target, held_out
from cvjax.data.orientation import Header, read_header
from cvjax.datasets.image_headers import read_headers
from cvjax.datasets.own.annotated.dataset import OwnDataset, image_bytes
from cvjax.datasets.own.annotated.values import AnnotatedImage, Annotations
from cvjax.datasets.own.formats import Format, format_of
from cvjax.errors import DataError

NAME = "own"
WHOLE = ("train", "all")
"""The names of a set without splits: `train`, from which `--input.hold-out` takes a part, and `all`."""


def splits_of(path: str | os.PathLike[str], format: str | None = None, target: Target | None = None) -> list[str]:
    """Returns the names of the splits of a file or folder; none where it has no splits.

    Args:
      path: File or folder.
      format: Name of its format; recognized by default.
      target: What its examples are to carry, where several formats fit; any by default.

    Raises:
      DataError: Its format is not recognized, or what names the splits is damaged.
    """
    return list(format_of(path, target, format).splits(pathlib.Path(path)))


def open_own(
    path: str | os.PathLike[str],
    split: str,
    target: Target = "boxes",
    *,
    format: str | None = None,
    data_dir: pathlib.Path | None = None,
    on_bad_boxes: OnBadBoxes = "error",
    **options: Any,
) -> Dataset:
    """Opens a split of a file or folder; everything is parsed and compared with the images' headers at this point.

    Args:
      path: File or folder in one of the formats of `cvjax.datasets.own.formats`.
      split: Name of the split; "val" is the one held out under any name, and "all" is everything. A set without splits
        is all "train".
      target: What records are to carry.
      format: Name of the format; recognized by default.
      data_dir: Folder of prepared sets, for `read_headers`.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
      **options: Further options of formats that are not of boxes and outlines.

    Raises:
      DataError: The format is not recognized or lacks the target, the split is absent, or an annotation or an image is
        missing, damaged or wrong.
    """
    place = pathlib.Path(path)
    found = format_of(place, target, format)
    chosen = choose_split(place, split, found.splits(place))
    if found.open is not None:
        opened = found.open(place, chosen, target, data_dir=data_dir, on_bad_boxes=on_bad_boxes, **options)
        _check_filled(len(opened), place, split)
        return opened
    annotations = read_split(found, place, chosen)
    _check_filled(len(annotations.images), place, split)
    return OwnDataset(chosen or split, annotations, headers_of(annotations.images, data_dir), target, on_bad_boxes)


def _check_filled(count: int, place: pathlib.Path, split: str) -> None:
    if not count:
        raise DataError(f"{place}: split {split!r} has no images; add some, or take another split.")


def choose_split(place: pathlib.Path, split: str, names: Sequence[str]) -> str | None:
    """Returns the name of the split to read; None for all examples.

    Raises:
      DataError: There is no such split.
    """
    split = held_out(split, names)
    if split in names:
        return split
    if split == "all" or (not names and split in WHOLE):
        return None
    if not names:
        raise DataError(
            f"{place}: has no splits, and {split!r} is asked for; hold out a part of it with --input.hold-out 0.2, or"
            " score all of it with --input.eval-split all."
        )
    raise DataError(
        f"{place}: there is no split {split!r} (found: {', '.join(names)}); name one of these with --input.train-split"
        " and --input.eval-split, or hold out a part of train with --input.hold-out 0.2."
    )


def read_split(found: Format, place: pathlib.Path, split: str | None) -> Annotations:
    """Reads a split of a set of boxes and outlines, or all of its splits, whose ids then begin with the split's name.

    Raises:
      DataError: It is damaged.
    """
    assert found.read is not None
    names = found.splits(place)
    if split is not None or not names:
        return found.read(place, split)
    parts = {name: found.read(place, name) for name in names}
    classes = tuple(dict.fromkeys(name for part in parts.values() for name in part.class_names))
    images = {}
    for name, part in parts.items():
        for image in part.images:
            # An image that is in two splits, as in VOC's train and trainval, counts once.
            images.setdefault((image.path, image.embedded), dataclasses.replace(image, key=f"{name}/{image.key}"))
    return Annotations(classes, list(images.values()), next(iter(parts.values())).least_side)


def headers_of(images: Sequence[AnnotatedImage], data_dir: pathlib.Path | None = None) -> list[Header | None]:
    """Reads the headers of images, see `read_headers`; None stands for a damaged one."""
    filed = [number for number, image in enumerate(images) if not image.embedded]
    headers: list[Header | None] = [None] * len(images)
    for number, header in zip(filed, read_headers([images[number].path for number in filed], data_dir), strict=True):
        headers[number] = header
    for number, image in enumerate(images):
        if image.embedded:
            try:
                headers[number] = read_header(image_bytes(image), image.path)
            except DataError:
                headers[number] = None
    return headers
