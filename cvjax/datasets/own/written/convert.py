"""Converts own data of any format to COCO JSON or YOLO text, whole or not at all."""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError

from cvjax.data.annotations import OnBadBoxes
from cvjax.data.dataset import Dataset, Target
from cvjax.datasets.own.annotated.dataset import is_background
from cvjax.datasets.own.formats import Format, format_of
from cvjax.datasets.own.opening import read_split
from cvjax.datasets.own.written import coco, yolo
from cvjax.datasets.own.written.examples import (
    Example,
    Left,
    encoded_image,
    file_names,
    record_examples,
    upright_examples,
)
from cvjax.errors import ConfigError, DataError
from cvjax.files import scheme_of

To = Literal["coco", "yolo"]
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif", "BMP": ".bmp"}


@dataclasses.dataclass(frozen=True)
class Converted:
    """Says what was written.

    Attributes:
      format: What the source is, such as "COCO JSON".
      class_names: Names of the classes in the order of their numbers.
      images, objects: Number of images and of objects of each split; a set without splits has the split "all".
      linked: Number of images that are hard links; the others are copies.
      left: What the written data do not have.
    """

    format: str
    class_names: tuple[str, ...]
    images: dict[str, int]
    objects: dict[str, int]
    linked: int
    left: Left


def convert(
    source: pathlib.Path,
    out: pathlib.Path,
    to: To,
    *,
    format: str | None = None,
    on_bad_boxes: OnBadBoxes = "error",
    copy: bool = False,
    **options: Any,
) -> Converted:
    """Writes own data in another format, with the same splits and names of images.

    Args:
      source: File or folder in any of the formats of `cvjax.datasets.own.formats` that have boxes, outlines or masks.
      out: Folder to make.
      to: Format to write.
      format: Name of the source's format; recognized by default.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
      copy: Whether to copy images where hard links would do.
      **options: Further options of formats of masks.

    Raises:
      DataError: The source is not recognized, has no boxes, outlines or masks, or is damaged.
      ConfigError: The folder is there already, or cannot be written.
    """
    if scheme_of(os.fspath(out)) is not None:
        raise ConfigError(f"{out} is a URL, and images are linked or copied to a disk; name a folder, and copy that.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there already, and nothing is overwritten; name another folder, or remove it.")
    found = format_of(source, name=format)
    left = Left()
    classes, splits = _examples(found, source, on_bad_boxes, left, options)
    suffixes = {split: [_suffix(example) for example in examples] for split, examples in splits.items()}
    named = {
        split: list(zip(file_names(examples, suffixes[split]), examples, strict=True))
        for split, examples in splits.items()
    }
    writer = {"coco": coco, "yolo": yolo}[to]
    files = writer.files_of(named, classes, left)
    partial = out.with_name(f"{os.getpid()}.{out.name}.part")
    try:
        linked = 0
        for split, examples in named.items():
            for name, example in examples:
                linked += _put(example, partial / writer.image_folder(split) / name, copy)
        for path, text in files.items():
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_text(text, encoding="utf-8")
        with contextlib.suppress(FileNotFoundError):
            out.rmdir()  # an empty folder
        partial.rename(out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({error.strerror}); give another folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    images = {split or "all": len(examples) for split, examples in named.items()}
    objects = {split or "all": sum(len(each.objects) for _, each in examples) for split, examples in named.items()}
    return Converted(found.what, tuple(classes), images, objects, linked, left)


def _examples(
    found: Format, source: pathlib.Path, on_bad_boxes: OnBadBoxes, left: Left, options: dict[str, Any]
) -> tuple[Sequence[str], dict[str, list[Example]]]:
    """Returns the names of the classes and the examples of each split."""
    names = list(found.splits(source))
    if found.read is not None:
        parts = {split or "": read_split(found, source, split) for split in (names or [None])}
        classes = list(dict.fromkeys(name for part in parts.values() for name in part.class_names))
        return classes, {split: list(upright_examples(part, on_bad_boxes, left)) for split, part in parts.items()}
    opened = _opened(found, source, names, options | {"on_bad_boxes": on_bad_boxes})
    every = dict.fromkeys(name for part in opened.values() for name in part.class_names)
    classes = [name for name in every if not is_background(name)]
    return classes, {split: list(record_examples(part, left)) for split, part in opened.items()}


def _opened(found: Format, source: pathlib.Path, names: Sequence[str], options: dict[str, Any]) -> dict[str, Dataset]:
    """Opens every split with masks, or with boxes where there are none.

    Raises:
      DataError: There are neither.
    """
    able: list[Target] = [target for target in ("mask", "boxes") if target in found.targets]
    if not able or found.open is None:
        raise DataError(f"{source}: is {found.what}, which has no boxes, outlines or masks to write; name another.")
    for target in able:
        try:
            return {split or "": found.open(source, split, target, **options) for split in (names or [None])}
        except DataError:
            if target == able[-1]:
                raise
    raise AssertionError


def _suffix(example: Example) -> str:
    """Returns the suffix of an image's file, or that of its content where it has no file."""
    if example.path is not None:
        return os.path.splitext(example.path)[1]
    try:
        with Image.open(io.BytesIO(encoded_image(example))) as picture:
            return _SUFFIXES.get(picture.format or "", ".png")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{example.key}: its image is none in a known format; export it again.") from error


def _put(example: Example, place: pathlib.Path, copy: bool) -> int:
    """Links or copies an image; returns 1 for a link."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if example.path is None:
        place.write_bytes(encoded_image(example))
        return 0
    if not copy:
        with contextlib.suppress(OSError, NotImplementedError):  # another disk, or a disk without links
            os.link(os.path.realpath(example.path), place)
            return 1
    shutil.copyfile(example.path, place)
    return 0
