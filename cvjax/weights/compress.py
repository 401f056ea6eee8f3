"""Makes dense layers thin by truncated singular value decomposition (Fast R-CNN, 1504.08083, section 3.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cvjax.errors import ConfigError

_LAYERS = ("fc6", "fc7")


def compress(variables: Mapping[str, Any], ranks: Sequence[int]) -> dict[str, Any]:
    """Replaces each of a detector's dense layers fc6 and fc7 by two thin layers.

    A kernel of u inputs and v outputs becomes two. The first has t outputs and no bias. The second has t inputs and the
    old bias. Together they have t * (u + v) weights instead of u * v. Their product is the matrix of rank t that is
    nearest to the kernel.

    Args:
      variables: Variables of `create_model("fast_rcnn_vgg16", ...)`, or of another net with dense layers in
        `backbone/head`.
      ranks: Ranks t of fc6 and fc7; the paper has (1024, 256).

    Returns:
      Variables of the same net with `svd_ranks=ranks`.

    Raises:
      ConfigError: The net has no such layers, or a rank is impossible for its kernel.
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
    """Computes the two kernels [u, t] and [t, v] whose product is nearest to [u, v] among all of rank t.

    Raises:
      ConfigError: The rank is below 1 or above the kernel's shorter side.
    """
    if not 1 <= rank <= min(kernel.shape):
        raise ConfigError(
            f"{name} is {kernel.shape[0]} x {kernel.shape[1]}; give a rank of 1 to {min(kernel.shape)}, not {rank}"
        )
    left, values, right = np.linalg.svd(kernel, full_matrices=False)
    return (left[:, :rank] * values[:rank]).astype(np.float32), right[:rank].astype(np.float32)
