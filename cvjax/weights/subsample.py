"""Thins out VGG's dense layers for DeepLab v1 and v2 by taking evenly spaced taps and channels.

The authors start from ImageNet weights in this way (1412.7062, section 3.1). Of fc6's 7x7 taps 3x3 stay: the first, the
middle and the last along either axis. Of its 4,096 channels and of fc7's every fourth stays. Nothing makes up for the
loss: activations come out smaller, and training finds its way. The authors' own file, `vgg_16_fc_reduced`, has these
layers already, and every branch of DeepLab v2 takes them as they are.
"""

import logging
from typing import Any

import jax.numpy as jnp
import numpy as np

from cvjax.errors import CheckpointError
from cvjax.weights.convert import StateDict
from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.layouts.torchvision import torch_key

_LOG = logging.getLogger("cvjax.weights")
_LAYERS = ("fc6", "fc7")


def is_branch(name: str) -> bool:
    """Returns whether a backbone's module has thinned-out dense layers.

    Such modules are those of `cvjax.models.segmentation.atrous_vgg`.
    """
    return name.startswith("branch_")


def subsample_branch(
    name: str, layers: dict[str, Any], architecture: Architecture, state_dict: StateDict
) -> dict[str, Any]:
    """Makes the weights of a branch from those of a VGG.

    Args:
      name: Name of the classifier, for messages.
      layers: {"fc6": {"kernel": [k, k, C, hidden], "bias"}, "fc7": {"kernel": [1, 1, hidden, hidden], "bias"}}.
      architecture: Layout of the state dict.
      state_dict: State dict of the classifier.

    Returns:
      A tree like `layers`, with new leaves of the same shapes and dtypes.

    Raises:
      CheckpointError: The state dict has no such layers, or its layers are smaller than wanted.
    """
    kernels, biases = {}, {}
    for layer in _LAYERS:
        keys = [torch_key(("head", layer, leaf), architecture.table) for leaf in ("kernel", "bias")]
        present = [key for key in keys if key is not None and key in state_dict]
        lacking = [str(key) for key in keys if key not in present]
        if lacking:
            raise CheckpointError(
                f"the dense layers {', '.join(lacking)} of {name} are missing, from which the net's fc6 and fc7 "
                "start; take a state dict with the classifier"
            )
        kernel, bias = present
        array = architecture.to_flax(kernel, np.asarray(state_dict[kernel]))
        kernels[layer] = array.reshape(-1, array.shape[-1])  # [window * window * C, O]
        biases[layer] = np.asarray(state_dict[bias])
    side, _, channels, hidden = layers["fc6"]["kernel"].shape
    window = round((kernels["fc6"].shape[0] / channels) ** 0.5)
    dense = kernels["fc6"].shape[1]
    if window**2 * channels != kernels["fc6"].shape[0] or window < side or dense < hidden:
        raise CheckpointError(
            f"fc6 of {name} has {kernels['fc6'].shape[0]} inputs and {dense} channels, from which {side}x{side} taps "
            f"of {channels} and {hidden} channels cannot be taken; lower the model's kernel_size, hidden or widths"
        )
    taps, kept = _spread_taps(side, window), np.arange(hidden) * dense // hidden
    fc6 = kernels["fc6"].reshape(window, window, channels, dense)[taps][:, taps][..., kept]
    fc7 = kernels["fc7"][np.ix_(kept, kept)][None, None]
    taken = {
        "fc6": {"kernel": fc6, "bias": biases["fc6"][kept]},
        "fc7": {"kernel": fc7, "bias": biases["fc7"][kept]},
    }
    sizes = (window, window, dense, side, side, hidden)
    if (window, dense) != (side, hidden):
        _LOG.warning("%s: of fc6's %dx%d taps and %d channels, %dx%d and %d are taken", name, *sizes)
    return {
        layer: {leaf: jnp.asarray(taken[layer][leaf], old.dtype) for leaf, old in leaves.items()}
        for layer, leaves in layers.items()
    }


def _spread_taps(count: int, window: int) -> np.ndarray:
    """Returns `count` indices from 0 to window - 1, evenly spaced from end to end; a single one is the middle."""
    if count == 1:
        return np.array([window // 2])
    return np.round(np.linspace(0, window - 1, count)).astype(int)
