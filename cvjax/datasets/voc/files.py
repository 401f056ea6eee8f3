"""Reads PASCAL VOC 2012 and SBD from an unpacked folder or the official archive.

`Files` is the one view of both. `voc_items` turns lists into pairs of paths, and `Sbd` holds the extra masks of
Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011.
"""

import io
import os
import pathlib
import tarfile
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cvjax.data.dataset import Record
from cvjax.data.decode import encode_mask
from cvjax.data.identity import fingerprint_of
from cvjax.errors import DataError

IMAGES, MASKS, AUG_MASKS = "JPEGImages", "SegmentationClass", "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"


class Item(NamedTuple):
    """Names one example: its id, the image's path, and the mask's path or None where SBD has the mask."""

    key: str
    image: str
    mask: str | None


class Files(Protocol):
    """Describes a tree of files by their path below `VOC2012/`.

    `place` is for messages. `folder` is where the tree lies unpacked, or None.
    """

    place: str
    folder: str | None

    def stems(self, folder: str) -> frozenset[str]:
        """Returns the names of the files directly in a folder, without suffix; empty if there is no such folder."""
        ...

    def read(self, path: str) -> bytes: ...

    def fingerprint(self, paths: Sequence[str], **options: Any) -> str:
        """Returns the digest of some of the files, see `cvjax.data.identity.fingerprint_of`."""
        ...


class FolderFiles:
    """Reads the `VOC2012` folder of an unpacked devkit."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root, self.place = root, str(root)
        self.folder: str | None = self.place

    def stems(self, folder: str) -> frozenset[str]:
        place = self._root / folder
        if not place.is_dir():
            return frozenset()
        return frozenset(os.path.splitext(entry.name)[0] for entry in os.scandir(place) if entry.is_file())

    def read(self, path: str) -> bytes:
        try:
            return (self._root / path).read_bytes()
        except OSError as error:
            raise _absent(self.place, path) from error

    def fingerprint(self, paths: Sequence[str], **options: Any) -> str:
        return fingerprint_of([self._root / path for path in paths], **options)


class TarFiles:
    """Reads the official tar in place: it is not compressed, so every member can be reached directly."""

    def __init__(self, path: pathlib.Path, prefix: str = "VOCdevkit/VOC2012/") -> None:
        self.place = str(path)
        self.folder: str | None = None
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115  Lives as long as this object, see the next line.
            weakref.finalize(self, self._tar.close)
            members = [member for member in self._tar if member.isfile() and member.name.startswith(prefix)]
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"{path}: cannot be read as a tar ({error}); fetch the archive again.") from error
        self._members = {member.name.removeprefix(prefix): member for member in members}

    def stems(self, folder: str) -> frozenset[str]:
        below = f"{folder}/"
        names = (name.removeprefix(below) for name in self._members if name.startswith(below))
        return frozenset(os.path.splitext(name)[0] for name in names if "/" not in name)

    def read(self, path: str) -> bytes:
        if path not in self._members:
            raise _absent(self.place, path)
        try:
            file = self._tar.extractfile(self._members[path])
            return file.read()  # type: ignore[union-attr]
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"{self.place}: {path} cannot be read ({error}); fetch the archive again.") from error

    def fingerprint(self, paths: Sequence[str], **options: Any) -> str:
        return fingerprint_of([self.place], members=list(paths), **options)


class Sbd:
    """Holds SBD's lists and class masks, from `benchmark.tgz` or the unpacked `benchmark_RELEASE` folder.

    The archive is compressed as a whole. So it is read once from end to end, and its small .mat files are kept in
    memory as they are.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.place = str(path)
        self._mats: dict[str, bytes | pathlib.Path] = {}
        lists: dict[str, str] = {}
        if path.is_dir():
            dataset = path / "dataset"
            lists = {name: _text(dataset / f"{name}.txt") for name in ("train", "val")}
            self._mats = {file.stem: file for file in (dataset / "cls").glob("*.mat")}
        else:
            self._read_archive(path, lists)
        for name in ("train", "val"):
            if name not in lists:
                raise DataError(f"{path}: dataset/{name}.txt is absent; fetch benchmark.tgz again.")
        self.keys = frozenset(f"{lists['train']}\n{lists['val']}".split())

    def _read_archive(self, path: pathlib.Path, lists: dict[str, str]) -> None:
        try:
            with tarfile.open(path, "r|gz") as tar:
                for member in tar:
                    name = pathlib.PurePosixPath(member.name)
                    if not member.isfile():
                        continue
                    if name.parent.name == "cls" and name.suffix == ".mat":
                        self._mats[name.stem] = tar.extractfile(member).read()  # type: ignore[union-attr]
                    elif name.parent.name == "dataset" and name.name in ("train.txt", "val.txt"):
                        lists[name.stem] = tar.extractfile(member).read().decode()  # type: ignore[union-attr]
        except (OSError, EOFError, tarfile.TarError) as error:
            raise DataError(f"{path}: cannot be read as a tar.gz ({error}); fetch it again.") from error

    def mask(self, key: str) -> np.ndarray:
        """Reads the class mask of an image, uint8 [H, W], 0 to 20; SBD marks no void pixels.

        Raises:
          DataError: There is no readable mask for this image.
        """
        import scipy.io  # Comes with JAX; only preparing SBD needs it.

        found = self._mats.get(key)
        if found is None:
            raise _absent(self.place, f"dataset/cls/{key}.mat")
        try:
            content = found.read_bytes() if isinstance(found, pathlib.Path) else found
            return np.asarray(scipy.io.loadmat(io.BytesIO(content))["GTcls"]["Segmentation"][0, 0], np.uint8)
        except Exception as error:  # loadmat raises whatever the damage leads it to.
            raise DataError(
                f"{self.place}: dataset/cls/{key}.mat cannot be read ({error}); fetch the archive again."
            ) from error


