"""Writes pairs of image and mask, or of image and boxes, as a TFDS data set in ArrayRecord files.

TensorFlow is not needed. The order of the dataset is kept, so that index i is the same example before and after
preparation. Images are stored as they were. Masks become 8-bit gray PNG with void labels turned into 255. Every pair is
decoded once on the way, so a damaged file is met here and not in the middle of a training.

Importing this module imports tensorflow_datasets; the modules of the data sets import it when they prepare.
"""

import contextlib
import io
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cvjax.data.annotations import decode_boxes_example
from cvjax.data.dataset import PREPARED_VERSION, Dataset, prepared_dir
from cvjax.data.decode import decode_example, encode_mask
from cvjax.datasets.prepared import (
    Content,
    choose_config,
    is_made_from,
    is_prepared,
    made_from_other_files,
    preparing,
    read_content,
    remove_stale,
    write_content,
)
from cvjax.errors import DataError


class PairsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds a TFDS data set whose splits come from datasets of ours.

    Args:
      sources: Dataset of each split.
      description: Description of the data set, kept in its `dataset_info.json`.
      citation: BibTeX entry, or "".
      skip_damaged: Whether to leave out pairs that do not decode instead of raising; `skipped` holds their messages.
      advance: Function called after every pair, for a progress bar.
      **kwargs: Arguments of TFDS's builder: `data_dir`, `config`.
    """

    VERSION = tfds.core.Version(PREPARED_VERSION)
    # TFDS looks beside the code for checksums of downloads, which are not its business here, and on the way
    # imports importlib_resources, which it does not depend on (4.9.10).
    code_path = None

    def __init__(
        self,
        *,
        sources: Mapping[str, Dataset],
        description: str,
        citation: str = "",
        skip_damaged: bool = False,
        advance: Callable[[], None] = lambda: None,
        **kwargs: Any,
    ) -> None:
        self._sources, self._skip_damaged, self._advance = sources, skip_damaged, advance
        self._description, self._citation = description, citation
        self.skipped: list[str] = []
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        class_names = next(iter(self._sources.values())).class_names
        features = {"image": tfds.features.Image(), "id": tfds.features.Text(), **self._target_features(class_names)}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            # The order of the dataset is kept, so that (seed, epoch, index) means the same in both.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(class_names=list(class_names)),
            description=self._description,
            citation=self._citation,
        )

    def _target_features(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns the features beside image and id."""
        return {"mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png")}

    def _encode_target(self, record: Mapping[str, Any], source: Dataset) -> dict[str, Any]:
        """Returns a record's entries for these features; the whole record is decoded on the way."""
        mask = decode_example(record, len(source.class_names), source.void)["mask"]
        return {"mask": encode_mask(mask)}

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(source) for split, source in self._sources.items()}

    def _generate_examples(self, source: Dataset) -> Iterator[tuple[int, dict[str, Any]]]:
        skipped_before = len(self.skipped)
        for index in range(len(source)):
            try:
                record = source[index]
                target = self._encode_target(record, source)
            except DataError as error:
                if not self._skip_damaged:
                    raise
                self.skipped.append(str(error))
            else:
                yield index, {"image": record["image"], "id": record["id"], **target}
            self._advance()
        if len(self.skipped) - skipped_before == len(source):
            raise DataError(
                f"{self.name}: split {source.split!r} has no intact pair among its {len(source)}; "
                "prepare without skipping to see the first one's fault, and mend the files."
            )


class BoxesBuilder(PairsBuilder, skip_registration=True):
    """Builds a TFDS data set from datasets of boxes.

    It works as `PairsBuilder` does. Boxes are stored in pixels, as `cvjax.data.annotations` has them. `dropped_boxes`
    counts the bad boxes that the datasets left out.
    """

    dropped_boxes = 0

    def _target_features(self, class_names: Sequence[str]) -> dict[str, Any]:
        thing = {
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "difficult": np.bool_,
            "crowd": np.bool_,
        }
        return {"objects": tfds.features.Sequence(thing)}

    def _encode_target(self, record: Mapping[str, Any], source: Dataset) -> dict[str, Any]:
        objects = decode_boxes_example(record, len(source.class_names))["boxes"]
        self.dropped_boxes += objects.dropped_boxes
        rows = zip(*objects.arrays())
        return {"objects": [dict(zip(("box", "label", "difficult", "crowd"), row)) for row in rows]}


class VocDetection(BoxesBuilder, skip_registration=True):
    """Builds PASCAL VOC 2007 and 2012 detection, with a split for each list of each year."""

    name = "voc_detection"


class XmlFolderDetection(BoxesBuilder, skip_registration=True):
    """Builds the set of a user's folder of images and XML annotations; the configuration's name is the folder's."""

    name = "xml_folder_detection"


