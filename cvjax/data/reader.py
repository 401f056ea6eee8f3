"""What the loader asks of a data set's decoding and transforms, and the reading of one example."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from cvjax.data.dataset import Dataset, Target
from cvjax.errors import DataError

Batch = dict[str, np.ndarray]
Record = Mapping[str, Any]
Decode = Callable[[Record], Mapping[str, Any]]
Augmented = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]
"""Image, target, and maybe further arrays of the example, by their names in the batch."""
Augment = Callable[[np.ndarray, Any, np.random.Generator], Augmented]
"""From a decoded image and its target to those of a fixed size; boxes come as `cvjax.data.annotations.Objects`."""


@runtime_checkable
class PerBatch(Protocol):
    """An `Augment` that is another for each batch, such as `MultiScale`."""

    def for_batch(self, seed: int, number: int) -> Augment:
        """What is done to the examples of a batch, by the stream's seed and the batch's number."""
        ...


class ResizeAndPad(Protocol):
    """A dataclass that brings a decoded example to the fixed size of an evaluation batch, such as `EvalTransform`.

    As in training, a further item of its results may name further arrays.

    Attributes:
      size: height and width of its result, in pixels.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def size(self) -> tuple[int, int]: ...

    def __call__(
        self, image: np.ndarray, target: Any, name: str, /
    ) -> (
        tuple[np.ndarray, np.ndarray, tuple[int, int]]
        | tuple[np.ndarray, np.ndarray, tuple[int, int], Mapping[str, np.ndarray]]
    ):
        """Image u8[*size,3], its target, the height and width that are not padding, and maybe further arrays."""
        ...

    def blank(self) -> Augmented:
        """Image, target, and the further arrays if there are any, of a row that stands for no example."""
        ...


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads and decodes one example; what the training and evaluation streams share.

    Attributes:
      source: the records.
      decode: record -> image and target.
      skip: pass damaged records over.
      target: the key of what `decode` gives beside the image.
    """

    source: Dataset
    decode: Decode
    skip: bool
    target: Target

    def read(self, index: int) -> tuple[np.ndarray, Any, str]:
        """Image u8[H,W,3], target and id of one record; DataError if it is damaged."""
        record = self.source[index]
        example = self.decode(record)
        return example["image"], example[self.target], record["id"]

    def empty_batch(
        self, rows: int, image: np.ndarray, target: np.ndarray, more: Mapping[str, np.ndarray] | None = None
    ) -> Batch:
        """A batch for examples of the same shapes as the one given, not filled in."""
        arrays = {"image": image, self.target: target, **(more or {})}
        return {
            **{name: np.empty((rows, *array.shape), array.dtype) for name, array in arrays.items()},
            "index": np.empty(rows, np.int32),
            "valid": np.empty(rows, np.bool_),
            "skipped": np.empty(rows, np.int32),
        }

    def fill(
        self,
        batch: Batch,
        row: int,
        image: np.ndarray,
        target: np.ndarray,
        more: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Put an example into a row of a batch."""
        for name, array in {"image": image, self.target: target, **(more or {})}.items():
            batch[name][row] = array

    def read_first_good(self, index: int) -> tuple[np.ndarray, Any, int, int]:
        """As `read`, passing over bad records if `skip`: image, target, index used, how many were bad."""
        length = len(self.source)
        last: DataError | None = None
        for skipped in range(length):
            used = (index + skipped) % length
            try:
                image, target, _ = self.read(used)
            except DataError as error:
                if not self.skip:
                    raise
                last = error
            else:
                return image, target, used, skipped
        raise DataError(f"{self.source.name}: none of its {length} records is readable; the last one: {last}")
