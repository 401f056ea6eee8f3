"""Describes how PyTorch lays out an architecture's weights, and converts single arrays to our layout and back.

Convolutions are OIHW there and HWIO here. Linear layers are [out, in] there and [in, out] here. The inputs of a linear
layer that reads a flattened map are ordered channel, row, column there and row, column, channel here.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Mapping

import numpy as np

Table = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Describes the layout of an architecture's state dict; all keys are PyTorch's.

    Attributes:
      table: Rows of (pattern on our module path, PyTorch's module), see `cvjax.weights.names`.
      classes_key: Key of the last layer's weight, whose first axis counts the classes.
      input_key: Key of the first convolution's weight, whose second axis counts the image's channels.
      aux_prefix: Prefix of all keys of auxiliary classifiers; None for an architecture without an `aux` option.
      aux_classes_keys: Keys like `classes_key`, one for each auxiliary classifier.
      flattened: Map sizes (height, width) that linear layers read, by patterns of the weight's key. The weight is [H *
        W * C, O] here.
      windows: Kernel sizes (height, width) of convolutions that are dense layers here, by patterns of the weight's key.
        The weight is [H * W * C, O] here.
      renamed: Rows of (pattern, replacement) for keys that older published files spell otherwise.
      background: Number of the classes counted by `classes_key` that are not classes here: 1 for detectors.
      layout: Name of the library that uses this layout.
      others: Further layouts of the same architecture, such as timm's.
    """

    table: Table
    classes_key: str
    input_key: str
    aux_prefix: str | None = None
    aux_classes_keys: tuple[str, ...] = ()
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    windows: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    renamed: Table = ()
    background: int = 0
    layout: str = "torchvision"
    others: tuple["Architecture", ...] = ()

    @property
    def heads(self) -> tuple[str, ...]:
        """Returns the modules whose size follows the number of classes, the main one first."""
        return tuple(key.removesuffix(".weight") for key in (self.classes_key, *self.aux_classes_keys))

    def is_aux(self, key: str) -> bool:
        """Returns whether a key belongs to an auxiliary classifier."""
        return self.aux_prefix is not None and key.startswith(self.aux_prefix)

    def current_key(self, key: str) -> str:
        """Returns a key as the framework spells it now."""
        for pattern, replacement in self.renamed:
            key = re.sub(pattern, replacement, key)
        return key

    def to_flax(self, key: str, array: np.ndarray) -> np.ndarray:
        """Converts an array of PyTorch's to our layout."""
        flattened, window = _lookup(self.flattened, key), _lookup(self.windows, key)
        # An array of another size is not reshaped, so that the caller can report its shape.
        if flattened and array.ndim == 2 and array.shape[1] % (flattened[0] * flattened[1]) == 0:
            array = array.reshape(array.shape[0], -1, *flattened)
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
            return array.reshape(-1, array.shape[-1]) if flattened or window else array
        return array.T if array.ndim == 2 else array

    def to_torch(self, key: str, array: np.ndarray) -> np.ndarray:
        """Converts an array of ours to PyTorch's layout, which undoes `to_flax` bit for bit."""
        flattened, window = _lookup(self.flattened, key), _lookup(self.windows, key)
        sides = flattened or window
        if array.ndim == 2 and sides:
            array = array.reshape(*sides, -1, array.shape[-1])
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
            return array.reshape(array.shape[0], -1) if flattened else array
        return array.T if array.ndim == 2 else array


def _lookup(windows: Mapping[str, tuple[int, int]], key: str) -> tuple[int, int] | None:
    return next((window for pattern, window in windows.items() if fnmatch.fnmatchcase(key, pattern)), None)
