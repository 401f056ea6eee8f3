"""Defines the decoding and transforms that the loader expects of a data set, and reads single examples."""

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
    """Gives each batch an `Augment` of its own, as `MultiScale` does."""

    def for_batch(self, seed: int, number: int) -> Augment:
        """Returns the `Augment` for the examples of a batch, by the stream's seed and the batch's number."""
        ...


class ResizeAndPad(Protocol):
    """Brings a decoded example to the fixed size of an evaluation batch, as `EvalTransform` does.

    It is a dataclass. As in training, a further item of its results may name further arrays.

    Attributes:
      size: Height and width of its result, in pixels.
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
        """Returns image u8[*size,3], target, height and width without padding, and maybe further arrays."""
        ...

    def blank(self) -> Augmented:
        """Returns image, target, and any further arrays of a row that stands for no example."""
        ...


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads and decodes one example; the training and evaluation streams share it.

    Attributes:
      source: Dataset with the records.
      decode: Function from a record to its image and target.
      skip: Whether to pass over damaged records.
      target: Key of the target in the result of `decode`.
    """

    source: Dataset
    decode: Decode
    skip: bool
    target: Target

    def read(self, index: int) -> tuple[np.ndarray, Any, str]:
        """Reads image u8[H,W,3], target and id of one record.

        Raises:
          DataError: The record is damaged.
        """
        record = self.source[index]
        example = self.decode(record)
        return example["image"], example[self.target], record["id"]

    def empty_batch(
        self, rows: int, image: np.ndarray, target: np.ndarray, more: Mapping[str, np.ndarray] | None = None
    ) -> Batch:
        """Returns a batch, not filled in, for examples of the same shapes as the given one."""
        # Grain's `batch` joins examples that are made one by one. Here one worker makes a whole batch, so that a batch
        # can have a transform of its own and is handed over once.
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
        """Puts an example into a row of a batch."""
        for name, array in {"image": image, self.target: target, **(more or {})}.items():
            batch[name][row] = array

    def read_first_good(self, index: int) -> tuple[np.ndarray, Any, int, int]:
        """Reads an example as `read` does, passing over damaged records if `skip` is set.

        Returns:
          Image, target, index of the record that was read, and number of damaged records before it.

        Raises:
          DataError: The record is damaged, or with `skip` all records are.
        """
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
