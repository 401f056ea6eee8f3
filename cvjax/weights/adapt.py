"""Adapts the state dict of a model with other classes, image channels or auxiliary classifiers than wanted."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cvjax.weights.layouts.architecture import Architecture


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Holds a state dict that fits the wanted model, except for the keys that it lacks.

    Attributes:
      state_dict: State dict with the first convolution adapted, and without entries that the wanted model does not
        have.
      lacking: Keys of the wanted model for which there are no weights.
      notes: Sentences, one for each difference.
    """

    state_dict: dict[str, np.ndarray]
    lacking: frozenset[str]
    notes: tuple[str, ...]


def adapt_state_dict(
    architecture: Architecture, state_dict: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> Adapted:
    """Adapts a state dict to a model that differs in its heads or in its image channels; all else stays as it is.

    Args:
      architecture: Layout of the state dict.
      state_dict: Arrays under PyTorch's keys.
      shapes: Shapes of the wanted leaves in our layout, under PyTorch's keys.
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
    """Adapts the kernel of a first convolution to another number of image channels, as timm does.

    For one channel the kernel is summed, so that gray images give the same result as they gave as color images. For
    other numbers it is repeated and scaled, so that the channels together weigh as much as before.

    Args:
      kernel: Kernel, [O, I, H, W].
      channels: Number of the images' channels.

    Returns:
      The adapted kernel, [O, channels, H, W], of the same type.
    """
    before = kernel.shape[1]
    if channels == 1:
        return kernel.sum(axis=1, keepdims=True, dtype=kernel.dtype)
    repeated = np.tile(kernel, (1, -(-channels // before), 1, 1))[:, :channels]
    return (repeated * (before / channels)).astype(kernel.dtype)
