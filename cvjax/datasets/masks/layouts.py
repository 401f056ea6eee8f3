"""Finds the images and masks of a user's folder, in any of the layouts that people have.

    folder/train/images/1.jpg   folder/train/masks/1.png                      a folder for each split
    folder/images/train/1.jpg   folder/masks/train/1.png                      the same, the other way round
    folder/images/1.jpg         folder/masks/1.png         folder/train.txt   a list of names for each split
    folder/train/1.jpg          folder/train_labels/1.png                     masks in a folder beside the images'

The folders may have any of the names in `IMAGES` and `MASKS`, in capitals or not. Lists may also lie in VOC's
`ImageSets/Segmentation`. An image and its mask share a stem, or the mask's has a suffix such as `_mask` besides.
"""

import os
import pathlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cvjax.data.dataset import Files
from cvjax.data.decode import IMAGE_SUFFIXES
from cvjax.data.pixels.lossless import MASK_SUFFIXES
from cvjax.datasets.listing import CLASSES_FILE, by_stem, complain, listed, read_lines, repeated
from cvjax.errors import DataError

IMAGES = ("images", "image", "imgs", "img", "jpegimages")
MASKS = (
    *("masks", "mask", "annotations", "annotation", "annots", "annot", "labels", "label"),
    *("segmentationclass", "segmentations", "segmentation", "gt", "ground_truth", "groundtruth"),
)
_LISTS = (".", "ImageSets/Segmentation")
_NO_LISTS = (CLASSES_FILE, "class_names.txt", "labels.txt", "labelmap.txt", "label_colors.txt")  # of classes
_MASK_ENDS = ("mask", "masks", "seg", "segmentation", "label", "labels", "lbl", "gt", "annot", "annotation", "l")
_IMAGE_ENDS = ("image", "img", "rgb", "sat")
_PICTURES = (*IMAGE_SUFFIXES, ".gif", ".npy", ".mat", ".json", ".svg")


class Split(NamedTuple):
    """Says where the files of a split lie.

    Attributes:
      images: Folder of its images.
      masks: Folder of its masks.
      listing: List of its names; None where it has all files of the folders.
    """

    images: pathlib.Path
    masks: pathlib.Path
    listing: pathlib.Path | None = None


def find_splits(folder: pathlib.Path) -> dict[str, Split]:
    """Finds the splits of a folder, by their names in alphabetical order.

    Raises:
      DataError: It is not clear which of several folders holds the images, the masks or a split.
    """
    if not folder.is_dir():
        return {}
    found: dict[str, list[Split]] = {}
    place = _pair(folder)
    if place is not None:
        for split in _folders(place.images):
            if (place.masks / split).is_dir():
                found.setdefault(split, []).append(Split(place.images / split, place.masks / split))
        if not found:
            lists = (path for name in _LISTS for path in (folder / name).glob("*.txt") if path.name not in _NO_LISTS)
            for path in lists:
                found.setdefault(path.stem, []).append(Split(place.images, place.masks, path))
    for split in _folders(folder):
        if (own := _pair(folder / split)) is not None:
            found.setdefault(split, []).append(own)
    for split, own in () if found else _beside(folder):
        found.setdefault(split, []).append(own)
    for split, places in found.items():
        if len(places) > 1:
            shown = " and ".join(os.path.relpath(place.listing or place.images, folder) for place in places)
            raise DataError(f"{folder}: the split {split!r} is in {shown}; rename what is not meant.")
    return {split: found[split][0] for split in sorted(found)}


def find_whole(folder: pathlib.Path) -> Split | None:
    """Finds the folders of images and masks of a folder that has no splits; None where there are no such two.

    Raises:
      DataError: It is not clear which of several folders holds the images or the masks.
    """
    place = _pair(folder) if folder.is_dir() else None
    return place if place is not None and all(map(_holds_pictures, (place.images, place.masks))) else None


def holds_masks(split: Split) -> bool:
    """Returns whether the masks' folder of a split holds pictures, and not annotations of another kind."""
    return _holds_pictures(split.masks)


def read_pairs(folder: pathlib.Path, name: str, split: Split) -> list[Files]:
    """Lists id, image and mask of a split's examples, in the order of its list or else of the names.

    Args:
      folder: The user's folder, for messages.
      name: Name of the split, for messages.
      split: Where its files lie.

    Raises:
      DataError: Images and masks do not match one to one, or a list names a file twice or one that is not there.
    """
    place = folder if split.listing else split.images.parent if split.images.name != name else folder
    images, masks = by_stem(split.images, IMAGE_SUFFIXES), by_stem(split.masks, MASK_SUFFIXES)
    mask_of = _match(images, masks, split.masks)
    if split.listing is None:
        lacking, used = sorted(images.keys() - mask_of.keys()), set(mask_of.values())
        _complain(place, "images without a mask", lacking, split.masks, "add the masks")
        extra = sorted(stem for stem, path in masks.items() if path not in used)
        complain(place, "masks without an image", extra, "add the images")
        stems = sorted(images)
    else:
        lines = read_lines(split.listing)
        stems = [_stem_of(line, images) for line in lines]
        absent = [line for line, stem in zip(lines, stems) if stem not in mask_of]
        what = f"names in {split.listing.name} without an image or a mask"
        _complain(place, what, absent, split.masks, "add the files")
        if twice := repeated(stems):
            raise DataError(f"{split.listing}: {listed(twice)} is there more than once; keep one line of each.")
    if not stems:
        where = split.listing or f"{split.images.name} and {split.masks.name}"
        raise DataError(f"{place}: split {name!r} has no images; add some to {where}.")
    return [(stem, images[stem], mask_of[stem]) for stem in stems]


