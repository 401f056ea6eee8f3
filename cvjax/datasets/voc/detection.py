"""Reads and prepares PASCAL VOC 2007 and 2012 detection: 20 classes, `difficult` kept.

Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010. The test images of 2012 have no public
annotations.

| split | images | what |
| --- | --- | --- |
| train2007, val2007, trainval2007 | 2,501, 2,510, 5,011 | VOC's lists |
| test2007 | 4,952 | VOC's list, which papers report on |
| train2012, val2012, trainval2012 | 5,717, 5,823, 11,540 | VOC's lists |
| trainval0712 | 16,551 | trainval2007 and trainval2012, "07+12" in the papers |

A set is read from one of three places: from the set that we prepared, from the folders `VOC2007` and `VOC2012` of the
devkit where they lie, or from TFDS's `voc/2007` and `voc/2012`, prepared in ArrayRecord files.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from cvjax.data.annotations import OnBadBoxes
from cvjax.data.dataset import Dataset, TfdsDataset, prepared_dir
from cvjax.data.joined import JoinedDataset
from cvjax.datasets.archives import Archive, check_archive, fetch
from cvjax.datasets.prepared import newest_version
from cvjax.datasets.voc.files import IMAGES, Files, FolderFiles, TarFiles
from cvjax.datasets.voc.segmentation import OFFICIAL as SEGMENTATION
from cvjax.datasets.voc.segmentation import VOC_CLASSES
from cvjax.datasets.voc.xml import Annotated, XmlDataset
from cvjax.errors import DataError

if TYPE_CHECKING:
    from cvjax.datasets.writers import PairsBuilder

NAME = "voc_detection"
CONFIG = "0712"
CLASS_NAMES = VOC_CLASSES[1:]
ANNOTATIONS, LISTS = "Annotations", "ImageSets/Main"
_COMMAND = f"cvjax data prepare {NAME}"
_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007"

SPLITS: Mapping[str, tuple[str, ...]] = {
    **{split: (split,) for split in ("train2007", "val2007", "test2007", "train2012", "val2012")},
    "trainval2007": ("train2007", "val2007"),
    "trainval2012": ("train2012", "val2012"),
    "trainval0712": ("train2007", "val2007", "train2012", "val2012"),
}
"""The stored parts that each split is made of."""


class YearArchive(NamedTuple):
    """Describes a published archive of a year, and the number of images that each of its parts must have."""

    archive: Archive
    year: str
    counts: Mapping[str, int]


OFFICIAL = (
    YearArchive(
        Archive(
            name="VOCtrainval_06-Nov-2007.tar",
            url=f"{_URL}/VOCtrainval_06-Nov-2007.tar",
            size=460_032_000,
            md5="c52e279531787c972589f7e41ab4ae64",
            sha256="7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        ),
        "2007",
        {"train": 2_501, "val": 2_510},
    ),
    YearArchive(
        Archive(
            name="VOCtest_06-Nov-2007.tar",
            url=f"{_URL}/VOCtest_06-Nov-2007.tar",
            size=451_020_800,
            md5="b6e924de25625d8de591ea690078ad9f",
            sha256="6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        ),
        "2007",
        {"test": 4_952},
    ),
    YearArchive(SEGMENTATION.voc, "2012", {"train": 5_717, "val": 5_823}),
)


def open_voc_detection(
    split: str,
    data_dir: pathlib.Path,
    manual_dir: pathlib.Path | None = None,
    *,
    on_bad_boxes: OnBadBoxes = "error",
) -> Dataset:
    """Opens a split, and joins its parts where there are several.

    Each part is read from the folder `manual_dir` as it is. Otherwise it is the one prepared by us, the one in a devkit
    in `data_dir`, or the one prepared by TFDS, in this order.

    Raises:
      DataError: There is no such split, or one of its parts is not found, or is there only as an archive.
    """
    if split not in SPLITS:
        raise DataError(f"{NAME} has no split {split!r}; choose one of {', '.join(SPLITS)}.")
    sources = [_open_part(part, data_dir, manual_dir, on_bad_boxes) for part in SPLITS[split]]
    return sources[0] if len(sources) == 1 else JoinedDataset(NAME, split, sources)


def prepare_voc_detection(
    data_dir: pathlib.Path,
    *,
    manual_dir: pathlib.Path | None = None,
    download: bool = True,
    on_bad_boxes: OnBadBoxes = "error",
    skip_damaged: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    official: Sequence[YearArchive] = OFFICIAL,
) -> "PairsBuilder":
    """Writes the parts that are found as ArrayRecord below `data_dir`; a prepared set is kept.

    Args:
      data_dir: TFDS's root folder.
      manual_dir: Folder with an unpacked VOCdevkit, or with archives, of one year or both.
      download: Whether to fetch all archives into `data_dir/downloads` where neither a devkit nor an archive is found.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`; the builder's `dropped_boxes`
        counts.
      skip_damaged: Whether to leave out examples that do not decode; the builder's `skipped` holds their messages.
      overwrite: Whether to prepare again.
      progress: Whether to show bars on the terminal.
      official: Digests of the archives and counts of their images; tests have smaller ones.

    Raises:
      DataError: Nothing is found, an archive is damaged or incomplete, or an example is damaged.
    """
    from cvjax.datasets.writers import VocDetection, prepare_pairs

    prepared = prepared_dir(data_dir, NAME, CONFIG)
    if (prepared / "dataset_info.json").is_file() and not overwrite:
        import tensorflow_datasets as tfds

        return cast("PairsBuilder", tfds.builder_from_directory(prepared))
    roots = _roots(data_dir, manual_dir)
    devkits = _find_devkits(roots)
    sources: dict[str, Dataset] = {}
    for year, folder in devkits.items():
        files = FolderFiles(folder)
        for part in files.stems(LISTS) & {"train", "val", "test"}:
            sources[part + year] = _read_part(files, part, year, on_bad_boxes)
    archives = [(root / known.archive.name, known) for known in official for root in roots]
    found = [(path, known) for path, known in archives if path.is_file() and known.year not in devkits]
    if not devkits and not found:
        if not download:
            raise _nowhere(NAME, roots, data_dir)
        folder = data_dir / "downloads"
        found = [(fetch(known.archive, folder, progress=progress), known) for known in official]
    for path, known in found:
        check_archive(path, known.archive)
        files = TarFiles(path, f"VOCdevkit/VOC{known.year}/")
        for part, count in known.counts.items():
            source = sources[part + known.year] = _read_part(files, part, known.year, on_bad_boxes)
            if len(source) != count:
                raise DataError(f"{path}: {part} has {len(source)} images and not {count}; fetch the archive again.")
    return prepare_pairs(
        VocDetection,
        CONFIG,
        pathlib.Path(data_dir),
        {part: sources[part] for part in SPLITS if part in sources},
        description="PASCAL VOC 2007 and 2012 detection.",
        skip_damaged=skip_damaged,
        overwrite=overwrite,
        progress=progress,
    )


def _open_part(part: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None, on_bad_boxes: OnBadBoxes) -> Dataset:
    """Opens a part that is stored as one: a list of a year."""
    kind, year = part[:-4], part[-4:]
    roots = _roots(data_dir, manual_dir)
    devkits = _find_devkits([manual_dir] if manual_dir is not None else [])
    prepared = prepared_dir(data_dir, NAME, CONFIG)
    if year not in devkits and any(prepared.glob(f"{NAME}-{part}.*")):
        return TfdsDataset(prepared, part, name=NAME, class_names=CLASS_NAMES, target="boxes")
    devkits = _find_devkits(roots)
    if year in devkits:
        return _read_part(FolderFiles(devkits[year]), kind, year, on_bad_boxes)
    place = newest_version(data_dir / "voc" / year)
    if place is not None:
        return TfdsDataset(
            place,
            {"val": "validation"}.get(kind, kind),
            name=NAME,
            class_names=CLASS_NAMES,
            split_name=part,
            target="boxes",
            inclusive_boxes=True,
            on_bad_boxes=on_bad_boxes,
        )
    raise _nowhere(part, roots, data_dir)


def _read_part(files: Files, part: str, year: str, on_bad_boxes: OnBadBoxes) -> XmlDataset:
    """Reads a list of a devkit's year, in its order."""
    if part not in files.stems(LISTS):
        raise DataError(f"{files.place}: {LISTS}/{part}.txt is absent; add the list of {part} images.")
    keys = files.read(f"{LISTS}/{part}.txt").decode().split()
    for folder, suffix in ((IMAGES, "jpg"), (ANNOTATIONS, "xml")):
        present = files.stems(folder)
        absent = next((key for key in keys if key not in present), None)
        if absent is not None:
            raise DataError(
                f"{files.place}: {folder}/{absent}.{suffix} is absent although {LISTS}/{part}.txt names it; add it or "
                "take it off the list."
            )
    entries = [Annotated(key, f"{IMAGES}/{key}.jpg", f"{ANNOTATIONS}/{key}.xml") for key in keys]
    return XmlDataset(
        NAME,
        part + year,
        entries,
        class_names=CLASS_NAMES,
        on_bad_boxes=on_bad_boxes,
        read=files.read,
        folder=files.folder,
        digest=files.fingerprint,
    )


def _roots(data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> list[pathlib.Path]:
    places = (manual_dir, data_dir, data_dir / "downloads")
    return [pathlib.Path(place) for place in places if place is not None]


def _find_devkits(roots: Sequence[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Finds the devkit's folder of each year, the first one that is complete."""
    found: dict[str, pathlib.Path] = {}
    for year in ("2007", "2012"):
        name = f"VOC{year}"
        places = [place for root in roots for place in (root / "VOCdevkit" / name, root / name, root)]
        for place in places:
            is_whole = all((place / folder).is_dir() for folder in (IMAGES, ANNOTATIONS, LISTS))
            if is_whole and place.name == name:
                found.setdefault(year, place)
    return found


def _nowhere(what: str, roots: Sequence[pathlib.Path], data_dir: pathlib.Path) -> DataError:
    for root in roots:
        if any((root / known.archive.name).is_file() for known in OFFICIAL):
            command = f"{_COMMAND} --data-dir {data_dir} --manual-dir {root}"
            return DataError(f"{what}: the archives in {root} must be prepared once; run `{command}`.")
    return DataError(
        f"{what} is not in {' or '.join(map(str, roots))}, neither prepared nor as VOCdevkit/VOC2007 or VOC2012 with "
        f"{ANNOTATIONS}; put one there, or run `{_COMMAND} --data-dir {data_dir}` with a network."
    )
