"""Puts what published detectors hold and ours have no place for into other layers, and says so."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cvjax.errors import CheckpointError
from cvjax.weights.layouts.architecture import Fold

StateDict = Mapping[str, np.ndarray]
Folded = tuple[dict[str, np.ndarray], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Chain:
    """Applies several folds one after another.

    Attributes:
      folds: Folds in the order in which they are applied to a publisher's state dict.
    """

    folds: tuple[Fold, ...]

    def fold(self, state_dict: StateDict) -> Folded:
        """Returns the state dict after all folds, and the sentences of all."""
        folded, said = dict(state_dict), ()
        for part in self.folds:
            folded, notes = part.fold(folded)
            said += notes
        return folded, said

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Undoes the folds, the last one first."""
        unfolded = dict(state_dict)
        for part in reversed(self.folds):
            unfolded = part.unfold(unfolded)
        return unfolded


@dataclasses.dataclass(frozen=True)
class Objectness:
    """Turns two scores of an anchor, of background and of an object, into their difference.

    A softmax of the two is a sigmoid of the difference. Back, background scores 0 and the object has the difference,
    which this turns into the same bits again.

    Attributes:
      layer: Name of the layer with the scores.
      side_by_side: Whether the two scores of an anchor lie side by side. Otherwise those of background come first.
    """

    layer: str
    side_by_side: bool = False

    def fold(self, state_dict: StateDict) -> Folded:
        """Returns the state dict with one row an anchor in this layer, and a sentence."""
        folded, said = dict(state_dict), ()
        for key in self._keys(folded):
            array = folded[key]
            if len(array) % 2 == 0:
                pairs = array.reshape(-1, 2, *array.shape[1:]) if self.side_by_side else None
                background, objects = np.split(array, 2) if pairs is None else (pairs[:, 0], pairs[:, 1])
                folded[key] = objects - background
                said = (f"{self.layer} has one row an anchor now, that of an object less that of background",)
        return folded, said

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Returns the state dict with two rows an anchor, where those of background are 0."""
        unfolded = dict(state_dict)
        for key in self._keys(unfolded):
            objects = unfolded[key]
            pair = (np.zeros_like(objects), objects)
            unfolded[key] = (
                np.stack(pair, 1).reshape(-1, *objects.shape[1:]) if self.side_by_side else np.concatenate(pair)
            )
        return unfolded

    def _keys(self, state_dict: StateDict) -> list[str]:
        return [key for key in (f"{self.layer}.weight", f"{self.layer}.bias") if key in state_dict]


@dataclasses.dataclass(frozen=True)
class HalvedInputs:
    """Halves the weights of layers whose inputs are halved in a test.

    ZF of py-faster-rcnn has its dropout without `scale_train`: what it keeps in training is not doubled. Halves and
    doubles are exact, so nothing is lost.

    Attributes:
      layers: Names of the layers.
    """

    layers: tuple[str, ...]

    def fold(self, state_dict: StateDict) -> Folded:
        """Returns the state dict with halved weights, and a sentence."""
        names = ", ".join(self.layers)
        return self._times(state_dict, 0.5), (f"the weights of {names} are halved, as their inputs are in the release",)

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Returns the state dict with doubled weights."""
        return self._times(state_dict, 2.0)

    def _times(self, state_dict: StateDict, factor: float) -> dict[str, np.ndarray]:
        keys = {f"{layer}.weight" for layer in self.layers}
        return {key: value * np.float32(factor) if key in keys else value for key, value in state_dict.items()}


@dataclasses.dataclass(frozen=True)
class BoxRows:
    """Normalizes a layer that predicts the changes of boxes, and leaves out the background's.

    Fast R-CNN's training multiplies this layer's rows by the deviations of its targets before it saves them.

    Attributes:
      layer: Name of the layer, four rows a class.
      weights: Inverse deviations, by which the rows are multiplied here.
      background: Whether our layer has rows of the background.
    """

    layer: str
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    background: bool = True

    def fold(self, state_dict: StateDict) -> Folded:
        """Returns the state dict with normalized rows, and a sentence."""
        folded = dict(state_dict)
        if not self._arrays(folded):
            return folded, ()
        for key, array in self._arrays(folded):
            folded[key] = (array * self._factors(array))[0 if self.background else 4 :]
        said = f"the rows of {self.layer} are multiplied by {', '.join(f'{weight:g}' for weight in self.weights)}"
        return folded, (said if self.background else f"{said}, and the background's are left out",)

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Returns the state dict with rows as the publisher has them; those of background are 0 where ours lack."""
        unfolded = dict(state_dict)
        for key, array in self._arrays(unfolded):
            front = array[:0] if self.background else np.zeros((4, *array.shape[1:]), array.dtype)
            unfolded[key] = np.concatenate([front, array / self._factors(array)])
        return unfolded

    def _arrays(self, state_dict: StateDict) -> list[tuple[str, np.ndarray]]:
        keys = (f"{self.layer}.weight", f"{self.layer}.bias")
        return [(key, state_dict[key]) for key in keys if key in state_dict and len(state_dict[key]) % 4 == 0]

    def _factors(self, array: np.ndarray) -> np.ndarray:
        column = np.tile(np.asarray(self.weights, np.float32), len(array) // 4)
        return column.reshape(-1, *(1,) * (array.ndim - 1))


@dataclasses.dataclass(frozen=True)
class Unfitted:
    """Fills in the stages of R-CNN and SPPnet that no file of the net holds: zeros, as before they are fitted.

    Attributes:
      classes: Name of the layer that tells classes and background apart.
      pooled: Name of the first dense layer, which reads what the regressor reads.
      svm, regressor: Names that the two stages have in the state dict.
    """

    classes: str
    pooled: str = "fc6"
    svm: str = "svm"
    regressor: str = "regressor"

    def fold(self, state_dict: StateDict) -> Folded:
        """Returns the state dict with zeros for both stages, and a sentence."""
        classes, first = (state_dict.get(f"{layer}.weight") for layer in (self.classes, self.pooled))
        if classes is None or first is None or classes.ndim != 2 or first.ndim != 2:
            return dict(state_dict), ()
        count = len(classes) - 1
        zeros = {
            f"{layer}.{kind}": np.zeros(shape, np.float32)
            for layer, rows, inputs in (
                (self.svm, count, classes.shape[1]),
                (self.regressor, 4 * count, first.shape[1]),
            )
            for kind, shape in (("weight", (rows, inputs)), ("bias", (rows,)))
        }
        return dict(state_dict) | zeros, ("the support vector machines and the boxes' regressor are zero: fit them",)

    def unfold(self, state_dict: StateDict) -> dict[str, np.ndarray]:
        """Returns the state dict without both stages.

        Raises:
          CheckpointError: They are fitted, and would be lost.
        """
        stages = {f"{layer}.{kind}" for layer in (self.svm, self.regressor) for kind in ("weight", "bias")}
        fitted = sorted(key for key in stages & set(state_dict) if np.any(state_dict[key]))
        if fitted:
            raise CheckpointError(
                f"the release's file of the net has no place for {', '.join(fitted)}, and these are not 0"
            )
        return {key: value for key, value in state_dict.items() if key not in stages}
