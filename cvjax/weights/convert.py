"""PyTorch state dicts, as numpy arrays, into Flax variables."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.weights.names import ARCHITECTURES, RESNET, torch_key

StateDict = Mapping[str, np.ndarray]
Variables = dict[str, Any]
# Counts BatchNorm's updates in PyTorch; nothing here depends on it.
_IGNORED = "num_batches_tracked"


def from_torch(name: str, state_dict: StateDict, variables: Variables | None = None) -> Variables:
    """Turns torchvision's weights for a model into Flax variables.

    Args:
      name: of `cvjax.list_models()`: a classifier, or a `deeplabv3_resnet*`.
      state_dict: arrays under PyTorch's keys: OIHW for convolutions, [out, in] for linear layers.
      variables: what `model.init` gave, to be filled (other collections are kept); None builds them for the
        number of classes, and the auxiliary head, that the state dict has.

    Returns:
      {"params": ..., "batch_stats": ...}, float32, for any output stride and dtype of the model.

    Raises:
      ConfigError: a model that no conversion is known for.
      CheckpointError: unknown, missing or mis-shaped entries, all listed in one message.
    """
    table, classes_key, aux_prefix = architecture(name)
    if variables is None:
        if classes_key not in state_dict:
            raise CheckpointError(
                f"the state dict for {name} lacks {classes_key}, so its classes are unknown"
            )
        options = {}
        if aux_prefix is not None:
            options["aux"] = any(key.startswith(aux_prefix) for key in state_dict)
        model = create_model(name, num_classes=state_dict[classes_key].shape[0], **options)
        images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return _fill(name, variables, table, state_dict)


def load_backbone(variables: Variables, state_dict: StateDict, name: str) -> Variables:
    """Puts the weights of an ImageNet classifier into the `backbone` of a segmentation model.

    Args:
      variables: what `model.init` gave, with a subtree `backbone` in `params` and `batch_stats`.
      state_dict: of the classifier, under torchvision's keys; its last layer `fc` is dropped.
      name: of the classifier, such as "resnet50".

    Returns:
      New variables: the backbone from the state dict, everything else as it was.

    Raises:
      ConfigError: a classifier that is not a ResNet, or variables without a backbone.
      CheckpointError: unknown, missing or mis-shaped entries, all listed in one message.
    """
    table, _, _ = architecture(name)
    if table is not RESNET:
        raise ConfigError(f"load_backbone takes the weights of a classifier such as resnet50, not of {name}")
    if "backbone" not in variables.get("params", {}):
        raise ConfigError("these variables have no 'backbone'; for a classifier itself use from_torch")
    collections = ("params", "batch_stats")
    backbone = {key: variables[key]["backbone"] for key in collections}
    trunk = {key: value for key, value in state_dict.items() if not key.startswith("fc.")}
    filled = _fill(name, backbone, table, trunk)
    return {
        **variables,
        **{key: {**variables[key], "backbone": filled[key]} for key in collections},
    }


def architecture(name: str) -> tuple[tuple[tuple[str, str], ...], str, str | None]:
    """A model's entry in `cvjax.weights.names.ARCHITECTURES`.

    Raises:
      ConfigError: a model that no conversion is known for.
    """
    for pattern, architecture in ARCHITECTURES.items():
        if fnmatch.fnmatchcase(name, pattern):
            return architecture
    known = ", ".join(ARCHITECTURES)
    raise ConfigError(f"there is no conversion from PyTorch for {name!r}; there is one for {known}")


def _fill(
    name: str, variables: Variables, table: tuple[tuple[str, str], ...], state_dict: StateDict
) -> Variables:
    """Replaces every leaf of params and batch_stats by its entry in the state dict."""
    missing, misshaped, used, arrays = [], [], set(), {}
    converted = {key: variables[key] for key in ("params", "batch_stats")}
    for path, leaf in traverse_util.flatten_dict(converted).items():
        key = torch_key(path[1:], table)
        if key is None:
            missing.append(f"(nothing in PyTorch is called {'/'.join(path[1:])})")
            continue
        if key not in state_dict:
            missing.append(key)
            continue
        used.add(key)
        array = _to_flax(np.asarray(state_dict[key]), path[-1])
        if array.shape != leaf.shape:
            misshaped.append(f"{key} {tuple(state_dict[key].shape)}, as ours {array.shape} for {leaf.shape}")
            continue
        arrays[path] = jnp.asarray(array, leaf.dtype)
    unknown = [key for key in state_dict if key not in used and not key.endswith(_IGNORED)]
    faults = {"missing": missing, "unknown": unknown, "mis-shaped": misshaped}
    if any(faults.values()):
        listing = "; ".join(f"{kind}: {', '.join(sorted(keys))}" for kind, keys in faults.items() if keys)
        raise CheckpointError(f"the state dict does not fit {name}; {listing}")
    return {**variables, **traverse_util.unflatten_dict(arrays)}


def _to_flax(array: np.ndarray, leaf: str) -> np.ndarray:
    if leaf == "kernel" and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)  # OIHW -> HWIO
    if leaf == "kernel" and array.ndim == 2:
        return array.T
    return array
