"""Reads a user's own folder of images and VOC-style XML annotations as a detection data set.

    folder/JPEGImages/1.jpg   folder/Annotations/1.xml   folder/ImageSets/Main/train.txt   VOC's own layout
    folder/images/1.jpg       folder/annotations/1.xml   folder/train.txt                  the same under other names
    folder/imgs/1.jpg         folder/labels/1.xml                                          and more, see below
    folder/1.jpg              folder/1.xml                                                 all in one folder
    folder/train/...          folder/val/...                                               a folder for each split

In the last layout each split's folder has one of the other layouts. An image and its annotation share a stem, whatever
the annotation's `filename` says. Images lie in `JPEGImages`, `images`, `imgs`, `image` or `img`, annotations in
`Annotations`, `annots`, `annot`, `labels`, `xml` or `xmls`, in any case of the letters, else in the folder itself; also
in `xml` or `xmls` below `annotations`. A list is
called train, val, validation, valid, test or trainval, and holds one stem per line. Where there are neither lists nor
folders of splits, about every fifth image is `val` and the rest `train`. A checksum of its stem decides, so that an
image stays in its split when others are added. `all` is everything. The classes are those of `classes.txt`, one name
per line, else all names that are found in any annotation, in alphabetical order.
"""

import os
import pathlib
import re
import zlib
from typing import TYPE_CHECKING

from cvjax.data.annotations import OnBadBoxes, check_objects, fit_objects
from cvjax.data.dataset import Dataset, TfdsDataset, held_out, prepared_dir, read_file
from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.datasets.image_headers import read_headers
from cvjax.datasets.listing import CLASSES_FILE, by_stem, complain, read_lines
from cvjax.datasets.prepared import find_config
from cvjax.datasets.voc.xml import Annotated, XmlAnnotation, XmlDataset, number_classes, parse_xml
from cvjax.errors import DataError

if TYPE_CHECKING:
    from cvjax.datasets.writers import PairsBuilder

NAME = "xml_folder_detection"
# Lower-case names of folders, in the order in which they are looked for.
_IMAGES = ("jpegimages", "images", "imgs", "image", "img")
_ANNOTATIONS = ("annotations", "annots", "annot", "labels", "xmls", "xml")
_BELOW_ANNOTATIONS = ("xmls", "xml")
_SUFFIX = ".xml"
_LISTS = ("ImageSets/Main", ".")
_HELD_OUT_OF = 5  # one image in so many is held out
_NO_LIMIT = (2**24, 2**24)  # more pixels than an image has


def xml_folder_source(
    folder: pathlib.Path, split: str, on_bad_boxes: OnBadBoxes = "error", data_dir: pathlib.Path | None = None
) -> XmlDataset:
    """Reads a split of a folder where it lies.

    Every annotation is parsed once at this point and compared with the header of its image, so that a mistake in one is
    met now, and not in the middle of a training.

    Args:
      folder: Folder of images and annotations.
      split: Name of the split, or `all`.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
      data_dir: Folder of prepared sets, for `read_headers`.

    Raises:
      DataError: There are no annotations, the split is absent, images and annotations do not match, or one of these is
        bad.
    """
    splits = xml_folder_splits(folder)
    split = split if split == "all" else held_out(split, splits)
    if split == "all":
        entries = [entry for part in xml_folder_examples(folder) for entry in part]
    elif split in splits:
        entries = splits[split]
    else:
        raise DataError(
            f"{folder}: there is no split {split!r} (found: {', '.join(splits) or 'none'}); put images with their XML"
            f" into a folder {split}, or a list of stems into {split}.txt."
        )
    if not entries:
        raise DataError(f"{folder}: split {split!r} has no images; add some, or take split all.")
    names, parsed = xml_folder_classes(folder, on_bad_boxes)
    for entry, header in zip(entries, read_headers([entry.image for entry in entries], data_dir), strict=True):
        if header is not None:
            stated = parsed[entry.annotation]
            objects = number_classes(stated.objects, names, entry.annotation)
            files = entry.annotation, os.path.basename(entry.image)
            fit_objects(objects, header, stated.size, files, names, on_bad_boxes, least_side=1.0)
    return XmlDataset(NAME, split, entries, class_names=names, on_bad_boxes=on_bad_boxes)


