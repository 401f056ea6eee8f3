"""Reads every record of a split once, and keeps what the figures and the findings need of it."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cvjax.data.annotations import Objects, check_objects
from cvjax.data.dataset import Dataset, Target
from cvjax.data.decode import IGNORE, NoClassError, check_sizes, decode_image, decode_mask, fit_mask
from cvjax.datasets.box_statistics import BoxCounts, measure_boxes
from cvjax.datasets.findings.boxes import odd_boxes
from cvjax.datasets.findings.duplicates import Print, print_of
from cvjax.datasets.findings.finding import Finding, Kind, Place, file_names
from cvjax.datasets.masks.counts import MaskCounts, in_threads, sum_masks
from cvjax.errors import DataError

TINY = 4.0
"""Length in pixels below which the shorter side of a box is a finding."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """Holds what is kept of one record.

    Attributes:
      place: Place of the record.
      size: Height and width of the upright image in pixels; None where it cannot be read.
      digest: Digest of the encoded image.
      print: What the picture is compared by.
      label: Class of the image, in sets of labels.
      histogram: Number of pixels of each label, int [256], in sets of masks.
      objects: Good boxes, cut off at the border, in sets of boxes.
      findings: What was found in this record alone.
    """

    place: Place
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    print: Print | None = None
    label: int | None = None
    histogram: np.ndarray | None = None
    objects: Objects | None = None
    findings: tuple[Finding, ...] = ()


@dataclasses.dataclass(frozen=True)
class Survey:
    """Holds what is in a split.

    Attributes:
      source: Dataset that was read.
      target: Part of a record that was read beside the image.
      seen: What is kept of each record, in order.
    """

    source: Dataset
    target: Target
    seen: tuple[Seen, ...]

    @property
    def split(self) -> str:
        """Returns the name of the split."""
        return self.source.split

    def masks(self) -> MaskCounts:
        """Returns the figures of the masks that could be read."""
        read = [seen.histogram for seen in self.seen if seen.histogram is not None]
        return sum_masks(read, len(self.source.class_names), len(self.seen) - len(read))

    def boxes(self) -> BoxCounts:
        """Returns the figures of the boxes that are good."""
        read = [(seen.objects, seen.size) for seen in self.seen if seen.objects is not None and seen.size is not None]
        return measure_boxes([objects for objects, _ in read], [size for _, size in read], self.source.class_names)

    def balance(self) -> list[tuple[int, int]]:
        """Returns for each class the number of images that show it, and the number of its pixels, boxes or labels."""
        classes = len(self.source.class_names)
        if self.target == "mask":
            shown = [seen.histogram[:classes] > 0 for seen in self.seen if seen.histogram is not None]
            images = np.sum(shown, axis=0, dtype=int).tolist() if shown else classes * [0]
            return list(zip(images, self.masks().pixels))
        if self.target == "boxes":
            return [(row.images, row.boxes) for row in self.boxes().classes]
        labels = [seen.label for seen in self.seen if seen.label is not None]
        counts = np.bincount(labels, minlength=classes).tolist() if labels else classes * [0]
        return list(zip(counts, counts))


def survey(source: Dataset, target: Target, *, void: Sequence[int] = (), tiny: float = TINY) -> Survey:
    """Reads a split, in threads.

    Args:
      source: Dataset; of boxes it was opened with `on_bad_boxes="keep"`.
      target: Target that it was opened with: mask, label or boxes.
      void: Labels of masks that mean "ignored", beside the dataset's own.
      tiny: Length in pixels that the shorter side of a box should have.
    """
    files = file_names(source)
    ignored = (*source.void, *void)

    def look(index: int) -> Seen:
        place = Place(source.split, index, files[index] if files is not None else f"{source.split}/{index}")
        try:
            record = cast(Mapping[str, Any], source[index])
        except DataError as error:
            return Seen(place, findings=(_fault(place, error),))
        if files is None:
            place = dataclasses.replace(place, file=str(record["id"]))
        return _look(source, target, record, place, ignored, tiny)

    return Survey(source, target, tuple(in_threads(look, len(source), f"Reading {source.name}/{source.split}")))


def _look(
    source: Dataset, target: Target, record: Mapping[str, Any], place: Place, ignored: tuple[int, ...], tiny: float
) -> Seen:
    digest = hashlib.blake2b(record["image"], digest_size=16).digest()
    try:
        image = decode_image(record["image"], place.file)
    except DataError as error:
        return Seen(place, digest=digest, findings=(_fault(place, error),))
    height, width = image.shape[:2]
    seen = Seen(place, size=(height, width), digest=digest, print=print_of(image))
    try:
        return _with_target(seen, source, target, record, ignored, tiny)
    except DataError as error:
        return dataclasses.replace(seen, findings=(_fault(place, error),))


def _with_target(
    seen: Seen, source: Dataset, target: Target, record: Mapping[str, Any], ignored: tuple[int, ...], tiny: float
) -> Seen:
    assert seen.size is not None
    names = source.class_names
    if target == "label":
        label = int(record["label"])
        if not 0 <= label < len(names):
            raise NoClassError(f"{seen.place.file}: label {label} is outside [0, {len(names)})")
        return dataclasses.replace(seen, label=label)
    if target == "mask":
        pairs = getattr(source, "pairs", None)  # of files
        file = seen.place.file if pairs is None else pairs[seen.place.index][2]
        mask = fit_mask(decode_mask(record["mask"], file, len(names), ignored), record["image"], seen.size)
        check_sizes(file, mask.shape, seen.size)
        histogram = np.bincount(mask.ravel(), minlength=IGNORE + 1)
        findings = () if histogram[:IGNORE].any() else (_found("unlabeled", seen.place, "every pixel is ignored"),)
        return dataclasses.replace(seen, histogram=histogram, findings=findings)
    stated = Objects(*(record[name] for name in ("boxes", "labels", "difficult", "crowd")))
    findings = tuple(
        _found(kind, seen.place, what, boxes) for kind, what, boxes in odd_boxes(stated, seen.size, names, tiny)
    )
    good = check_objects(stated, seen.size, seen.place.file, names, "drop")
    return dataclasses.replace(seen, objects=good, findings=findings)


def _fault(place: Place, error: DataError) -> Finding:
    """Makes a finding of the error of a record, whose sentence begins with the file at fault: its image or another."""
    kind: Kind = "no-class" if isinstance(error, NoClassError) else "unreadable"
    file, _, what = str(error).partition(": ")
    if file != place.file and not os.path.exists(file):
        return _found(kind, place, str(error))
    return _found(kind, dataclasses.replace(place, file=file), what)


def _found(kind: Kind, place: Place, what: str, boxes: tuple[int, ...] = ()) -> Finding:
    return Finding(kind, place.split, what, (place,), boxes)
