"""Defines datasets, which give random access to encoded examples.

A dataset has `len(dataset)` and `dataset[i]`. An item is a record as encoded on disk:

- A dataset with masks gives {"image": bytes, "mask": bytes, "id": str}.
- A dataset of labeled images has `"label": int` in the mask's place.
- A dataset of boxes has the entries of `cvjax.data.annotations.Objects` in the mask's place.
- A dataset of objects has a mask and more, see `cvjax.data.objects`.

A dataset also has the attributes `name`, `split`, `class_names` and `void`. `decode_example` turns the labels in `void`
into 255. `fingerprint()` tells whether two datasets hold the same. `cvjax.datasets.registry` opens datasets by name.

A dataset that reads its images from files has a method `image_files`. It returns their paths in the order of the
records, or the paths of the files that hold all records.

A dataset that knows its ids without reading records has a method `ids`, which returns them in their order. One that can
show some of its examples better than `cvjax.data.part.PartDataset` has a method `part`.

Datasets pickle. Only names travel, and each process opens its own files at its first read.
"""

import copy
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NotRequired, Protocol, TypedDict, cast

import numpy as np

from cvjax.data.annotations import OnBadBoxes, StoredObjects
from cvjax.data.decode import NoClassError, decode_label_numbers, encode_mask, image_size
from cvjax.data.identity import digest_of_arrays, fingerprint_of
from cvjax.data.photos import photo_size
from cvjax.errors import DataError
from cvjax.files import default_data_dir as default_data_dir

PREPARED_VERSION = "1.0.0"
"""The version of the data sets that we prepare. It is raised whenever the same input would be written differently."""

# The names that sets of TFDS's catalog give to the id of an example, where they keep one.
_ID_FEATURES = ("id", "file_name", "image/filename")
_HELD_OUT = ("val", "validation", "valid", "test")
_NUMBERS = 65_536  # that a mask can hold


Target = Literal["mask", "label", "objects", "boxes"]
"""What an example is to be recognized as: a class for each pixel, one for the image, the masks of its objects, or their
boxes.
"""


Files = tuple[str, str | os.PathLike[str], str | os.PathLike[str]]
"""Id, image path and mask path of an example that lies in files."""


class Record(TypedDict):
    """Holds one example as encoded on disk.

    It has a mask, a label, boxes (`cvjax.data.annotations.Objects`), or the entries from which
    `cvjax.data.objects.decode_objects` makes objects.
    """

    image: bytes
    mask: NotRequired[bytes]
    label: NotRequired[int]
    boxes: NotRequired[np.ndarray]
    labels: NotRequired[np.ndarray]
    classes: NotRequired[bytes]
    difficult: NotRequired[np.ndarray]
    crowd: NotRequired[np.ndarray]
    dropped_boxes: NotRequired[int]
    proposals: NotRequired[np.ndarray | None]
    areas: NotRequired[np.ndarray | None]
    id: str


class Dataset(Protocol):
    """Describes the datasets that the loader reads from; see the module's description."""

    name: str
    split: str
    class_names: tuple[str, ...]
    void: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def fingerprint(self) -> str:
        """Returns a digest of the ids and files that the records come from, see `cvjax.data.identity`."""
        ...


