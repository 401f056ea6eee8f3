"""Shows annotated images as a dataset of boxes, masks, or objects with masks."""

import copy
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import cast

import numpy as np

from cvjax.data.annotations import Objects, OnBadBoxes, check_on_bad_boxes, fit_objects, make_objects
from cvjax.data.dataset import Record, Target, read_file
from cvjax.data.decode import IGNORE, encode_mask
from cvjax.data.identity import digest_of_arrays, fingerprint_of
from cvjax.data.orientation import Header, check_stated_size, read_header
from cvjax.datasets.listing import MOST_CLASSES
from cvjax.datasets.own.annotated.outlines import extent_of, pixels_of
from cvjax.datasets.own.annotated.values import Annotated, AnnotatedImage, Annotations, Box, Polygons, Runs
from cvjax.errors import DataError

BACKGROUND = "background"
_MOST_OBJECTS = 254
"""How many objects of an image a mask of bytes can number beside 0 for none and 255 for unknown."""


def image_bytes(image: AnnotatedImage) -> bytes:
    """Returns an encoded image, from its file or from the annotation that embeds it.

    Raises:
      DataError: It cannot be read.
    """
    if image.embedded:
        from cvjax.datasets.own.labelme import embedded_image

        return embedded_image(image.path)
    return read_file(image.path)


class OwnDataset:
    """Reads annotated images where they lie.

    Args:
      split: Name of the split.
      annotations: Images and their objects, from any format.
      headers: Header of each image; None for a damaged one, which raises when it is read.
      target: "boxes"; "mask", with a background as label 0, in which later objects lie over earlier ones; or "objects",
        the same with numbers of objects.
      on_bad_boxes: Treatment of bad boxes, see `cvjax.data.annotations.check_objects`.

    Raises:
      DataError: An image has another size than its annotation states, a box is bad, or the target needs an outline that
        an object lacks.
    """

    name = "own"
    void: tuple[int, ...] = ()

    def __init__(
        self,
        split: str,
        annotations: Annotations,
        headers: Sequence[Header | None],
        target: Target,
        on_bad_boxes: OnBadBoxes = "error",
    ) -> None:
        check_on_bad_boxes(on_bad_boxes)
        self.split, self._target = split, target
        self._on_bad_boxes: OnBadBoxes = on_bad_boxes
        self._names, self._least_side = annotations.class_names, annotations.least_side
        images = annotations.images
        if target == "boxes":  # so that no outlines travel to the processes that decode
            images = [dataclasses.replace(image, objects=tuple(map(_boxed, image.objects))) for image in images]
        self._images, self._headers = list(images), list(headers)
        self.class_names = self._names if target == "boxes" else _with_background(self._names)
        if len(self.class_names) > MOST_CLASSES and target != "boxes":
            raise DataError(f"masks tell at most {MOST_CLASSES} classes apart, and there are {len(self.class_names)}.")
        self._label = {name: label for label, name in enumerate(self.class_names)}
        if target != "boxes":  # any spelling of a background's name is the background
            self._label |= {name: 0 for name in self._names if is_background(name)}
        self._box_counts = [0] * len(self._images)
        for index, (image, header) in enumerate(zip(self._images, self._headers, strict=True)):
            if header is not None and target == "boxes":
                self._box_counts[index] = len(self._objects(image, header).boxes)
            elif header is not None:
                self._check_outlines(image, self._annotated_size(image, header))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self._images):
            raise IndexError(index)
        image = self._images[index]
        data = image_bytes(image)
        header = read_header(data, image.path)
        if self._target == "boxes":
            return cast(Record, {"image": data, "id": image.key, **self._objects(image, header)._asdict()})
        masks = self._painted(image, header)
        record: Record = {"image": data, "id": image.key, "mask": encode_mask(masks[0])}
        if self._target == "objects":
            record["classes"] = encode_mask(masks[1])
        return record

    def ids(self) -> list[str]:
        """Returns the ids in the order of the records."""
        return [image.key for image in self._images]

    def absent_classes(self) -> list[str]:
        """Returns the names of the classes of which no image has an object; the background is not one of them."""
        seen = {thing.name for image in self._images for thing in image.objects}
        return [name for name in self._names if name not in seen and not is_background(name)]

    def box_counts(self) -> list[int]:
        """Returns the number of boxes of each image; 0 where the image is damaged, or where boxes are not asked for."""
        return list(self._box_counts)

    def part(self, indices: Sequence[int], split: str) -> "OwnDataset":
        """Returns the dataset of some of the images, see `cvjax.data.part`."""
        part = copy.copy(self)
        for kept in ("_sizes", "_identity"):  # what other modules keep on a dataset
            part.__dict__.pop(kept, None)
        part.split = split
        part._images = [self._images[index] for index in indices]
        part._headers = [self._headers[index] for index in indices]
        part._box_counts = [self._box_counts[index] for index in indices]
        return part

    def header_size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of an upright image, from its header."""
        image, header = self._images[index], self._headers[index]
        return (header or read_header(image_bytes(image), image.path)).upright_size

    def image_files(self) -> list[str]:
        """Returns the paths of the images' files in the order of the records."""
        return [image.path for image in self._images]

    def files(self) -> list[str]:
        """Returns the paths of the files that the records come from."""
        return [*self.image_files(), *dict.fromkeys(image.annotation.split(", image ")[0] for image in self._images)]

    def fingerprint(self) -> str:
        """Returns the digest of the images' files and of all that is said about them."""
        digest = hashlib.sha256()
        for image in self._images:
            things = image.objects
            boxes = np.array([box_of(thing) for thing in things], np.float64).reshape(-1, 4)
            flags = np.array([(thing.difficult, thing.crowd) for thing in things], bool)
            outlines = [] if self._target == "boxes" else [part for thing in things for part in _arrays(thing)]
            said = [image.size, image.fractions, [thing.name for thing in things], [thing.area for thing in things]]
            digest.update(f"{said} {digest_of_arrays(boxes, flags, *outlines)}".encode())
        options = {"target": self._target, "on_bad_boxes": self._on_bad_boxes, "classes": list(self._names)}
        return fingerprint_of(self.image_files(), ids=self.ids(), objects=digest.hexdigest()[:16], **options)

    def _objects(self, image: AnnotatedImage, header: Header) -> Objects:
        """Returns the objects of an image in pixels of the upright image, after all checks."""
        scale = _scale(image, header)
        boxes = np.array([box_of(thing) for thing in image.objects], np.float64).reshape(-1, 4) * (*scale, *scale)
        areas = [np.nan if thing.area is None else thing.area for thing in image.objects]
        objects = make_objects(
            boxes,
            [self._number(thing, image) for thing in image.objects],
            [thing.difficult for thing in image.objects],
            [thing.crowd for thing in image.objects],
            areas=None if np.isnan(areas).all() else areas,
        )
        names = image.annotation, os.path.basename(image.path)
        return fit_objects(
            objects, header, image.size, names, self.class_names, self._on_bad_boxes, least_side=self._least_side
        )

    def _annotated_size(self, image: AnnotatedImage, header: Header) -> tuple[int, int]:
        """Returns height and width of the frame that the annotation is in: the upright image or the stored pixels."""
        upright = check_stated_size(header, image.size, image.annotation, os.path.basename(image.path))
        return header.upright_size if upright else (header.height, header.width)

    def _check_outlines(self, image: AnnotatedImage, size: tuple[int, int]) -> None:
        file = os.path.basename(image.path)
        if self._target == "objects" and len(image.objects) > _MOST_OBJECTS:
            raise DataError(
                f"{image.annotation}: there are {len(image.objects)} objects in {file}, and at most {_MOST_OBJECTS} can"
                " be told apart; cut the image into parts."
            )
        for thing in image.objects:
            self._number(thing, image)
            if thing.outline is None:
                raise DataError(
                    f"{image.annotation}: {thing.place}, {thing.name}, is a box without an outline, and masks need"
                    " outlines; draw one, or train a detector, which needs boxes."
                )
            if isinstance(thing.outline, Runs) and thing.outline.size != size:
                raise DataError(
                    f"{image.annotation}: {thing.place} has run lengths of {thing.outline.size[0]}x"
                    f"{thing.outline.size[1]} (height x width) and the file {file} has {size[0]}x{size[1]}; put the"
                    " image back that was annotated."
                )

    def _painted(self, image: AnnotatedImage, header: Header) -> tuple[np.ndarray, np.ndarray]:
        """Paints the objects over one another; returns labels twice, or numbers and labels, uint8 [H, W].

        Where the annotation states the size of the stored pixels, so have the masks, which decoding then turns.
        """
        size = self._annotated_size(image, header)
        self._check_outlines(image, size)
        labels = np.zeros(size, np.uint8)
        numbers = labels if self._target == "mask" else np.zeros(size, np.uint8)
        for number, thing in enumerate(image.objects, 1):
            assert thing.outline is not None
            inside = pixels_of(_scaled(thing.outline, _scale(image, header)), size)
            labels[inside] = self._number(thing, image)
            if self._target == "objects":
                unknown = thing.crowd or thing.difficult
                numbers[inside] = IGNORE if unknown else number if self._number(thing, image) else 0
        return numbers, labels

    def _number(self, thing: Annotated, image: AnnotatedImage) -> int:
        if thing.name not in self._label:
            raise DataError(
                f"{image.annotation}: {thing.place} is of {thing.name!r}, which is no class; mend the name."
            )
        return self._label[thing.name]

    def __repr__(self) -> str:
        return f"OwnDataset({self.split!r}, {len(self)} records)"


