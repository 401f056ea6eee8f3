"""Writes weights under our own names, for nets that nobody else has, and reads them back.

A key is the path of a leaf, joined by "/": params/backbone/conv1_1/kernel. Arrays are as they are here. A file of its
own kind (.safetensors) says beside them which model it is of, with its options and the names of its classes.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from cvjax.errors import CheckpointError
from cvjax.storage import file_and_key
from cvjax.weights.convert import COLLECTIONS, Variables

LAYOUT = "cvjax"
"""Name of our own layout."""
_NOTE = "cvjax"


def to_own(variables: Variables) -> dict[str, np.ndarray]:
    """Returns the leaves of params and batch_stats by their paths; `from_own` undoes it bit for bit."""
    held = {key: variables[key] for key in COLLECTIONS if key in variables}
    return {"/".join(path): np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(held).items()}


def is_own(state_dict: Mapping[str, np.ndarray]) -> bool:
    """Returns whether a state dict is under our own names."""
    return bool(state_dict) and all(key.partition("/")[0] in COLLECTIONS and "/" in key for key in state_dict)


def from_own(state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Returns the variables of a state dict under our own names."""
    return traverse_util.unflatten_dict({tuple(key.split("/")): value for key, value in state_dict.items()})


def note(record: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a file says beside its arrays.

    Args:
      record: `model` (`name` and `options`), `num_classes`, and `class_names` and `preprocessing` where they are known.
    """
    return {_NOTE: json.dumps(record)}


def read_note(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Returns what a .safetensors file of ours says beside its arrays; None for another file.

    Raises:
      CheckpointError: The file is damaged.
    """
    place, _ = file_and_key(path)
    if place.suffix.lower() != ".safetensors":
        return None
    import safetensors  # late: `import cvjax.weights` needs no more than the models do

    try:
        with safetensors.safe_open(place, framework="np") as file:
            text = (file.metadata() or {}).get(_NOTE)
        return None if text is None else dict(json.loads(text))
    except Exception as error:  # the reader has kinds of its own
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error}); export it again") from error
