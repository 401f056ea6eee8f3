"""Turns variables of TensorFlow's, as numpy arrays, into Flax variables and back."""

import fnmatch
from collections.abc import Mapping

import jax
import numpy as np

from cvjax.errors import ConfigError
from cvjax.weights.convert import Variables, from_torch, to_torch
from cvjax.weights.layouts.tensorflow import LAYOUT, tensorflow_layout, torch_layout
from cvjax.weights.layouts.torchvision import ARCHITECTURES


def from_tensorflow(
    name: str,
    arrays: Mapping[str, np.ndarray],
    variables: Variables | None = None,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    key: jax.Array | None = None,
    adapt: bool = False,
) -> Variables:
    """Turns a checkpoint of TensorFlow's into Flax variables.

    `DEEPLABV3PLUS_OPTIONS` of `cvjax.weights.layouts.tensorflow` are the options with which the model computes what
    TensorFlow's does; parameters do not depend on them.

    Args:
      name: Name of the model: "deeplabv3plus_xception65".
      arrays: Arrays under TensorFlow's names, as of `read_bundle`. Counters and an optimizer's slots are passed over.
      variables, num_classes, in_channels, key, adapt: Arguments as for `from_torch`.

    Returns:
      {"params": ..., "batch_stats": ...}, float32.

    Raises:
      ConfigError: No conversion is known for the model, or a head is replaced without `key`.
      CheckpointError: Entries are unknown, missing or mis-shaped; all are listed in one message.
    """
    _check_known(name)
    state = torch_layout(arrays)
    return from_torch(name, state, variables, num_classes=num_classes, in_channels=in_channels, key=key, adapt=adapt)


def to_tensorflow(name: str, variables: Variables) -> dict[str, np.ndarray]:
    """Turns Flax variables into arrays under TensorFlow's names, which undoes `from_tensorflow` bit for bit.

    Raises:
      ConfigError: No conversion is known for the model.
      CheckpointError: Parameters do not exist in TensorFlow's model; all are listed.
    """
    _check_known(name)
    return tensorflow_layout(to_torch(name, variables, layout=LAYOUT))


def _check_known(name: str) -> None:
    known = [key for key, first in ARCHITECTURES.items() if any(a.layout == LAYOUT for a in (first, *first.others))]
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known):
        raise ConfigError(f"there is no conversion from TensorFlow for {name!r}; there is one for {', '.join(known)}")
