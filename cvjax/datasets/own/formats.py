"""Lists the formats of own data and recognizes which one a file or folder has; a new format adds its row here."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

from cvjax.data.dataset import Dataset, Target
from cvjax.datasets.own import class_folders, coco, cvat, label_table, labelme, masks, parquet, voc, yolo
from cvjax.datasets.own.annotated.values import Annotations
from cvjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Format:
    """Describes a format. It has one of `read` and `open`.

    Attributes:
      name: Name by which a person chooses it.
      what: What it is, as a message says it.
      targets: What its examples can carry.
      recognize: Function that says whether a file or folder is of this format, by names and first bytes alone.
      splits: Function from the path to the names of its splits; empty where the format has none, and a split is then
        chosen among all examples.
      read: Function from the path and a split, or None for all of a set without splits, to annotated images.
      open: Function from the path, a split or None, the target and options of the data set to a dataset, for formats
        that are not of boxes and outlines.
      held: Function from the path to those of `targets` that it holds, where that differs from one set to another.
    """

    name: str
    what: str
    targets: tuple[Target, ...]
    recognize: Callable[[pathlib.Path], bool]
    splits: Callable[[pathlib.Path], Sequence[str]]
    read: Callable[[pathlib.Path, str | None], Annotations] | None = None
    open: Callable[..., Dataset] | None = None
    held: Callable[[pathlib.Path], Sequence[Target]] | None = None


_OUTLINED: tuple[Target, ...] = ("boxes", "mask", "objects")

FORMATS: tuple[Format, ...] = (
    Format("coco", "COCO JSON", _OUTLINED, coco.recognize, coco.splits, coco.read),
    Format("yolo", "YOLO text", _OUTLINED, yolo.recognize, yolo.splits, yolo.read),
    Format("voc", "VOC XML", ("boxes",), voc.recognize, voc.splits, voc.read),
    Format("labelme", "LabelMe JSON", _OUTLINED, labelme.recognize, labelme.splits, labelme.read),
    Format("cvat", "CVAT images XML", _OUTLINED, cvat.recognize, cvat.splits, cvat.read),
    Format("masks", "images and masks", ("mask",), masks.recognize, masks.splits, open=masks.open_masks),
    Format(
        "csv", "a CSV of labels", ("label",), label_table.recognize, label_table.splits, open=label_table.open_table
    ),
    Format(
        "folders",
        "class folders",
        ("label",),
        class_folders.recognize,
        class_folders.splits,
        open=class_folders.open_folders,
    ),
    Format(
        "parquet",
        "parquet",
        ("label", "mask", "boxes"),
        parquet.recognize,
        parquet.splits,
        open=parquet.open_rows,
        held=parquet.held,
    ),
)


def format_of(path: str | os.PathLike[str], target: Target | None = None, name: str | None = None) -> Format:
    """Returns the format of a file or folder.

    Args:
      path: File or folder.
      target: What its examples are to carry; formats that cannot are passed over where others fit. None asks nothing.
      name: Name of the format, where the person gives it.

    Raises:
      ConfigError: There is no format of that name.
      DataError: Nothing is there, no format fits or several do, or the format does not have the target.
    """
    place = pathlib.Path(path)
    known = ", ".join(row.name for row in FORMATS)
    chosen = [row for row in FORMATS if row.name == name]
    if name is not None and not chosen:
        raise ConfigError(f"there is no format {name!r}; choose one of {known}.")
    if not place.exists():
        raise DataError(f"{place}: there is no such file or folder; mend the path.")
    fits = chosen if name is not None else [row for row in FORMATS if row.recognize(place)]
    if not fits:
        raise DataError(
            f"{place}: holds {_seen(place)} and none of the known formats ({', '.join(row.what for row in FORMATS)});"
            f" name the folder that has the annotations, or one of {known} with --format (of a run: --input.format)."
        )
    able = [row for row in fits if target is None or target in row.targets]
    if not able:
        kinds = " and ".join(dict.fromkeys(_PLURAL[kind] for row in fits for kind in row.targets))
        raise DataError(
            f"{place}: is {' and '.join(row.what for row in fits)}, which has {kinds} and no"
            f" {_PLURAL[target or 'mask']}; choose an experiment for these."
        )
    if len(able) > 1:
        raise DataError(
            f"{place}: holds {' and '.join(row.what for row in able)}; choose {' or '.join(row.name for row in able)}"
            " with --format (of a run: --input.format)."
        )
    return able[0]


def targets_of(path: str | os.PathLike[str]) -> tuple[Target, ...]:
    """Returns what the examples of a file or folder can carry; all that its format knows where it holds none of it.

    Raises:
      DataError: The format is not recognized, or what it holds cannot be read.
    """
    found = format_of(path)
    return tuple(found.held(pathlib.Path(path)) if found.held is not None else ()) or found.targets


_PLURAL = {"mask": "outlines or masks", "label": "labels of images", "objects": "masks of objects", "boxes": "boxes"}


def _seen(place: pathlib.Path) -> str:
    """Says in a few words what a path holds, such as "3 .jpg, 1 .doc"."""
    if place.is_file():
        return f"a file {place.suffix or 'without a suffix'}"
    counts: dict[str, int] = {}
    for entry in sorted(place.iterdir()):
        kind = "folders" if entry.is_dir() else entry.suffix.lower() or "files without a suffix"
        counts[kind] = counts.get(kind, 0) + 1
    most = sorted(counts.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{count} {kind}" for kind, count in most) or "nothing"