class VocSegmentation(PairsBuilder, skip_registration=True):
    """Builds PASCAL VOC 2012 segmentation: `train`, `val` and, with SBD, `aug` (trainaug is train + aug)."""

    name = "voc_segmentation"


class ImageFolderSegmentation(PairsBuilder, skip_registration=True):
    """Builds the set of a user's folder of images and masks; the configuration's name is the folder's."""

    name = "image_folder_segmentation"


def prepare_pairs(
    builder_class: type[PairsBuilder],
    config: str,
    data_dir: pathlib.Path,
    sources: Mapping[str, Dataset],
    *,
    description: str,
    citation: str = "",
    skip_damaged: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    content: str | None = None,
    beside: bool = False,
) -> PairsBuilder:
    """Writes a data set's splits below `data_dir` and returns its builder.

    One process writes, and others that want the same set wait for it. The set is put in its place when it is whole, so
    that an error or a kill leaves what was there before.

    Args:
      builder_class: Class of the builder, which decides the data set's name.
      config: TFDS's configuration name, a folder below the data set's.
      data_dir: TFDS's root folder.
      sources: Dataset of each split; all have the same class names.
      description: Description of the data set, kept in its `dataset_info.json`.
      citation: BibTeX entry, or "".
      skip_damaged: Whether to leave out pairs that do not decode; the builder's `skipped` holds their messages.
      overwrite: Whether to replace an earlier preparation; otherwise a prepared set is left as it is.
      progress: Whether to show a bar on the terminal.
      content: Digest of the files and options that the set is made from, see `cvjax.data.identity`; without it a
        prepared set is taken whatever it was made from.
      beside: Whether a set of other content is left where it is and a new one made beside it, with a part of the digest
        in its name.

    Raises:
      DataError: A pair is damaged (without `skip_damaged`), a split has no intact pair, `data_dir` cannot be written
        to, or a set of other content is there and may neither be replaced nor stay.
    """
    name = builder_class.name
    for split, source in sources.items():
        if not len(source):
            raise DataError(f"{name}: split {split!r} is empty; fill its list or folder.")

    def make(root: pathlib.Path, chosen: str, advance: Callable[[], None] = lambda: None) -> PairsBuilder:
        return builder_class(
            sources=sources,
            description=description,
            citation=citation,
            skip_damaged=skip_damaged,
            advance=advance,
            data_dir=root,
            config=tfds.core.BuilderConfig(name=chosen, description=description),
        )

    def write(chosen: str) -> None:
        total = sum(map(len, sources.values()))
        private = data_dir / f".{name}-{config}-{uuid.uuid4().hex}"
        try:
            with _bar(f"Preparing {name}", total if progress else 0) as advance:
                made = make(private, chosen, advance)
                made.download_and_prepare()
            dropped = getattr(made, "dropped_boxes", 0)
            write_content(pathlib.Path(made.data_dir), Content(content or "", tuple(made.skipped), dropped))
            _put(pathlib.Path(made.data_dir), prepared_dir(data_dir, name, chosen), private / "before")
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def look() -> tuple[str, bool]:
        chosen = choose_config(data_dir, name, config, content, beside=beside)
        return chosen, is_prepared(prepared_dir(data_dir, name, chosen)) and not overwrite

    chosen, is_there = look()
    if not is_there:
        with preparing(data_dir, f"{name}-{config}"):
            remove_stale(data_dir, f".{name}-{config}-*")
            chosen, is_there = look()  # another process may have been first
            if not is_there:
                write(chosen)
    place = prepared_dir(data_dir, name, chosen)
    if not is_made_from(place, content):
        raise made_from_other_files(place)
    found = read_content(place)
    if found and found.skipped and not skip_damaged:
        raise DataError(found.skipped[0])
    with _bar("", 0):
        builder = make(data_dir, chosen)
    if found:
        builder.skipped = list(found.skipped)
        if found.dropped_boxes:
            builder.dropped_boxes = found.dropped_boxes  # type: ignore[attr-defined]
    return builder


def _put(made: pathlib.Path, place: pathlib.Path, aside: pathlib.Path) -> None:
    """Puts a whole version folder in its place; one that is there goes aside, and comes back if that fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if is_before := place.exists():
        os.rename(place, aside)
    try:
        os.rename(made, place)
    except OSError:
        if is_before:
            os.rename(aside, place)
        raise


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows one progress bar of ours in place of TFDS's bars and warnings; a total of 0 shows none."""
    from absl import logging
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from tensorflow_datasets.core.utils import tqdm_utils

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars, verbosity = tqdm_utils._active, logging.get_verbosity()
    tfds.display_progress_bar(False)
    logging.set_verbosity(logging.ERROR)
    try:
        with (
            Progress(*columns, console=Console(stderr=True), disable=not total) as progress,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            task = progress.add_task(title, total=total)
            yield lambda: progress.advance(task)
    finally:
        tfds.display_progress_bar(bars)
        logging.set_verbosity(verbosity)
