"""Reads the objects of VOC 2012: its numbered masks, with the classes beside them, see `cvjax.data.objects`."""

import pathlib

from cvjax.data.dataset import FolderDataset, Record, read_file
from cvjax.datasets.voc.files import IMAGES, LISTS, MASKS
from cvjax.datasets.voc.segmentation import NAME, VOC_CLASSES
from cvjax.errors import DataError

OBJECT_MASKS = "SegmentationObject"
_SPLITS = {"train": ("train",), "val": ("val",), "trainval": ("train", "val")}


class VocObjects(FolderDataset):
    """Reads pairs of image and `SegmentationObject`, with the `SegmentationClass` beside it."""

    def __getitem__(self, index: int) -> Record:
        record = super().__getitem__(index)
        record["classes"] = read_file(self._classes(index))
        return record

    def _classes(self, index: int) -> str:
        objects = pathlib.Path(self.pairs[index][2])
        return str(objects.parent.parent / MASKS / objects.name)

    def files(self) -> list[str]:
        """Returns the paths of all images, of the masks of objects, and of the masks of classes."""
        return super().files() + [self._classes(index) for index in range(len(self))]


def find_voc_objects(data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> pathlib.Path | None:
    """Finds the folder `VOC2012` of an unpacked devkit with the masks of objects; None if there is no such folder."""
    below = (pathlib.Path(), pathlib.Path("VOC2012"), pathlib.Path("VOCdevkit", "VOC2012"))
    roots = (place / folder for place in _places(data_dir, manual_dir) for folder in below)
    return next((root for root in roots if (root / OBJECT_MASKS).is_dir()), None)


def _places(data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> list[pathlib.Path]:
    return [place for place in (manual_dir, data_dir, data_dir / "downloads") if place is not None]


def open_voc_objects(split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> VocObjects:
    """Opens the objects of an unpacked VOC 2012: `train` (1,464 images), `val` (1,449) or `trainval`.

    Args:
      split: Name of the split.
      data_dir, manual_dir: Folders in which the devkit is looked for; also in `data_dir`'s `downloads`.

    Raises:
      DataError: There is no such split, or no unpacked devkit with the masks of objects.
    """
    if split not in _SPLITS:
        raise DataError(f"the objects of {NAME} have no split {split!r}; choose one of {', '.join(_SPLITS)}.")
    root = find_voc_objects(data_dir, manual_dir)
    if root is None:
        looked = " or ".join(map(str, _places(data_dir, manual_dir)))
        raise DataError(
            f"no VOC 2012 with a folder {OBJECT_MASKS} is in {looked}; unpack"
            " VOCtrainval_11-May-2012.tar and name the folder with --input.manual-dir."
        )
    keys = [key for part in _SPLITS[split] for key in read_file(str(root / LISTS / f"{part}.txt")).decode().split()]
    pairs = [(key, root / IMAGES / f"{key}.jpg", root / OBJECT_MASKS / f"{key}.png") for key in keys]
    return VocObjects(NAME, split, pairs, class_names=VOC_CLASSES)
