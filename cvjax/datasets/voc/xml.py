"""Reads boxes in VOC's XML: one file per image, corners counted from 1, the last row and column included."""

import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast
from xml.etree import ElementTree

from cvjax.data.annotations import Objects, OnBadBoxes, check_on_bad_boxes, fit_objects, make_objects
from cvjax.data.dataset import Record, read_file
from cvjax.data.identity import fingerprint_of
from cvjax.data.orientation import read_header
from cvjax.datasets.voc.xml_text import parse_root
from cvjax.errors import DataError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROOT = "annotation"
_FLAGS = {"": False, "0": False, "false": False, "unspecified": False, "1": True, "true": True}
"""The words that stand for yes and no in `difficult`, in lower case."""


class Annotated(NamedTuple):
    """Names an example by its id, and gives the paths of its image and of its XML."""

    key: str
    image: str
    annotation: str


class XmlObject(NamedTuple):
    """Holds an object as its file states it.

    The box (x1, y1, x2, y2) has been converted to our convention: pixels from 0, half-open.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class XmlAnnotation(NamedTuple):
    """Holds what a file says about its image.

    Attributes:
      size: Height and width of the image; None where the file states none, or 0x0.
      objects: Objects in the order of the file.
    """

    size: tuple[int, int] | None
    objects: list[XmlObject]


class XmlDataset:
    """Reads images with XML annotations where they lie.

    Args:
      name, split, class_names: Attributes that every dataset has.
      entries: Examples in order.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
      read: Function from a path of the entries to the file's bytes.
      folder: Folder that the entries' paths are relative to; "" if they are not, and None if they are not on disk.
      digest: Function from paths of the entries and options to their digest, as `fingerprint_of`.

    Raises:
      DataError: A record's files cannot be read, or its annotation is bad; raised when the record is read.
    """

    void: tuple[int, ...] = ()

    def __init__(
        self,
        name: str,
        split: str,
        entries: Sequence[Annotated],
        *,
        class_names: Sequence[str],
        on_bad_boxes: OnBadBoxes = "error",
        read: Callable[[str], bytes] = read_file,
        folder: str | None = "",
        digest: Callable[..., str] = fingerprint_of,
    ) -> None:
        check_on_bad_boxes(on_bad_boxes)
        self.name, self.split, self.class_names = name, split, tuple(class_names)
        self._entries, self._read, self._folder, self._digest = list(entries), read, folder, digest
        self._on_bad_boxes: OnBadBoxes = on_bad_boxes

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self._entries):
            raise IndexError(index)
        key, path, annotation = self._entries[index]
        image, stated = self._read(path), parse_xml(self._read(annotation), annotation)
        objects = fit_objects(
            number_classes(stated.objects, self.class_names, annotation),
            read_header(image, path),
            stated.size,
            (annotation, os.path.basename(path)),
            self.class_names,
            self._on_bad_boxes,
            least_side=1.0,
        )
        return cast(Record, {"image": image, "id": key, **objects._asdict()})

    def fingerprint(self) -> str:
        """Returns the digest of the images and their annotations, in their order."""
        paths = [path for _, *pair in self._entries for path in pair]
        return self._digest(paths, ids=[entry.key for entry in self._entries], on_bad_boxes=self._on_bad_boxes)

    def header_size(self, index: int) -> tuple[int, int]:
        """Reads (height, width) of an upright image from its header."""
        path = self._entries[index].image
        if self._folder is None:
            return read_header(self._read(path), path).upright_size
        return read_header(os.path.join(self._folder, path), path).upright_size

    def image_files(self) -> list[str] | None:
        """Returns the paths of the images' files in the order of the records; None where there are none on disk."""
        return None if self._folder is None else [os.path.join(self._folder, entry.image) for entry in self._entries]

    def __repr__(self) -> str:
        return f"XmlDataset({self.name!r}, {self.split!r}, {len(self)} records)"


def parse_xml(data: bytes, name: str) -> XmlAnnotation:
    """Parses the objects of an annotation, without their `part`s, and the size of its image.

    Args:
      data: Content of the file.
      name: Path of the file, for messages.

    Raises:
      DataError: The content is not XML or no annotation of this kind, its size is no number, or an object lacks its
        name or a corner.
    """
    root = parse_root(data, name)
    elements = root.findall("object")
    if root.tag != _ROOT and not elements:
        raise DataError(f"{name}: it begins with <{root.tag}> and not with <{_ROOT}>; export it as PASCAL VOC.")
    objects = []
    for number, element in enumerate(elements, 1):
        label, box = (element.findtext("name") or "").strip(), element.find("bndbox")
        try:
            corners = [float(box.findtext(corner, "")) for corner in _CORNERS] if box is not None else []
        except ValueError:
            corners = []
        if not label or len(corners) < 4 or not all(map(math.isfinite, corners)):
            raise DataError(
                f"{name}: object {number} needs a name and a bndbox with the numbers {', '.join(_CORNERS)}; mend it."
            )
        difficult = (element.findtext("difficult") or "").strip()
        if difficult.lower() not in _FLAGS:
            raise DataError(f"{name}: object {number} is {difficult!r} as difficult; write 0 or 1.")
        corners = (corners[0] - 1, corners[1] - 1, corners[2], corners[3])
        objects.append(XmlObject(label, corners, _FLAGS[difficult.lower()]))
    return XmlAnnotation(_size(root, name), objects)


def _size(root: ElementTree.Element, name: str) -> tuple[int, int] | None:
    """Reads height and width of the image; None where neither is stated, or both are 0."""
    texts = [(root.findtext(f"size/{side}") or "0").strip() for side in ("height", "width")]
    try:
        height, width = (float(text or 0) for text in texts)
        if not (height.is_integer() and width.is_integer() and min(height, width) >= 0):
            raise ValueError
    except ValueError as error:
        raise DataError(
            f"{name}: the size of its image is {texts[0]!r} by {texts[1]!r}; write the height and width in whole"
            " pixels, or 0 for both."
        ) from error
    return (int(height), int(width)) if height or width else None


def number_classes(found: Sequence[XmlObject], class_names: Sequence[str], name: str) -> Objects:
    """Converts class names to numbers; the file's name is for the message.

    Raises:
      DataError: An object has an unknown class.
    """
    number = {known: label for label, known in enumerate(class_names)}
    for thing in found:
        if thing.name not in number:
            shown = ", ".join(class_names[:8]) + (", ..." if len(class_names) > 8 else "")
            raise DataError(f"{name}: {thing.name!r} is no class of {shown}; mend the name, or add it to the classes.")
    return make_objects(
        [thing.box for thing in found], [number[thing.name] for thing in found], [thing.difficult for thing in found]
    )
