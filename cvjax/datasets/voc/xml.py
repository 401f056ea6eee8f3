"""Reads boxes in VOC's XML: one file per image, corners counted from 1, the last row and column included."""

import math
import xml.etree.ElementTree
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from cvjax.data.annotations import Objects, OnBadBoxes, check_objects, check_on_bad_boxes, make_objects
from cvjax.data.dataset import Record, read_file
from cvjax.data.decode import image_size
from cvjax.data.fingerprint import fingerprint_of
from cvjax.errors import DataError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


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


class XmlDataset:
    """Reads images with XML annotations where they lie.

    Args:
      name, split, class_names: Attributes that every dataset has.
      entries: Examples in order.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
      read: Function from a path of the entries to the file's bytes.
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
        digest: Callable[..., str] = fingerprint_of,
    ) -> None:
        check_on_bad_boxes(on_bad_boxes)
        self.name, self.split, self.class_names = name, split, tuple(class_names)
        self._entries, self._read, self._digest = list(entries), read, digest
        self._on_bad_boxes: OnBadBoxes = on_bad_boxes

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self._entries):
            raise IndexError(index)
        key, path, annotation = self._entries[index]
        image = self._read(path)
        objects = check_objects(
            number_classes(parse_xml(self._read(annotation), annotation), self.class_names, annotation),
            image_size(image, path),
            annotation,
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
        """Reads (height, width) of an image from its header."""
        path = self._entries[index].image
        return image_size(self._read(path), path)

    def __repr__(self) -> str:
        return f"XmlDataset({self.name!r}, {self.split!r}, {len(self)} records)"


def parse_xml(data: bytes, name: str) -> list[XmlObject]:
    """Parses the objects of an annotation, without their `part`s.

    Args:
      data: Content of the file.
      name: Path of the file, for messages.

    Raises:
      DataError: The content is not XML, or an object lacks its name or a corner.
    """
    try:
        root = xml.etree.ElementTree.fromstring(data)
    except xml.etree.ElementTree.ParseError as error:
        raise DataError(f"{name}: cannot be read as XML ({error}); export the annotation again.") from error
    objects = []
    for number, element in enumerate(root.findall("object"), 1):
        label, box = (element.findtext("name") or "").strip(), element.find("bndbox")
        try:
            corners = [float(box.findtext(corner, "")) for corner in _CORNERS] if box is not None else []
        except ValueError:
            corners = []
        if not label or len(corners) < 4 or not all(map(math.isfinite, corners)):
            raise DataError(
                f"{name}: object {number} needs a name and a bndbox with the numbers {', '.join(_CORNERS)}; mend it."
            )
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        objects.append(XmlObject(label, (corners[0] - 1, corners[1] - 1, corners[2], corners[3]), difficult))
    return objects


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
