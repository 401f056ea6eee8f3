"""Reads COCO's boxes (Lin et al., 1405.0312) and other sets in its format: 80 classes, `crowd` kept.

    folder/annotations/instances_train2017.json   folder/train2017/*.jpg
    folder/annotations/instances_val2017.json     folder/val2017/*.jpg     (2014 likewise; or below folder/images)

`train` and `val` are those of 2017, or else of 2014. Any other split is the file `instances_SPLIT.json`. Labels number
the categories in the order of their ids. A `file_name` is a path below the folder of the images, or below `folder` or
`folder/images`. Where there is no such folder, TFDS's `coco/2017` is read if it is prepared in ArrayRecord files. A few
of COCO's own boxes are empty; its users drop them (`on_bad_boxes="drop"`).
"""

import os
import pathlib
from collections.abc import Sequence
from typing import cast

from cvjax.data.annotations import Objects, OnBadBoxes, check_on_bad_boxes, fit_objects
from cvjax.data.dataset import Dataset, Record, TfdsDataset, read_file
from cvjax.data.identity import fingerprint_of
from cvjax.data.orientation import Header, read_header
from cvjax.datasets.coco.annotations import CocoAnnotations, read_annotations
from cvjax.datasets.image_headers import read_headers
from cvjax.datasets.listing import listed
from cvjax.datasets.prepared import newest_version
from cvjax.errors import DataError

NAME = "coco"
_YEARS = ("", "2017", "2014")


class CocoDataset:
    """Reads a split in COCO's format, with images read where they lie.

    Args:
      split: Name of the split.
      file: Path of the file of annotations, for messages.
      annotations: Content of this file.
      paths: Path of each image.
      headers: Header of each image's file; None for a damaged one, which raises when it is read.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.

    Raises:
      DataError: An image has another size than the annotations state, or a box is bad.
    """

    name = NAME
    void: tuple[int, ...] = ()

    def __init__(
        self,
        split: str,
        file: str | os.PathLike[str],
        annotations: CocoAnnotations,
        paths: Sequence[str],
        headers: Sequence[Header | None],
        on_bad_boxes: OnBadBoxes = "error",
    ) -> None:
        check_on_bad_boxes(on_bad_boxes)
        self.split, self.class_names = split, annotations.class_names
        self._file = os.path.basename(file)
        self._annotations, self._paths, self._headers = annotations, list(paths), list(headers)
        self._on_bad_boxes: OnBadBoxes = on_bad_boxes
        for index, header in enumerate(headers):
            if header is not None:
                self._objects(index, header)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self._paths):
            raise IndexError(index)
        image = read_file(self._paths[index])
        objects = self._objects(index, read_header(image, self._paths[index]))
        return cast(Record, {"image": image, "id": str(self._annotations.ids[index]), **objects._asdict()})

    def header_size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of an upright image, from its header."""
        header = self._headers[index]
        return (header or read_header(self._paths[index], self._paths[index])).upright_size

    def image_files(self) -> list[str]:
        """Returns the paths of the images' files in the order of the records."""
        return list(self._paths)

    def fingerprint(self) -> str:
        """Returns the digest of the images' files and of all annotations."""
        said = self._annotations
        return fingerprint_of(self._paths, ids=said.ids, objects=said.digest(), on_bad_boxes=self._on_bad_boxes)

    def _objects(self, index: int, header: Header) -> Objects:
        said = self._annotations
        height, width = said.sizes[index].tolist()
        file = said.files[index]
        names = f"{file} (image {said.ids[index]} of {self._file})", os.path.basename(file)
        return fit_objects(said.of_image(index), header, (height, width), names, self.class_names, self._on_bad_boxes)

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
      DataError: The split is not found, the file of annotations is damaged, images are missing beside it or have other
        sizes than it states, or a box is bad.
    """
    roots = [pathlib.Path(root) for root in (manual_dir, data_dir / NAME) if root is not None]
    for root in roots:
        for year in _YEARS:
            annotations = root / "annotations" / f"instances_{split}{year}.json"
            if annotations.is_file():
                said = read_annotations(annotations)
                paths = _find_images(root, split + year, said.files, annotations)
                return CocoDataset(split, annotations, said, paths, read_headers(paths, data_dir), on_bad_boxes)
    place = newest_version(data_dir / NAME / "2017")
    if place is not None:
        stored = {"val": "validation"}.get(split, split)
        return TfdsDataset(place, stored, name=NAME, split_name=split, target="boxes", on_bad_boxes=on_bad_boxes)
    raise DataError(
        f"{NAME}: there is no annotations/instances_{split}.json (or {split}2017, {split}2014) in"
        f" {' or '.join(map(str, roots))}; unpack COCO's images and annotations into a folder and name it with"
        " --manual-dir (of a run: --input.manual-dir)."
    )


def _find_images(root: pathlib.Path, split: str, files: Sequence[str], annotations: pathlib.Path) -> list[str]:
    """Returns the paths of a split's images, from the folder that has the most of them."""
    below = [place for place in (root / split, root / "images" / split, root / "images") if place.is_dir()]
    missing: dict[pathlib.Path, list[str]] = {}
    for place in (*below, root):
        paths = [os.path.join(place, file) for file in files]
        missing[place] = [file for file, path in zip(files, paths, strict=True) if not os.path.isfile(path)]
        if not missing[place]:
            return paths
    place, absent = min(missing.items(), key=lambda item: len(item[1]))
    if not below and len(absent) == len(files):
        raise DataError(f"{root}: the annotations of {split} have no images; put them into {root / split}.")
    raise DataError(
        f"{annotations}: {len(absent)} of its {len(files)} images are not in {place} ({listed(absent)}); add them, or"
        " take them off the list."
    )