def _folders(folder: pathlib.Path) -> Iterator[str]:
    return (entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith("."))


def _beside(folder: pathlib.Path) -> Iterator[tuple[str, Split]]:
    """Finds folders of images that have a folder of masks beside them, called after them."""
    names = list(_folders(folder))
    for split in names:
        ends = [name for name in names if name.lower().startswith(split.lower()) and name != split]
        masks = [name for name in ends if name[len(split) :].lower().lstrip("_-. ") in MASKS]
        if len(masks) == 1 and all(_has_files(folder / name) for name in (split, masks[0])):
            yield split, Split(folder / split, folder / masks[0])


def _has_files(folder: pathlib.Path) -> bool:
    """Returns whether pictures lie in a folder itself."""
    names = (name.lower() for name in os.listdir(folder) if not name.startswith("."))
    return any(name.endswith((*MASK_SUFFIXES, ".jpg", ".jpeg")) for name in names)


def _pair(folder: pathlib.Path) -> Split | None:
    """Finds the folders of images and masks that lie in a folder; None where there are no such two."""
    images, masks = _one_of(folder, IMAGES, "images"), _one_of(folder, MASKS, "masks")
    return Split(images, masks) if images is not None and masks is not None else None


def _one_of(folder: pathlib.Path, names: Sequence[str], what: str) -> pathlib.Path | None:
    """Finds the folder with one of the names; of several, the one that holds pictures.

    Folders of XML, text or nothing have the same names, and are no rivals.
    """
    places = [folder / name for name in _folders(folder) if name.lower() in names]
    if len(places) > 1:
        filled = [place for place in places if _holds_pictures(place)]
        if len(filled) > 1:
            found = ", ".join(place.name for place in filled)
            raise DataError(
                f"{folder}: {what} may be in any of {found}; rename those that are not meant, or move them away."
            )
        places = filled or places
    return places[0] if places else None


def _holds_pictures(folder: pathlib.Path) -> bool:
    places = [folder, *(folder / name for name in _folders(folder))]
    files = (name for place in places for name in os.listdir(place))
    return any(not name.startswith(".") and name.lower().endswith((*MASK_SUFFIXES, ".jpg", ".jpeg")) for name in files)


def _match(images: Mapping[str, str], masks: Mapping[str, str], folder: pathlib.Path) -> dict[str, str]:
    """Maps the stems of images to the paths of their masks.

    Raises:
      DataError: Two masks belong to one image.
    """
    bare = {_without_end(stem, _IMAGE_ENDS): stem for stem in images}
    found: dict[str, str] = {}
    for stem, path in sorted(masks.items()):
        base = _without_end(stem, _MASK_ENDS)
        owner = next((key for key in (stem, base) if key in images), bare.get(base))
        if owner is None:
            continue
        if owner in found:
            pair = f"{os.path.basename(found[owner])} and {os.path.basename(path)}"
            raise DataError(f"{folder}: {pair} are masks of the one image {owner}; keep one of them.")
        found[owner] = path
    return found


def _without_end(stem: str, ends: Sequence[str]) -> str:
    for mark in "_-.":
        head, _, end = stem.rpartition(mark)
        if head and end.lower() in ends:
            return head
    return stem


def _stem_of(line: str, images: Mapping[str, str]) -> str:
    """Returns the stem that a line of a list means: a stem, or a file's name or path with its suffix."""
    if line in images:
        return line
    name = line.replace("\\", "/").rsplit("/", 1)[-1]
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in _PICTURES and name not in images else name


def _complain(place: pathlib.Path, what: str, lacking: Sequence[str], masks: pathlib.Path, fix: str) -> None:
    """Raises a DataError that lists names without a mask, if there are any, and the formats that their masks have."""
    wanted = {os.path.splitext(os.path.basename(name))[0] for name in lacking} | set(lacking)
    names = (unicodedata.normalize("NFC", name) for name in os.listdir(masks))
    parts = (os.path.splitext(name) for name in names if not name.startswith("."))
    kinds = {suffix.lower() for stem, suffix in parts if {stem, _without_end(stem, _MASK_ENDS)} & wanted}
    kinds = sorted(kind for kind in kinds if kind and kind not in MASK_SUFFIXES)
    if kinds:
        is_lossy = {".jpg", ".jpeg"} & set(kinds)
        why = "JPEG changes labels when it compresses" if is_lossy else "masks are read from pictures"
        raise DataError(
            f"{place}: {what}: {len(lacking)} ({listed(lacking)}); {masks.name} has them as {listed(kinds)}, and {why}:"
            " save the label maps as PNG."
        )
    complain(place, what, lacking, fix)
