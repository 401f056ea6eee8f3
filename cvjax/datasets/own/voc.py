"""Reads images with VOC's XML, one file an image, in the layouts of `cvjax.datasets.xml_folder`."""

import pathlib
from collections.abc import Sequence

from cvjax.datasets import xml_folder
from cvjax.datasets.own.annotated.texts import ends_of, split_folders
from cvjax.datasets.own.annotated.values import Annotated, AnnotatedImage, Annotations
from cvjax.datasets.voc import xml


def recognize(path: pathlib.Path) -> bool:
    """Returns whether a path is a folder of images and XML files as VOC's."""
    if path.is_file():
        return False
    found = (place for folder in (path, *split_folders(path)) if (place := xml_folder.place_of(folder)) is not None)
    first = next((file for _, place in found for file in sorted(place.glob("*.[xX][mM][lL]"))), None)
    # Another tool's XML is told by what it begins with, and a damaged file of VOC's is to be reported as such.
    return first is not None and b"<annotations" not in ends_of(first)


def splits(path: pathlib.Path) -> Sequence[str]:
    """Returns the names of the lists, or else of the folders, of splits."""
    return list(xml_folder.xml_folder_splits(path)) if xml_folder.has_splits(path) else []


def read(path: pathlib.Path, split: str | None) -> Annotations:
    """Reads a split, or all images.

    Raises:
      DataError: An annotation is damaged or of an unknown class, or images and annotations do not match.
    """
    if split is None:
        entries = [entry for part in xml_folder.xml_folder_examples(path) for entry in part]
    else:
        entries = xml_folder.xml_folder_splits(path)[split]
    names, parsed = xml_folder.xml_folder_classes(path, "drop")
    return Annotations(tuple(names), [_image(entry, parsed[entry.annotation]) for entry in entries], 1.0)


def _image(entry: xml.Annotated, said: xml.XmlAnnotation) -> AnnotatedImage:
    objects = tuple(
        Annotated(thing.name, thing.box, difficult=thing.difficult, place=f"object {number}")
        for number, thing in enumerate(said.objects, 1)
    )
    return AnnotatedImage(entry.key, entry.image, entry.annotation, objects, said.size)
