"""Reads COCO's boxes (Lin et al., 1405.0312) and other sets in its format: 80 classes, `crowd` kept.

    folder/annotations/instances_train2017.json   folder/train2017/*.jpg
    folder/annotations/instances_val2017.json     folder/val2017/*.jpg     (2014 likewise; or below folder/images)

`train` and `val` are those of 2017, or else of 2014. Any other split is the file `instances_SPLIT.json`. Labels number
the categories in the order of their ids. Where there is no such folder, TFDS's `coco/2017` is read if it is prepared in
ArrayRecord files. A few of COCO's own boxes are empty; its users drop them (`on_bad_boxes="drop"`).
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from cvjax.data.annotations import Objects, OnBadBoxes, check_objects, check_on_bad_boxes, make_objects
from cvjax.data.dataset import Dataset, Record, TfdsDataset, read_file
from cvjax.data.fingerprint import digest_of_arrays, fingerprint_of
from cvjax.datasets.prepared import newest_version
from cvjax.errors import DataError

NAME = "coco"
_YEARS = ("", "2017", "2014")


class CocoDataset:
    """Reads a split in COCO's format, with annotations kept as a few flat arrays and images read where they lie.

    Args:
      name, split, class_names: Attributes that every dataset has.
      folder: Folder of the images.
      files: Name of each image's file.
      ids: COCO's number of each image.
      sizes: Height and width of each image, int [images, 2].
      objects: Objects of all images, image after image.
      ends: Number of objects up to and including each image, int [images].
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.
    """

    void: tuple[int, ...] = ()

    def __init__(
        self,
        name: str,
        split: str,
        class_names: Sequence[str],
        folder: str,
        files: Sequence[str],
        ids: Sequence[int],
        sizes: np.ndarray,
        objects: Objects,
        ends: np.ndarray,
        on_bad_boxes: OnBadBoxes = "error",
    ) -> None:
        check_on_bad_boxes(on_bad_boxes)
        self.name, self.split, self.class_names = name, split, tuple(class_names)
        self._folder, self._files, self._ids, self._shapes = folder, list(files), list(ids), sizes
        self._objects, self._ends = objects, ends
        self._on_bad_boxes: OnBadBoxes = on_bad_boxes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self._files):
            raise IndexError(index)
        mine = np.arange(self._ends[index - 1] if index else 0, self._ends[index])
        size, name = self.header_size(index), f"{self._files[index]} (image {self._ids[index]})"
        objects = check_objects(self._objects.take(mine), size, name, self.class_names, self._on_bad_boxes)
        image = read_file(os.path.join(self._folder, self._files[index]))
        return cast(Record, {"image": image, "id": str(self._ids[index]), **objects._asdict()})

    def fingerprint(self) -> str:
        """Returns the digest of the images' files and of all annotations."""
        arrays = digest_of_arrays(*self._objects.arrays(), self._ends, self._shapes)
        files = [os.path.join(self._folder, file) for file in self._files]
        return fingerprint_of(files, ids=self._ids, objects=arrays, on_bad_boxes=self._on_bad_boxes)

    def header_size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of an image as the annotations state it."""
        return int(self._shapes[index, 0]), int(self._shapes[index, 1])

    def __repr__(self) -> str:
        return f"CocoDataset({self.split!r}, {len(self)} records)"


def open_coco(
    split: str,
    data_dir: pathlib.Path,
    manual_dir: pathlib.Path | None = None,
    *,
    on_bad_boxes: OnBadBoxes = "error",
) -> Dataset:
    """Opens a split of the folder `manual_dir`, or of `data_dir/coco`, else as TFDS prepared it.

    Raises:
      DataError: The split is not found, the file of annotations is damaged, or there are no images beside it.
    """
    roots = [pathlib.Path(root) for root in (manual_dir, data_dir / NAME) if root is not None]
    for root in roots:
        for year in _YEARS:
            annotations = root / "annotations" / f"instances_{split}{year}.json"
            if annotations.is_file():
                return read_coco(annotations, _images(root, split + year), split, on_bad_boxes)
    place = newest_version(data_dir / NAME / "2017")
    if place is not None:
        stored = {"val": "validation"}.get(split, split)
        return TfdsDataset(place, stored, name=NAME, split_name=split, target="boxes", on_bad_boxes=on_bad_boxes)
    raise DataError(
        f"{NAME}: there is no annotations/instances_{split}.json (or {split}2017, {split}2014) in"
        f" {' or '.join(map(str, roots))}; unpack COCO's images and annotations into a folder and name it with"
        " --manual-dir (of a run: --input.manual-dir)."
    )


def read_coco(path: pathlib.Path, folder: pathlib.Path, split: str, on_bad_boxes: OnBadBoxes = "error") -> CocoDataset:
    """Reads a file of annotations in COCO's format, for the images in a folder.

    Raises:
      DataError: The file is not JSON, lacks an entry, or has an annotation of an unknown image or category.
    """
    try:
        content = json.loads(path.read_bytes())
        categories = sorted(content["categories"], key=lambda category: category["id"])
        images: list[dict[str, Any]] = sorted(content["images"], key=lambda image: image["id"])
        things: list[dict[str, Any]] = content["annotations"]
        label = {category["id"]: number for number, category in enumerate(categories)}
        position = {image["id"]: number for number, image in enumerate(images)}
        owner = np.array([position[thing["image_id"]] for thing in things], np.int64)
        corners = np.array([thing["bbox"] for thing in things], np.float64).reshape(-1, 4)
        labels = [label[thing["category_id"]] for thing in things]
        crowd = [bool(thing.get("iscrowd", 0)) for thing in things]
        files, ids = [image["file_name"] for image in images], [image["id"] for image in images]
        sizes = np.array([(image["height"], image["width"]) for image in images], np.int32).reshape(-1, 2)
        names = [category["name"] for category in categories]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file.") from error
    except KeyError as error:
        raise DataError(
            f"{path}: lacks an entry of COCO's format, or has an annotation of no image or category ({error}); mend it."
        ) from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: is not in COCO's format ({error}); fetch or export it again.") from error
    corners[:, 2:] += corners[:, :2]
    # Stable, so that the objects of an image keep the order of the file.
    order = np.argsort(owner, kind="stable")
    objects = make_objects(corners, labels, crowd=crowd).take(order)
    ends = np.cumsum(np.bincount(owner, minlength=len(images)))
    return CocoDataset(NAME, split, names, os.fspath(folder), files, ids, sizes, objects, ends, on_bad_boxes)


def _images(root: pathlib.Path, split: str) -> pathlib.Path:
    """Finds the folder of a split's images."""
    places = (root / split, root / "images" / split, root / "images")
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise DataError(f"{root}: the annotations of {split} have no images; put them into {root / split}.")
    return found
