"""Reads and prepares PASCAL VOC 2012 segmentation, with SBD's extra training masks.

Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010; Hariharan et al., "Semantic Contours from
Inverse Detectors", ICCV 2011. 21 classes with background, 255 is void.

| split | images | what |
| --- | --- | --- |
| train | 1,464 | VOC's list |
| val | 1,449 | VOC's list |
| trainval | 2,913 | both |
| trainaug | 10,582 | train and SBD's images outside val, "train_aug" in the DeepLab papers |

On disk `trainval` and `trainaug` are not stored as copies. The prepared set holds train, val and aug (9,118 images).
"""

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from cvjax.data.dataset import Dataset, FolderDataset, TfdsDataset, default_data_dir, prepared_dir
from cvjax.data.identity import digest_of_files
from cvjax.datasets.archives import Archive, check_archive, fetch
from cvjax.datasets.prepared import is_made_from, is_prepared, made_from_other_files, read_content
from cvjax.datasets.voc.files import (
    AUG_MASKS,
    IMAGES,
    LISTS,
    MASKS,
    FolderFiles,
    Item,
    Sbd,
    TarFiles,
    VocDataset,
    voc_items,
)
from cvjax.errors import DataError

if TYPE_CHECKING:
    from cvjax.datasets.writers import PairsBuilder

NAME = "voc_segmentation"
CONFIG = "2012"
_COMMAND = f"cvjax data prepare {NAME}"

VOC_CLASSES: tuple[str, ...] = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus"),
    *("car", "cat", "chair", "cow", "diningtable", "dog", "horse"),
    *("motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Names by label, from VOC's development kit; 0 is background."""

_SPLIT_PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val",),
    "trainval": ("train", "val"),
    "trainaug": ("train", "aug"),
}


@dataclass(frozen=True)
class Release:
    """Describes the published archives, and the number of images that each split must then have."""

    voc: Archive
    sbd: Archive
    counts: Mapping[str, int] = field(default_factory=dict)


OFFICIAL = Release(
    voc=Archive(
        name="VOCtrainval_11-May-2012.tar",
        url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        size=1_999_639_040,
        md5="6cd6e144f989b92b3379bac3b3de84fd",
        sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    ),
    sbd=Archive(
        name="benchmark.tgz",
        url="http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        size=0,
        md5="82b4d87ceb2ed10f6038a1cba92111cb",
        sha256="6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
    ),
    counts={"train": 1_464, "val": 1_449, "trainval": 2_913, "trainaug": 10_582},
)


@dataclass(frozen=True)
class VocPlace:
    """Says where VOC was found.

    Attributes:
      kind: Kind of the place: "prepared", "devkit" or "archive".
      path: Path of the TFDS version folder ("prepared"), of the `VOC2012` folder ("devkit") or of the tar ("archive").
      sbd: Path of SBD's archive or of its unpacked `benchmark_RELEASE` folder, if there is one.
    """

    kind: Literal["prepared", "devkit", "archive"]
    path: pathlib.Path
    sbd: pathlib.Path | None = None


def find_voc(data_dir: pathlib.Path | None = None, manual_dir: pathlib.Path | None = None) -> VocPlace | None:
    """Looks for VOC without opening it: prepared in `data_dir`, else unpacked, else as an archive.

    Unpacked folders and archives are looked for in `manual_dir`, `data_dir` and `data_dir/downloads`, in this order. An
    archive must be prepared before it can be read; the other two can be opened at once. The default of `data_dir` is
    `default_data_dir()`.
    """
    data_dir = pathlib.Path(data_dir) if data_dir else default_data_dir()
    prepared = prepared_dir(data_dir, NAME, CONFIG)
    if (prepared / "dataset_info.json").is_file():
        return VocPlace("prepared", prepared)
    return _find_raw(data_dir, manual_dir)