class TfdsDataset:
    """Reads a split of a prepared TFDS data set in ArrayRecord files, without TensorFlow.

    Args:
      directory: Version folder that TFDS wrote, the one with `dataset_info.json`.
      split: TFDS split, such as "train", "train+val" or "train[:10]".
      name: Name of the data set; by default TFDS's.
      class_names: Names of the classes; by default from the set's metadata, or from its `label` feature.
      split_name: Name to give the split; by default `split`.
      target: Whether records carry their mask, their label, their boxes, or their mask and their boxes ("objects").
      first_label: Number at which stored labels and class names start. It is 1 where 0 is a background that no image
        belongs to.
      inclusive_boxes, on_bad_boxes: Settings of boxes, see `cvjax.data.annotations.StoredObjects`.

    Raises:
      DataError: The folder holds no prepared data set, or it lacks the split.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        split: str,
        *,
        name: str | None = None,
        class_names: Sequence[str] | None = None,
        split_name: str | None = None,
        target: Target = "mask",
        first_label: int = 0,
        inclusive_boxes: bool = False,
        on_bad_boxes: OnBadBoxes = "error",
    ) -> None:
        import tensorflow_datasets as tfds  # Takes most of a second, which only readers need to spend.

        self._directory = os.fspath(directory)
        self._tfds_split = split
        self._records: Any = None
        if not os.path.isfile(os.path.join(self._directory, "dataset_info.json")):
            raise DataError(f"{self._directory}: no prepared data set is there; prepare it or mend the path.")
        builder = tfds.builder_from_directory(self._directory)
        splits: Mapping[str, Any] = builder.info.splits or {}
        try:
            self._length = int(splits[split].num_examples)
            self._parts = [(row.filename, row.skip, row.take) for row in splits[split].file_instructions]
        except (KeyError, ValueError) as error:
            present = ", ".join(sorted(splits)) or "none"
            raise DataError(
                f"{self._directory}: there is no split {split!r} (prepared: {present}); "
                "name one of these or prepare the data set again with it."
            ) from error
        self.name = name or builder.name
        self.split = split_name or split
        self.class_names = tuple(class_names or _class_names(builder, self._directory))[first_label:]
        self._target, self._first_label = target, first_label
        self._objects = StoredObjects(self.class_names, first_label, inclusive_boxes, on_bad_boxes)
        self.void: tuple[int, ...] = ()  # Preparation has already turned void labels into 255.

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self._length:
            raise IndexError(index)
        if self._records is None:
            self._records = self._open()
        try:
            # Reading three features from the protocol buffer is nearly twice as fast as TFDS's own decoding,
            # even with SkipDecoding.
            feature = self._parse(self._records[int(index)]).features.feature
            record: Record = {"image": feature["image"].bytes_list.value[0], "id": self._id(feature, index)}
            if self._target in ("mask", "objects"):
                record["mask"] = feature["mask"].bytes_list.value[0]
            if self._target in ("boxes", "objects"):
                record.update(cast(Record, self._objects(feature, record["image"], record["id"])._asdict()))
            if self._target == "label":
                record["label"] = feature["label"].int64_list.value[0] - self._first_label
        except DataError:
            raise
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise DataError(
                f"{self._directory}: record {index} of split {self.split!r} cannot be read ({error}); "
                "prepare the data set again."
            ) from error
        return record

    def files(self) -> list[str]:
        """Returns the paths of the prepared files."""
        return self.image_files()

    def image_files(self) -> list[str]:
        """Returns the paths of the files of the prepared set, of all splits."""
        return sorted(entry.path for entry in os.scandir(self._directory) if entry.is_file())

    def fingerprint(self) -> str:
        """Returns the digest of the split's files, with the part that is taken of each, and how they are read."""
        parts = [(os.path.basename(file), skip, take) for file, skip, take in self._parts]
        read = [self._target, self._first_label, self._objects.inclusive, self._objects.on_bad_boxes]
        paths = [os.path.join(self._directory, os.path.basename(file)) for file, _, _ in self._parts]
        return fingerprint_of(paths, parts=parts, read=read)

    def _id(self, feature: Any, index: int) -> str:
        for key in _ID_FEATURES:
            if key in feature:
                name = feature[key].bytes_list.value[0].decode()
                return os.path.splitext(name)[0] if key == "image/filename" else name
        return f"{self.split}-{index:06d}"

    def _open(self) -> Any:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.proto import tf_example_pb2

        builder = tfds.builder_from_directory(self._directory)
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        messages: Any = tf_example_pb2  # which protobuf fills when it is imported
        self._parse: Callable[[bytes], Any] = messages.Example.FromString
        open_records = cast(Callable[..., Any], builder.as_data_source)  # whose decorator hides its arguments
        return open_records(self._tfds_split, deserialize_method=raw)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_records": None, "_parse": None}

    def __repr__(self) -> str:
        return f"TfdsDataset({self._directory!r}, {self.split!r}, {len(self)} records)"


