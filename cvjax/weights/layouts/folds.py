"""Puts what our nets have no place for into layers that they have, and says so."""

import dataclasses
import fnmatch
from collections.abc import Mapping

import numpy as np

StateDict = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class StemBias:
    """Folds the bias of a convolution into the mean of the BatchNorm behind it.

    MSRA's ResNet-50 has such a bias in its first convolution; its deeper nets have none.

    Attributes:
      conv: Name of the convolution.
      norm: Name of the BatchNorm.
    """

    conv: str
    norm: str

    def fold(self, state_dict: StateDict) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Returns the state dict without the bias, and a sentence if there was one."""
        folded = dict(state_dict)
        bias, mean = folded.pop(f"{self.conv}.bias", None), f"{self.norm}.running_mean"
        if bias is None or mean not in folded:
            return dict(state_dict), ()
        folded[mean] = folded[mean] - bias
        return folded, (f"the bias of {self.conv} is in the mean of {self.norm} now",)

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Returns the state dict as it is: a net without the bias computes the same."""
        return dict(state_dict)


@dataclasses.dataclass(frozen=True)
class Factors:
    """Takes out layers that multiply a map by one number for good; our net has the number as an option.

    Attributes:
      layers: Number and channels of each layer.
    """

    layers: Mapping[str, tuple[float, int]]

    def fold(self, state_dict: StateDict) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Returns the state dict without the layers; one that does not hold its number stays, and is reported."""
        folded = dict(state_dict)
        for layer, (number, _) in self.layers.items():
            if np.all(folded.get(f"{layer}.weight", np.nan) == np.float32(number)):
                del folded[f"{layer}.weight"]
        return folded, ()

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Returns the state dict with the layers."""
        return dict(state_dict) | {
            f"{layer}.weight": np.full(count, number, np.float32) for layer, (number, count) in self.layers.items()
        }


@dataclasses.dataclass(frozen=True)
class Unused:
    """Takes out what a publisher's files hold beside what the net computes with.

    Attributes:
      patterns: Patterns of the keys.
    """

    patterns: tuple[str, ...]

    def fold(self, state_dict: StateDict) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Returns the state dict without these keys, and a sentence if there were some."""
        unused = [key for key in state_dict if any(fnmatch.fnmatchcase(key, pattern) for pattern in self.patterns)]
        kept = {key: value for key, value in state_dict.items() if key not in unused}
        return kept, ((f"the net does not use {', '.join(unused)}; they are left out",) if unused else ())

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Returns the state dict as it is: a net without them computes the same."""
        return dict(state_dict)
