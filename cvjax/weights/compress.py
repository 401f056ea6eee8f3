"""Dense layers made thin by truncated singular value decomposition (Fast R-CNN, 1504.08083, section 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cvjax.errors import ConfigError

_LAYERS = ("fc6", "fc7")


def compress(variables: Mapping[str, Any], ranks: Sequence[int]) -> dict[str, Any]:
    """Variables of a detector with two thin layers in the place of each of its dense layers fc6 and fc7.

    A kernel of u inputs and v outputs becomes one of t outputs without a bias and one of t inputs with the old bias:
    t * (u + v) weights instead of u * v, and the product of rank t that is nearest to the kernel.

    Args:
      variables: of `create_model("fast_rcnn_vgg16", ...)`, or another with dense layers in `backbone/head`.
      ranks: t of fc6 and fc7; the paper has (1024, 256).

    Returns:
      Variables of the same net with `svd_ranks=ranks`.

    Raises:
      ConfigError: a net without those layers, or a rank that its kernel does not have.
    """
    params = dict(variables["params"])
    backbone = dict(params.get("backbone", {}))
    head = backbone.pop("head", {})
    if not set(_LAYERS) <= set(head):
        raise ConfigError(
            "these variables have no dense layers backbone/head/fc6 and fc7; compress those of fast_rcnn_*"
        )
    if len(ranks) != len(_LAYERS):
        raise ConfigError(f"compress takes a rank for each of {', '.join(_LAYERS)}, not {tuple(ranks)}")
    dense = {}
    for name, rank in zip(_LAYERS, ranks):
        thin, rest = thin_layers(np.asarray(head[name]["kernel"]), rank, name)
        dense[f"{name}_svd"] = {"kernel": jnp.asarray(thin)}
        dense[name] = {"kernel": jnp.asarray(rest), "bias": head[name]["bias"]}
    return {**variables, "params": {**params, "backbone": backbone, "dense": dense}}


def thin_layers(kernel: np.ndarray, rank: int, name: str = "kernel") -> tuple[np.ndarray, np.ndarray]:
    """The two kernels [u, t] and [t, v] whose product is nearest to [u, v] among all of rank t.

    Raises:
      ConfigError: a rank below 1 or above the kernel's shorter side.
    """
    if not 1 <= rank <= min(kernel.shape):
        raise ConfigError(
            f"{name} is {kernel.shape[0]} x {kernel.shape[1]}; give a rank of 1 to {min(kernel.shape)}, not {rank}"
        )
    left, values, right = np.linalg.svd(kernel, full_matrices=False)
    return (left[:, :rank] * values[:rank]).astype(np.float32), right[:rank].astype(np.float32)