class FolderDataset:
    """Reads pairs of image and mask files where they lie.

    Args:
      name, split, class_names, void: Attributes that every dataset has.
      pairs: Id, image path and mask path of each example, in order.
      labels: Numbers in the masks and our labels for them, such as {0: 0, 255: 1}. Records then carry masks of our
        labels, and a mask with another number raises a DataError. Without it the masks are handed over as they are.
    """

    def __init__(
        self,
        name: str,
        split: str,
        pairs: Sequence[Files],
        *,
        class_names: Sequence[str],
        void: tuple[int, ...] = (),
        labels: Mapping[int, int] | None = None,
    ) -> None:
        self.name, self.split = name, split
        self.class_names, self.void = tuple(class_names), tuple(void)
        self.pairs = [(key, os.fspath(image), os.fspath(mask)) for key, image, mask in pairs]
        self.labels = None if labels is None else sorted(labels.items())
        self._table: np.ndarray | None = None
        if labels is not None:
            self._table = np.full(_NUMBERS, -1, np.int16)
            self._table[list(labels)] = list(labels.values())

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self.pairs):
            raise IndexError(index)
        key, image, mask = self.pairs[index]
        data = read_file(mask)
        if self._table is not None:
            data = self._relabel(data, mask, self._table)
        return {"image": read_file(image), "mask": data, "id": key}

    def _relabel(self, data: bytes, file: str, table: np.ndarray) -> bytes:
        numbers = decode_label_numbers(data, file)
        labels = table[numbers]
        unknown = labels < 0
        if unknown.any():
            raise NoClassError(
                f"{file}: {int(numbers[unknown][0])} is no label of {self.name}, whose masks hold"
                f" {_some(np.flatnonzero(table >= 0))}; mend the mask, or in a folder of your own name the"
                " label with --input.void."
            )
        return encode_mask(labels.astype(np.uint8))

    def fingerprint(self) -> str:
        """Returns the digest of the files, the order of the ids, and our labels for the numbers in the masks."""
        table = None if self._table is None else digest_of_arrays(self._table)
        return fingerprint_of(self.files(), ids=self.ids(), labels=table)

    def ids(self) -> list[str]:
        """Returns the ids in the order of the records."""
        return [key for key, *_ in self.pairs]

    def part(self, indices: Sequence[int], split: str) -> "FolderDataset":
        """Returns the dataset of some of the pairs, see `cvjax.data.part`."""
        part = copy.copy(self)
        for kept in ("_sizes", "_identity"):  # what other modules keep on a dataset
            part.__dict__.pop(kept, None)
        part.split, part.pairs = split, [self.pairs[index] for index in indices]
        return part

    def image_files(self) -> list[str]:
        """Returns the paths of the images' files in the order of the records."""
        return [image for _, image, _ in self.pairs]

    def header_size(self, index: int) -> tuple[int, int]:
        """Reads (height, width) of the upright image from its file's header."""
        return photo_size(self.pairs[index][1])

    def files(self) -> list[str]:
        """Returns the paths of all images and masks."""
        return [path for _, *paths in self.pairs for path in paths]

    def __repr__(self) -> str:
        return f"FolderDataset({self.name!r}, {self.split!r}, {len(self)} records)"


def image_sizes(source: Dataset, rows: range | None = None) -> list[tuple[int, int] | None]:
    """Returns (height, width) of the images in pixels, from the headers alone; None where one is unreadable.

    The loader reports unreadable records when it decodes them. The sizes of all images are kept on the dataset.

    Args:
      source: Dataset.
      rows: Indices of the images; all by default.
    """
    known = getattr(source, "_sizes", None)
    if known is None and rows is not None:
        return [_header_size(source, index) for index in rows]
    if known is None:
        known = [_header_size(source, index) for index in range(len(source))]
        source._sizes = known  # type: ignore[attr-defined]
    return known if rows is None else [known[index] for index in rows]


def max_size(source: Dataset) -> tuple[int, int]:
    """Returns the largest height and the largest width among the images in pixels; see `image_sizes`.

    Raises:
      DataError: No header could be read.
    """
    sizes = [size for size in image_sizes(source) if size is not None]
    if not sizes:
        raise DataError(f"{source.name}/{source.split}: no image's size can be read; check its files.")
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def held_out(split: str, present: Collection[str]) -> str:
    """Returns the name of the split that "val" means in a data set with the splits `present`.

    This is the first of "val", "validation", "valid" and "test" that is present. Any other split is returned as it is,
    and so is "val" if none of the four is present.
    """
    known = [name for name in _HELD_OUT if name in present]
    return known[0] if split == "val" and known else split


def prepared_dir(data_dir: pathlib.Path, name: str, config: str) -> pathlib.Path:
    """Returns the folder in which TFDS keeps a prepared data set of ours; it need not exist."""
    return pathlib.Path(data_dir) / name / config / PREPARED_VERSION


def _header_size(source: Dataset, index: int) -> tuple[int, int] | None:
    try:
        header_size = getattr(source, "header_size", None)
        if header_size is not None:
            return header_size(index)
        record = source[index]
        return image_size(record["image"], record["id"])
    except DataError:
        return None


def _class_names(builder: Any, directory: str) -> Sequence[str]:
    features = builder.info.features
    names = (builder.info.metadata or {}).get("class_names") or ("label" in features and features["label"].names)
    names = names or ("objects" in features and features["objects"]["label"].names)
    if not names:
        raise DataError(f"{directory}: the data set names no classes; pass class_names.")
    return names


def read_file(path: str, count: int = -1) -> bytes:
    """Reads the bytes of a record's file, or the first `count` of them.

    Raises:
      DataError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); restore the file or take it off the list."
        ) from error


def _some(numbers: np.ndarray) -> str:
    shown = [str(number) for number in numbers[:8]]
    return ", ".join(shown) + (", ..." if len(numbers) > len(shown) else "")