class VocDataset:
    """Gives the records of a list of items, for preparation; masks are still as published."""

    def __init__(
        self, split: str, items: Sequence[Item], files: Files, sbd: Sbd | None, names: tuple[str, ...]
    ) -> None:
        self.name, self.split, self.class_names, self.void = "voc_segmentation", split, names, ()
        self._items, self._files, self._sbd = items, files, sbd

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Record:
        key, image, mask = self._items[index]
        if mask is None:
            assert self._sbd is not None
            labels = encode_mask(self._sbd.mask(key))
        else:
            labels = self._files.read(mask)
        return {"image": self._files.read(image), "mask": labels, "id": key}

    def fingerprint(self) -> str:
        """Returns the digest of the images and masks; SBD's own masks count by their ids alone."""
        paths = [path for _, *pair in self._items for path in pair if path is not None]
        return self._files.fingerprint(paths, ids=[item.key for item in self._items])


def voc_items(
    files: Files, sbd: Sbd | None = None, parts: Sequence[str] = ("train", "val", "aug")
) -> Mapping[str, list[Item]]:
    """Lists the items of `train`, `val` and `aug`: the other images, which SBD or `SegmentationClassAug` labels.

    So trainval = train + val and trainaug = train + aug, in the order of the lists (aug: sorted). VOC's own mask is
    used wherever there is one. Only `parts` are returned. A part is left out where its list is absent or `aug` is
    empty.

    Raises:
      DataError: There is no list at all, or a list names files that are not there.
    """
    images, masks, aug_masks = files.stems(IMAGES), files.stems(MASKS), files.stems(AUG_MASKS)
    present = [split for split in ("train", "val") if split in files.stems(LISTS)]
    if not present:
        raise DataError(f"{files.place}: {LISTS} holds neither train.txt nor val.txt; unpack the devkit again.")
    keys = {split: files.read(f"{LISTS}/{split}.txt").decode().split() for split in present}
    if len(keys) == 2:  # Without val's list nothing would keep val's images out of aug.
        listed = frozenset(keys["train"]) | frozenset(keys["val"])
        extra = sorted((sbd.keys if sbd is not None else aug_masks) - listed)
        if extra:
            keys["aug"] = extra

    def item(key: str, split: str) -> Item:
        if key not in images:
            raise _listed_absent(files, split, f"{IMAGES}/{key}.jpg")
        image = f"{IMAGES}/{key}.jpg"
        if key in masks:
            return Item(key, image, f"{MASKS}/{key}.png")
        if split == "aug" and sbd is not None:
            return Item(key, image, None)
        if split == "aug":
            return Item(key, image, f"{AUG_MASKS}/{key}.png")
        raise _listed_absent(files, split, f"{MASKS}/{key}.png")

    return {split: [item(key, split) for key in names] for split, names in keys.items() if split in parts}


def _absent(place: str, path: str) -> DataError:
    return DataError(f"{place}: {path} is absent or unreadable; unpack or fetch the data set again.")


def _listed_absent(files: Files, split: str, path: str) -> DataError:
    named_by = "SBD" if split == "aug" else f"{LISTS}/{split}.txt"
    return DataError(f"{files.place}: {path} is absent although {named_by} names it; add it or take it off the list.")


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); unpack benchmark.tgz again.") from error