def _boxed(thing: Annotated) -> Annotated:
    return dataclasses.replace(thing, box=box_of(thing), outline=None)


def is_background(name: str) -> bool:
    """Returns whether a class is the background, however that is spelled."""
    return name.strip("_ ").lower() == BACKGROUND


def _with_background(names: Sequence[str]) -> tuple[str, ...]:
    return (BACKGROUND, *(name for name in names if not is_background(name)))


def box_of(thing: Annotated) -> Box:
    """Returns the box that an object states, or that around its outline, in the units of its file."""
    if thing.box is not None:
        return thing.box
    assert thing.outline is not None
    return extent_of(thing.outline)


def _arrays(thing: Annotated) -> Sequence[np.ndarray]:
    if thing.outline is None:
        return ()
    return thing.outline.parts if isinstance(thing.outline, Polygons) else (thing.outline.counts,)


def _scale(image: AnnotatedImage, header: Header) -> tuple[float, float]:
    height, width = header.upright_size
    return (float(width), float(height)) if image.fractions else (1.0, 1.0)


def _scaled(outline: Polygons | Runs, scale: tuple[float, float]) -> Polygons | Runs:
    if isinstance(outline, Runs) or scale == (1.0, 1.0):
        return outline
    return Polygons(tuple(part * scale for part in outline.parts))
