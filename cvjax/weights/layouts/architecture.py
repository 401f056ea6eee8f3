"""Describes how PyTorch or Caffe lays out an architecture's weights, and converts single arrays to ours and back.

Convolutions are OIHW there and HWIO here. Linear layers are [out, in] there and [in, out] here. The inputs of a linear
layer that reads a flattened map are ordered channel, row, column there and row, column, channel here. Transposed
convolutions are IOHW there and HWIO here, and turned by 180 degrees, because ours is a convolution of the spread map.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from cvjax.models.info import Preprocessing

Table = tuple[tuple[str, str], ...]
Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Describes the layout of an architecture's state dict; all keys are PyTorch's.

    Attributes:
      table: Rows of (pattern on our module path, PyTorch's module), see `cvjax.weights.layouts.torchvision`.
      classes_key: Key of the last layer's weight, whose first axis counts the classes.
      input_key: Key of the first convolution's weight, whose second axis counts the image's channels.
      aux_prefix: Prefix or prefixes of all keys of auxiliary classifiers; None for an architecture without an `aux`
        option.
      aux_classes_keys: Keys like `classes_key`, one for each auxiliary classifier.
      flattened: Map sizes (height, width) that linear layers read, by patterns of the weight's key. The weight is [H *
        W * C, O] here.
      windows: Kernel sizes (height, width) of convolutions that are dense layers here, by patterns of the weight's key.
        The weight is [H * W * C, O] here.
      renamed: Rows of (pattern, replacement) for keys that older published files spell otherwise.
      background: Number of the classes counted by `classes_key` that are not classes here: 1 for detectors.
      layout: Name of the library or repository that uses this layout; of one model all differ.
      counts: Whether PyTorch's count of batches is beside each BatchNorm.
      others: Further layouts of the same architecture, such as timm's.
      sign: Key that tells the layout from another one with the same classes_key and input_key.
      sign_shape: Shape of the array under this key, where layouts differ in it.
      options: Fields of our model with which it computes what the publisher's does, where they are not the default.
      turned: Patterns of keys of transposed convolutions.
      rolled: Number of places by which the publisher's input channels are rolled to stand in our order, by patterns of
        keys: where a layer reads a concatenation, the order of its parts differs.
      reorder: Permutations between the publisher's arrays and ours that no other field expresses.
      fold: What our net has no place for, and how it is put into other layers.
      preprocessing: What the publisher's weights expect of an image, where it is not our default.
    """

    table: Table
    classes_key: str
    input_key: str
    aux_prefix: str | tuple[str, ...] | None = None
    aux_classes_keys: tuple[str, ...] = ()
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    windows: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    renamed: Table = ()
    background: int = 0
    layout: str = "torchvision"
    counts: bool = True
    others: tuple["Architecture", ...] = ()
    sign: str | None = None
    sign_shape: tuple[int, ...] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    turned: tuple[str, ...] = ()
    rolled: Mapping[str, int] = dataclasses.field(default_factory=dict)
    reorder: "Reorder | None" = None
    fold: "Fold | None" = None
    preprocessing: Preprocessing | None = None

    @property
    def heads(self) -> tuple[str, ...]:
        """Returns the modules whose size follows the number of classes, the main one first."""
        return tuple(key.removesuffix(".weight") for key in (self.classes_key, *self.aux_classes_keys))

    def likeness(self, state_dict: Mapping[str, np.ndarray]) -> int:
        """Returns how many of the keys that tell this layout from others a state dict has."""
        if self.sign is not None and self.sign not in state_dict:
            return 0
        if self.sign is not None and self.sign_shape not in (None, state_dict[self.sign].shape):
            return 0
        return sum(key in state_dict for key in (self.classes_key, self.input_key, self.sign))

    def is_aux(self, key: str) -> bool:
        """Returns whether a key belongs to an auxiliary classifier."""
        return self.aux_prefix is not None and key.startswith(self.aux_prefix)

    def current_key(self, key: str) -> str:
        """Returns a key as the framework spells it now."""
        for pattern, replacement in self.renamed:
            key = re.sub(pattern, replacement, key)
        return key

    def current(self, state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the entries of a state dict under today's keys."""
        return {self.current_key(key): np.asarray(value) for key, value in state_dict.items()}

    def folded(self, current: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Returns entries under today's keys as our net has places for them, and a sentence for each that was moved."""
        return (dict(current), ()) if self.fold is None else self.fold.fold(current)

    def unmet(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options that weights of this layout need and a net lacks, by their names with dots.

        Args:
          given: Options of the net that differ from the defaults.
          defaults: Options of the net where none are given; that of a part is a value with the fields of the part.
        """
        lacking = {}
        for option, value in self.options.items():
            held, default = given.get(option), defaults.get(option)
            if not isinstance(value, Mapping):
                lacking |= {} if (default if held is None else held) == value else {option: value}
                continue
            fields = held if isinstance(held, Mapping) else {}
            for field, wanted in value.items():
                has = fields[field] if field in fields else getattr(default, field, None)
                lacking |= {} if has == wanted else {f"{option}.{field}": wanted}
        return lacking

    def to_flax(self, key: str, array: np.ndarray) -> np.ndarray:
        """Converts an array of the publisher's to our layout."""
        if self.reorder is not None:
            array = self.reorder.to_ours(key, array)
        places = _lookup(self.rolled, key)
        if places is not None and array.ndim >= 2:
            array = np.roll(array, places, axis=1)
        if array.ndim == 4 and _matches(self.turned, key):
            return array.transpose(2, 3, 0, 1)[::-1, ::-1]
        # A classifier's dense layer has the numbers of a convolution in the same order, and so FCN takes it.
        sides = _lookup(self.flattened, key) or _lookup(self.windows, key)
        # An array of another size is not reshaped, so that the caller can report its shape.
        if sides and array.ndim == 2 and array.shape[1] % (sides[0] * sides[1]) == 0:
            array = array.reshape(array.shape[0], -1, *sides)
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
            return array.reshape(-1, array.shape[-1]) if sides else array
        return array.T if array.ndim == 2 else array

    def to_torch(self, key: str, array: np.ndarray) -> np.ndarray:
        """Converts an array of ours to the publisher's layout, which undoes `to_flax` bit for bit."""
        if array.ndim == 4 and _matches(self.turned, key):
            array = array[::-1, ::-1].transpose(2, 3, 0, 1)
        else:
            array = self._to_theirs(key, array)
        places = _lookup(self.rolled, key)
        if places is not None and array.ndim >= 2:
            array = np.roll(array, -places, axis=1)
        return array if self.reorder is None else self.reorder.to_theirs(key, array)

    def _to_theirs(self, key: str, array: np.ndarray) -> np.ndarray:
        flattened, window = _lookup(self.flattened, key), _lookup(self.windows, key)
        sides = flattened or window
        if array.ndim == 2 and sides:
            array = array.reshape(*sides, -1, array.shape[-1])
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
            return array.reshape(array.shape[0], -1) if flattened else array
        return array.T if array.ndim == 2 else array


class Reorder(Protocol):
    """Permutes the entries of single arrays."""

    def to_ours(self, key: str, array: np.ndarray) -> np.ndarray:
        """Returns a publisher's array in our order of entries; one of another shape as it is."""
        ...

    def to_theirs(self, key: str, array: np.ndarray) -> np.ndarray:
        """Undoes `to_ours` bit for bit."""
        ...


class Fold(Protocol):
    """Turns a publisher's state dict into one that our net has a place for, and back."""

    def fold(self, state_dict: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Returns the state dict without what our net lacks, and a sentence for each thing that was put elsewhere."""
        ...

    def unfold(self, state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns a state dict that the publisher's net takes, and that `fold` turns into this one."""
        ...


def _lookup(found: Mapping[str, Found], key: str) -> Found | None:
    return next((value for pattern, value in found.items() if fnmatch.fnmatchcase(key, pattern)), None)


def _matches(patterns: tuple[str, ...], key: str) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