def open_voc(split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> Dataset:
    """Opens a split where `find_voc` finds it, reading an unpacked devkit as it is.

    Where `manual_dir` is given, a prepared set is read only if it was made from the files in it as they are.

    Raises:
      DataError: There is no such split, or VOC is not found, or is there only as an archive.
    """
    if split not in _SPLIT_PARTS:
        raise DataError(f"{NAME} has no split {split!r}; choose one of {', '.join(_SPLIT_PARTS)}.")
    place = find_voc(data_dir, manual_dir)
    if place is not None and place.kind == "prepared" and manual_dir is not None:
        given, stored = _find_raw(manual_dir, None), read_content(place.path)
        if given is None:
            raise _nowhere(manual_dir, None)
        if stored is None or stored.digest != _content(given):
            if given.kind == "archive":
                raise made_from_other_files(place.path)
            place = given
    if place is None:
        raise _nowhere(data_dir, manual_dir)
    if place.kind == "archive":
        raise DataError(f"{place.path}: the archive must be prepared once; run `{_command(data_dir, place)}`.")
    parts = _SPLIT_PARTS[split]
    if place.kind == "prepared":
        if split == "trainaug" and not (any(place.path.glob(f"{NAME}-aug.*"))):
            raise DataError(
                f"{place.path}: prepared without SBD, so there is no trainaug; put {OFFICIAL.sbd.name} "
                f"beside VOC in {data_dir} and run `{_COMMAND} --data-dir {data_dir} --overwrite`."
            )
        return TfdsDataset(place.path, "+".join(parts), name=NAME, class_names=VOC_CLASSES, split_name=split)
    items = voc_items(FolderFiles(place.path), parts=parts)
    for part in parts:
        if part == "aug" and part not in items:
            raise DataError(
                f"{place.path}: trainaug needs {AUG_MASKS} there, or SBD; put {OFFICIAL.sbd.name} beside "
                f"VOCdevkit and run `{_command(data_dir, place)}`."
            )
        if part not in items:
            raise DataError(f"{place.path}: {LISTS}/{part}.txt is absent; add the list of {part} images.")
    # Every item has a mask here, because `voc_items` was given no SBD.
    pairs = [
        (item.key, place.path / item.image, place.path / item.mask)
        for part in parts
        for item in items[part]
        if item.mask is not None
    ]
    return FolderDataset(NAME, split, pairs, class_names=VOC_CLASSES)


def prepare_voc(
    data_dir: pathlib.Path,
    *,
    manual_dir: pathlib.Path | None = None,
    download: bool = True,
    sbd: bool = True,
    skip_damaged: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    release: Release = OFFICIAL,
) -> "PairsBuilder":
    """Writes VOC, and with SBD `aug`, as ArrayRecord below `data_dir`; a prepared set is kept.

    Args:
      data_dir: TFDS's root folder.
      manual_dir: Folder with the archives, or with an unpacked VOCdevkit and benchmark_RELEASE.
      download: Whether to fetch archives that are not found into `data_dir/downloads`, unless a devkit is found.
      sbd: Whether to prepare `aug` too, so that there is a trainaug.
      skip_damaged: Whether to leave out pairs that do not decode; the builder's `skipped` holds their messages.
      overwrite: Whether to prepare again.
      progress: Whether to show bars on the terminal.
      release: Digests of the archives and counts of the splits; tests have smaller ones.

    Returns:
      The TFDS builder; `builder.info.splits` has the counts.

    Raises:
      DataError: Nothing is found, an archive is damaged or incomplete, a pair is damaged, or VOC is prepared from other
        files.
    """
    from cvjax.datasets.writers import VocSegmentation, prepare_pairs

    data_dir = pathlib.Path(data_dir)
    place = _find_raw(data_dir, manual_dir, release)
    prepared = prepared_dir(data_dir, NAME, CONFIG)
    if is_prepared(prepared) and not overwrite:
        import tensorflow_datasets as tfds

        if place is not None and not is_made_from(prepared, _content(place)):
            raise made_from_other_files(prepared)
        return cast("PairsBuilder", tfds.builder_from_directory(prepared))
    official = place is None or place.kind == "archive"
    if place is None:
        if not download:
            raise _nowhere(data_dir, manual_dir)
        place = VocPlace("archive", fetch(release.voc, data_dir / "downloads", progress=progress))
    extra = place.sbd if sbd else None
    if official and sbd and extra is None and download:
        extra = fetch(
            release.sbd,
            data_dir / "downloads",
            progress=progress,
            instead=", or prepare train and val without it (--no-sbd)",
        )
    if place.kind == "archive":
        check_archive(place.path, release.voc)
    if extra is not None and extra.is_file():
        check_archive(extra, release.sbd)
    files = TarFiles(place.path) if place.kind == "archive" else FolderFiles(place.path)
    masks = Sbd(extra) if extra is not None else None
    items = voc_items(files, masks)
    if official:
        check_counts(items, release.counts, files.place)
    return prepare_pairs(
        VocSegmentation,
        CONFIG,
        data_dir,
        {part: VocDataset(part, found, files, masks, VOC_CLASSES) for part, found in items.items()},
        description=f"PASCAL VOC 2012 segmentation, from {'official archives' if official else 'a devkit'}.",
        citation=_CITATION,
        skip_damaged=skip_damaged,
        overwrite=overwrite,
        progress=progress,
        content=_content(place),
    )


def _content(place: VocPlace) -> str:
    """Returns the digest of the files of a devkit, or of its archive; SBD is not part of it."""
    if place.kind == "archive":
        return digest_of_files(place.path.parent, [place.path], times=False)
    folders = [place.path / name for name in (IMAGES, MASKS, AUG_MASKS, LISTS)]
    files = [entry.path for folder in folders if folder.is_dir() for entry in os.scandir(folder) if entry.is_file()]
    return digest_of_files(place.path, files, times=True)


def check_counts(items: Mapping[str, list[Item]], counts: Mapping[str, int], place: str) -> None:
    """Compares the splits with the numbers of images that they are known to have.

    Raises:
      DataError: A split has another number.
    """
    for split, expected in counts.items():
        parts = _SPLIT_PARTS[split]
        if not all(part in items for part in parts):
            continue
        found = len({item.key for part in parts for item in items[part]})
        if found != expected:
            raise DataError(f"{place}: split {split} has {found} images and not {expected}; fetch the archives again.")


def _find_raw(data_dir: pathlib.Path, manual_dir: pathlib.Path | None, release: Release = OFFICIAL) -> VocPlace | None:
    roots = [pathlib.Path(root) for root in (manual_dir, data_dir, data_dir / "downloads") if root is not None]
    extras = (root / name for root in roots for name in (release.sbd.name, "benchmark_RELEASE"))
    sbd = next((path for path in extras if path.exists()), None)
    for root in roots:
        for devkit in (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
            if all((devkit / part).is_dir() for part in (IMAGES, MASKS, LISTS)):
                return VocPlace("devkit", devkit, sbd)
    for root in roots:
        if (root / release.voc.name).is_file():
            return VocPlace("archive", root / release.voc.name, sbd)
    return None


def _command(data_dir: pathlib.Path, place: VocPlace) -> str:
    manual = place.path.parents[1] if place.kind == "devkit" else place.path.parent
    return f"{_COMMAND} --data-dir {data_dir} --manual-dir {manual}"


def _nowhere(data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> DataError:
    where = " or ".join(str(place) for place in (manual_dir, data_dir) if place is not None)
    return DataError(
        f"{NAME} is not in {where}, neither prepared nor as VOCdevkit/VOC2012 nor as "
        f"{OFFICIAL.voc.name}; put one there, or run `{_COMMAND} --data-dir {data_dir}` with a network."
    )


_CITATION = """@article{everingham2010pascal,
  author = {Everingham, Mark and Van Gool, Luc and Williams, Christopher K. I.
            and Winn, John and Zisserman, Andrew},
  title = {The {PASCAL} Visual Object Classes ({VOC}) Challenge},
  journal = {International Journal of Computer Vision},
  year = {2010}
}"""
