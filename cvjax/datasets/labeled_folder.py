"""Reads a user's own folder of images, one subfolder per class, as a classification data set.

    folder/train/CLASS/0001.jpg   folder/val/CLASS/...      a folder for each split
    folder/train.zip              folder/val.zip            or a zip for each, with CLASS/0001.jpg inside

Labels number the classes of `train` in the order of their names; every split is read with these.
`cvjax.datasets.class_folders.tree` says which images are those of a class.
"""

import collections
import copy
import logging
import os
import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvjax.data.dataset import Record, held_out, read_file
from cvjax.data.identity import digest_of_arrays, fingerprint_of
from cvjax.datasets.class_folders.tree import list_images
from cvjax.datasets.listing import listed
from cvjax.errors import DataError

NAME = "image_folder_classification"
_LOG = logging.getLogger(__name__)


class LabeledFolder:
    """Reads the images of a split where they lie: in a folder, or inside a zip.

    Args:
      place: Folder or zip of the split.
      split: Name of the split.
      entries: Path below `place` and label of each image.
      class_names: Name of each label.
      name: Name of the dataset.
    """

    void: tuple[int, ...] = ()

    def __init__(
        self,
        place: pathlib.Path,
        split: str,
        entries: Sequence[tuple[str, int]],
        class_names: Sequence[str],
        name: str = NAME,
    ) -> None:
        self.name, self.split, self.class_names = name, split, tuple(class_names)
        self._place, self._zipped = os.fspath(place), place.is_file()
        self._paths = [path for path, _ in entries]
        self._labels = np.array([label for _, label in entries], np.int32)
        stems = collections.Counter(os.path.splitext(path)[0] for path in self._paths)
        stem_of = {path: os.path.splitext(path)[0] for path in self._paths}
        self._ids = [path if stems[stem_of[path]] > 1 else stem_of[path] for path in self._paths]
        self._archive: zipfile.ZipFile | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self._paths):
            raise IndexError(index)
        path = self._paths[index]
        image = self._unzip(path) if self._zipped else read_file(os.path.join(self._place, path))
        return {"image": image, "label": int(self._labels[index]), "id": self._ids[index]}

    def entries(self) -> list[tuple[str, int]]:
        """Returns path and label of each image."""
        return list(zip(self._paths, self._labels.tolist(), strict=True))

    def ids(self) -> list[str]:
        """Returns the ids in the order of the records."""
        return list(self._ids)

    def part(self, indices: Sequence[int], split: str) -> "LabeledFolder":
        """Returns the dataset of some of the images, see `cvjax.data.part`."""
        part = copy.copy(self)
        for kept in ("_sizes", "_identity"):  # what other modules keep on a dataset
            part.__dict__.pop(kept, None)
        part.split = split
        part._paths, part._ids = ([names[index] for index in indices] for names in (self._paths, self._ids))
        part._labels = self._labels[np.asarray(indices, np.int64)]
        return part

    def labels(self) -> np.ndarray:
        """Returns the label of each image, int32 [N], without reading it."""
        return self._labels

    def image_files(self) -> list[str]:
        """Returns the paths of the images' files in the order of the records, or that of the zip."""
        return [self._place] if self._zipped else [os.path.join(self._place, path) for path in self._paths]

    def fingerprint(self) -> str:
        """Returns the digest of the images' files or of the zip, with their order and their labels."""
        return fingerprint_of(self.image_files(), ids=self._paths, labels=digest_of_arrays(self._labels))

    def _unzip(self, path: str) -> bytes:
        try:
            if self._archive is None:
                self._archive = zipfile.ZipFile(self._place)
            return self._archive.read(path)
        except (OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self._place}: {path} cannot be read ({error}); make the zip again.") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}

    def __repr__(self) -> str:
        return f"LabeledFolder({self._place!r}, {len(self)} records)"


def open_labeled_folder(
    split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None, *, name: str = NAME
) -> LabeledFolder:
    """Opens a split of the folder `manual_dir`; "val" is the split held out, under any name that the folder gives it.

    Raises:
      DataError: No folder was given, it lacks the split, the split has no images or holds some that cannot be
        used, or it has classes that `train` lacks.
    """
    if manual_dir is None:
        raise DataError(
            f"{NAME}: no folder was given; name the one that holds train/CLASS/*.jpg, or train.zip, with"
            " --input.manual-dir."
        )
    places = labeled_splits(manual_dir)
    split = held_out(split, places)
    if split not in places:
        raise DataError(
            f"{manual_dir}: there is no split {split!r} (found: {', '.join(sorted(places)) or 'none'}); put images"
            f" into {split}/CLASS, or into a zip {split}.zip of such folders."
        )
    here = list_images(places[split])
    class_names = here.classes if split == "train" or "train" not in places else list_images(places["train"]).classes
    here = here.placed_among(class_names)
    here.check(fills_all=split == "train")
    unknown = sorted({name for _, name in here.entries} - set(class_names))
    if unknown:
        verb, them = ("is no class", "this folder") if len(unknown) == 1 else ("are no classes", "these folders")
        raise DataError(f"{places[split]}: {listed(unknown)} {verb} of the split train; rename or remove {them}.")
    if here.other:
        _LOG.warning("%s: passed over %s", places[split], here.other)
    number = {own: label for label, own in enumerate(class_names)}
    return LabeledFolder(places[split], split, [(path, number[own]) for path, own in here.entries], class_names, name)


def labeled_splits(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds the folder or zip of every split."""
    if not folder.is_dir():
        return {}
    entries = sorted(folder.iterdir())
    zips = {entry.stem: entry for entry in entries if entry.suffix.lower() == ".zip" and entry.is_file()}
    return zips | {entry.name: entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")}
