"""Prepares and reads sets of labeled images from the TFDS catalog, without TensorFlow."""

import contextlib
import dataclasses
import glob
import inspect
import io
import os
import pathlib
import shutil
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from cvjax.data.dataset import Dataset, TfdsDataset, held_out
from cvjax.datasets.prepared import newest_version, preparing
from cvjax.errors import DataError


@dataclasses.dataclass(frozen=True)
class CatalogSet:
    """Describes a data set of TFDS's catalog.

    Attributes:
      splits: Names of its splits.
      config: TFDS's configuration; "" where there is only one.
      archives: Files that nobody may pass on. The user fetches them and names their folder.
      class_names: Names of the classes, for sets whose own names are codes.
    """

    splits: tuple[str, ...]
    config: str = ""
    archives: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None


SETS: Mapping[str, CatalogSet] = {
    "imagenet2012": CatalogSet(
        ("train", "validation"), archives=("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
    ),
    "cifar10": CatalogSet(("train", "test")),
    "cifar100": CatalogSet(("train", "test")),
    "fashion_mnist": CatalogSet(("train", "test")),
    "imagenette": CatalogSet(
        ("train", "validation"),
        config="320px-v2",
        class_names=tuple(
            "tench,English springer,cassette player,chain saw,church,French horn,garbage truck,gas pump,golf ball,"
            "parachute".split(",")
        ),
    ),
}


def find_prepared(data_dir: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the newest version folder of a set that TFDS has prepared below `data_dir`; None where there is none."""
    return newest_version(data_dir / name / SETS[name].config)


def open_tfds_set(name: str, split: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None) -> Dataset:
    """Opens a split of a prepared set; "val" is the split that its authors hold out.

    Args:
      name: Name of the set, one of `SETS`.
      split: TFDS split, such as "train", "val" or "train[:45000]".
      data_dir: TFDS's root folder.
      manual_dir: Folder shown in the message where the set is not prepared.

    Raises:
      DataError: The set is not prepared, or lacks the split.
    """
    place, known = find_prepared(data_dir, name), SETS[name]
    if place is None:
        fix = f"run `cvjax data prepare {name} --data-dir {data_dir}"
        if known.archives:
            fix = f"put {' and '.join(known.archives)} into a folder and {fix} --manual-dir {manual_dir or 'FOLDER'}"
        raise DataError(f"{name} is not prepared in {data_dir}; {fix}`.")
    return TfdsDataset(place, held_out(split, known.splits), name=name, class_names=known.class_names, target="label")


def prepare_tfds_set(
    name: str, data_dir: pathlib.Path, manual_dir: pathlib.Path | None = None, *, overwrite: bool = False
) -> Any:
    """Fetches a set (or reads its archives from `manual_dir`) and writes it as ArrayRecord.

    Returns:
      TFDS's builder.

    Raises:
      DataError: Archives are missing or cannot be fetched, or `data_dir` cannot be written to.
    """
    import tensorflow_datasets as tfds

    known, prepared = SETS[name], find_prepared(data_dir, name)
    missing = [file for file in known.archives if manual_dir is None or not (manual_dir / file).is_file()]
    if prepared is not None and not overwrite:
        return tfds.builder_from_directory(prepared)
    if missing:
        where = manual_dir or "a folder that --manual-dir names"
        raise DataError(f"{name}: {' and '.join(missing)} must lie in {where}; fetch them from image-net.org.")
    with preparing(data_dir, name):
        prepared = find_prepared(data_dir, name)
        if prepared is not None and not overwrite:  # another process was first
            return tfds.builder_from_directory(prepared)
        with _aside(prepared, data_dir / f".{name}-before"):
            return _write(name, known, data_dir, manual_dir)


def _write(name: str, known: CatalogSet, data_dir: pathlib.Path, manual_dir: pathlib.Path | None) -> Any:
    import tensorflow_datasets as tfds

    options = {"config": known.config} if known.config else {}
    try:
        cls = tfds.builder_cls(name)
        builder = encoding(cls)(data_dir=str(data_dir), file_format="array_record", **options)
        download = tfds.download.DownloadConfig(manual_dir=manual_dir and str(manual_dir), try_download_gcs=False)
        with _plain_files(cls):
            builder.download_and_prepare(download_config=download)
    except (OSError, tfds.download.DownloadError) as error:
        raise DataError(
            f"{name}: could not be fetched and prepared in {data_dir} ({error}); prepare it on a machine with a"
            f" network, and copy its folder {name} to {data_dir}."
        ) from error
    return builder


@contextlib.contextmanager
def _aside(place: pathlib.Path | None, aside: pathlib.Path) -> Iterator[None]:
    """Puts a folder aside, if there is one; after an error it comes back, else it is removed."""
    if place is None:
        yield
        return
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed after it had written the set
    place.replace(aside)
    try:
        yield
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        aside.replace(place)
        raise
    shutil.rmtree(aside)


def encoding(builder: type) -> type:
    """Returns a builder class that leaves out the steps for which TFDS calls TensorFlow.

    Arrays are handed over encoded, as PNG. ImageNet's one PNG and 22 CMYK images stay as they are; `cvjax.data.decode`
    turns them into RGB.
    """

    def generate_examples(self: Any, *args: Any, **kwargs: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        for key, example in builder._generate_examples(self, *args, **kwargs):
            image = example["image"]
            if isinstance(image, np.ndarray):
                stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[-1] == 3 else image
                example = example | {"image": io.BytesIO(cv2.imencode(".png", stored)[1].tobytes())}
            yield key, example

    body = {
        "_generate_examples": generate_examples,
        "_fix_image": lambda self, name, image: image,
        "name": builder.name,
        "__module__": builder.__module__,
        # Where TFDS looks for checksums from; its own way there imports a package that it does not require.
        "code_path": pathlib.Path(inspect.getfile(builder)),
    }
    return types.new_class(builder.__name__, (builder,), {"skip_registration": True}, lambda space: space.update(body))


@contextlib.contextmanager
def _plain_files(builder: type) -> Iterator[None]:
    """Replaces TensorFlow's file functions by Python's in a builder's module, its helpers and TFDS's downloader."""
    from tensorflow_datasets.core.download import downloader, extractor

    gfile = types.SimpleNamespace(GFile=open, exists=os.path.exists, listdir=os.listdir, glob=glob.glob)
    package = builder.__module__.rpartition(".")[0]
    stand_in = types.SimpleNamespace(
        io=types.SimpleNamespace(gfile=gfile),
        compat=types.SimpleNamespace(as_text=os.fsdecode),
        errors=types.SimpleNamespace(UnimplementedError=NotImplementedError),
    )
    modules: list[Any] = [downloader, extractor]
    modules += [
        module
        for name, module in list(sys.modules.items())
        if (name == builder.__module__ or name.rpartition(".")[0] == package) and "tf" in vars(module)
    ]
    before = [module.tf for module in modules]
    for module in modules:
        module.tf = stand_in
    try:
        yield
    finally:
        for module, tf in zip(modules, before):
            module.tf = tf