def xml_folder_splits(folder: pathlib.Path) -> dict[str, list[Annotated]]:
    """Lists the examples of every split of a folder, by the split's name.

    Raises:
      DataError: Images and annotations do not match, or a list names files that are not there.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        return {}
    place = place_of(folder)
    if place is None:
        below = {entry.name: place_of(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()}
        return {name: _pairs(*found) for name, found in below.items() if found is not None}
    lists = next((where for name in _LISTS if (where := _lists(folder / name))), {})
    if not lists:
        entries = _pairs(*place)
        is_held_out = [zlib.crc32(entry.key.encode()) % _HELD_OUT_OF == 0 for entry in entries]
        return {
            split: [entry for entry, held in zip(entries, is_held_out) if held == (split == "val")]
            for split in ("train", "val")
        }
    images, annotations = by_stem(place[0], IMAGE_SUFFIXES), by_stem(place[1], (_SUFFIX,))
    splits = {}
    for split, path in lists.items():
        stems = [line.split()[0] for line in read_lines(path)]
        absent = [stem for stem in stems if stem not in images or stem not in annotations]
        complain(folder, f"names in {path.name} without an image or an annotation", absent, "add the files")
        splits[split] = [Annotated(stem, images[stem], annotations[stem]) for stem in stems]
    return splits


def open_xml_folder(
    split: str,
    data_dir: pathlib.Path,
    manual_dir: pathlib.Path | None = None,
    *,
    on_bad_boxes: OnBadBoxes = "error",
    config: str | None = None,
) -> Dataset:
    """Opens a split of the folder `manual_dir` as it is, else as it was prepared in `data_dir`.

    Args:
      split: Name of the split; "val" is the split held out, under any name that the folder gives it.
      data_dir: TFDS's root folder.
      manual_dir: Folder of images and annotations.
      on_bad_boxes: Treatment of bad boxes in a folder, see `cvjax.data.annotations.check_objects`; in a prepared set it
        is settled already.
      config: Name of the prepared set, where there are several; it is the name of the folder that the set came from.

    Raises:
      DataError: Nothing is there, several prepared sets are, or the split is absent.
    """
    if manual_dir is not None:
        return xml_folder_source(pathlib.Path(manual_dir), split, on_bad_boxes, data_dir)
    place = prepared_dir(data_dir, NAME, find_config(data_dir, NAME, config))
    present = {path.name.removeprefix(f"{NAME}-").split(".")[0] for path in place.glob(f"{NAME}-*")}
    return TfdsDataset(place, held_out(split, present), name=NAME, target="boxes")


def prepare_xml_folder(
    data_dir: pathlib.Path,
    folder: pathlib.Path,
    *,
    on_bad_boxes: OnBadBoxes = "error",
    skip_damaged: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> "PairsBuilder":
    """Writes all of a folder's splits as ArrayRecord below `data_dir`, under the folder's name.

    Args:
      data_dir: TFDS's root folder.
      folder: Folder of images and annotations.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`; the builder's `dropped_boxes`
        counts.
      skip_damaged: Whether to leave out examples whose image does not decode; the builder's `skipped` holds their
        messages.
      overwrite: Whether to prepare again.
      progress: Whether to show a bar on the terminal.

    Raises:
      DataError: The folder has no split, a split is incomplete, or an example is damaged.
    """
    from cvjax.datasets.writers import XmlFolderDetection, prepare_pairs

    folder = pathlib.Path(folder)
    splits = [split for split, entries in xml_folder_splits(folder).items() if entries]
    if not splits:
        raise DataError(f"{folder}: there are no images with XML annotations to prepare; put some there.")
    return prepare_pairs(
        XmlFolderDetection,
        re.sub(r"[^\w.-]", "_", folder.resolve().name),
        pathlib.Path(data_dir),
        {split: xml_folder_source(folder, split, on_bad_boxes) for split in splits},
        description=f"Images and boxes from the folder {folder.name}.",
        skip_damaged=skip_damaged,
        overwrite=overwrite,
        progress=progress,
    )


def has_splits(folder: pathlib.Path) -> bool:
    """Returns whether a folder has lists or folders of splits; else `xml_folder_splits` makes them up."""
    return place_of(folder) is None or any(_lists(folder / name) for name in _LISTS)


def place_of(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path] | None:
    """Finds the folders of images and of annotations, maybe the same one; None where there are no annotations."""
    below = _named(folder, _ANNOTATIONS)
    deeper = [place for parent in below for place in _named(parent, _BELOW_ANNOTATIONS)]
    annotations = next((place for place in (*below, *deeper, folder) if _holds(place, (_SUFFIX,))), None)
    if annotations is None:
        return None
    images = next((place for place in _named(folder, _IMAGES) if _holds(place, IMAGE_SUFFIXES)), folder)
    return images, annotations


def _named(folder: pathlib.Path, names: tuple[str, ...]) -> list[pathlib.Path]:
    """Lists the folders below a folder with one of the names, in the order of these."""
    found = sorted(entry for entry in folder.iterdir() if entry.name.lower() in names and entry.is_dir())
    return sorted(found, key=lambda entry: names.index(entry.name.lower()))


def _holds(folder: pathlib.Path, suffixes: tuple[str, ...]) -> bool:
    return any(_has_suffix(entry, suffixes) for entry in folder.iterdir())


def _has_suffix(path: pathlib.Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def _pairs(images: pathlib.Path, annotations: pathlib.Path) -> list[Annotated]:
    """Lists the examples of two folders, or of one, by their names."""
    found, files = by_stem(annotations, (_SUFFIX,)), by_stem(images, IMAGE_SUFFIXES)
    fix = "add the XML (without objects where there are none)"
    complain(images, "images without an annotation", sorted(files.keys() - found.keys()), fix)
    complain(annotations, "annotations without an image", sorted(found.keys() - files.keys()), "add the images")
    return [Annotated(stem, files[stem], found[stem]) for stem in sorted(files)]


def xml_folder_examples(folder: pathlib.Path) -> list[list[Annotated]]:
    """Lists all examples of a folder, each once, independently of its lists.

    Raises:
      DataError: Images and annotations do not match.
    """
    place = place_of(folder) if folder.is_dir() else None
    return [_pairs(*place)] if place is not None else list(xml_folder_splits(folder).values())


def _lists(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds the lists of splits in a folder; VOC's lists of one class, such as car_train.txt, are not among them."""
    paths = [path for path in sorted(folder.glob("*.txt")) if path.name != CLASSES_FILE]
    return {path.stem: path for path in paths if re.fullmatch(r"train|val|validation|valid|test|trainval", path.stem)}


def xml_folder_classes(folder: pathlib.Path, on_bad_boxes: OnBadBoxes) -> tuple[list[str], dict[str, XmlAnnotation]]:
    """Returns the names that `classes.txt` or the annotations give, and all annotations by their paths, checked.

    Raises:
      DataError: An annotation is damaged, is of an unknown class or has a bad box, or there is no class.
    """
    places = [folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())]
    folders = {found[1] for place in places if (found := place_of(place)) is not None}
    paths = sorted(os.fspath(path) for place in folders for path in place.iterdir() if _has_suffix(path, (_SUFFIX,)))
    parsed = {path: parse_xml(read_file(path), path) for path in paths}
    if (folder / CLASSES_FILE).is_file():
        names = read_lines(folder / CLASSES_FILE)
    else:
        names = sorted({thing.name for found in parsed.values() for thing in found.objects})
    if not names:
        raise DataError(f"{folder}: no annotation has an object; label some, or name the classes in {CLASSES_FILE}.")
    for annotation, found in parsed.items():
        objects = number_classes(found.objects, names, annotation)
        check_objects(objects, _NO_LIMIT, annotation, names, on_bad_boxes, least_side=1.0)
    return names, parsed
