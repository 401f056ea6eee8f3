"""State dicts of a model with other classes, other image channels or other auxiliary classifiers than wanted."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cvjax.weights.architecture import Architecture


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A state dict that fits but for what it lacks.

    Attributes:
      state_dict: with the first convolution adapted, and without what the wanted model does not have.
      lacking: keys that the wanted model has and for which there are no weights.
      notes: a sentence for each difference.
    """

    state_dict: dict[str, np.ndarray]
    lacking: frozenset[str]
    notes: tuple[str, ...]


def adapt_state_dict(
    architecture: Architecture, state_dict: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> Adapted:
    """Brings a state dict to a model that differs in its heads or in its image channels; all else stays as it is.

    Args:
      architecture: the layout of the state dict.
      state_dict: arrays under PyTorch's keys.
      shapes: of the wanted leaves in our layout, under PyTorch's keys.
    """
    state, lacking, notes = dict(state_dict), set(), []
    if any(map(architecture.is_aux, state)) != any(map(architecture.is_aux, shapes)):
        there = [key for key in state if architecture.is_aux(key)]
        notes.append(
            f"the auxiliary classifiers' weights ({len(there)} entries) are left out"
            if there
            else "the state dict has no auxiliary classifiers: theirs are fresh weights, which need training"
        )
        lacking |= {key for key in shapes if architecture.is_aux(key)}
        state = {key: value for key, value in state.items() if not architecture.is_aux(key)}
    for head in architecture.heads:
        key = f"{head}.weight"
        of_head = {k for k in {*state, *shapes} if k.startswith(f"{head}.")} - lacking
        same = key in state and key in shapes and state[key].shape[0] == shapes[key][-1]
        if same or not of_head:  # what else is wrong with it is an error
            continue
        if key not in shapes:
            notes.append(f"the head {head} is left out")
        else:
            before = f"the {state[key].shape[0]} of the state dict" if key in state else "none"
            notes.append(
                f"the head {head} is replaced: {shapes[key][-1]} classes for {before}; its weights are fresh and"
                " need training"
            )
            lacking |= of_head & set(shapes)
        state = {k: value for k, value in state.items() if k not in of_head}
    first = architecture.input_key
    if first in state and first in shapes and state[first].ndim == len(shapes[first]) == 4:
        before, after = state[first].shape[1], shapes[first][2]
        if before != after:
            state[first] = adapted_input(state[first], after)
            how = "by summing over them" if after == 1 else f"by repeating them, times {before}/{after}"
            notes.append(f"the first convolution, {first}, is adapted from {before} to {after} image channels {how}")
    return Adapted(state, frozenset(lacking), tuple(notes))


def adapted_input(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The kernel of a first convolution for another number of image channels, as timm adapts it.

    For one channel the kernel is summed, so that gray images give what they gave as color images. For others it is
    repeated and scaled, so that the channels together weigh as much as before.

    Args:
      kernel: [O, I, H, W].
      channels: of the images.

    Returns:
      [O, channels, H, W], of the same type.
    """
    before = kernel.shape[1]
    if channels == 1:
        return kernel.sum(axis=1, keepdims=True, dtype=kernel.dtype)
    repeated = np.tile(kernel, (1, -(-channels // before), 1, 1))[:, :channels]
    return (repeated * (before / channels)).astype(kernel.dtype)
