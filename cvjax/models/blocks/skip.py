"""Trained residual nets without some of their blocks, by their variables alone: the net stays the same module."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from cvjax.errors import ConfigError

Variables = Mapping[str, Any]


def block_names(variables: Variables) -> list[str]:
    """Returns the names of a residual net's blocks in their order, such as stage1_0."""
    names = [name for name in variables["params"] if "conv2" in variables["params"][name]]
    return sorted(names, key=lambda name: [int(number) for number in name.removeprefix("stage").split("_")])


def skip_blocks(model: nn.Module, variables: Variables, names: Iterable[str]) -> dict[str, Any]:
    """Returns variables with which a trained ResNet, or its plain counterpart, passes its map by some of its blocks.

    Inference is that of a net without these blocks. A residual block's branch becomes zero, so its shortcut is left. A
    plain block has no shortcut: its kernels become the identity, which is the shortcut's option "A" where channels or
    pixels change. Nothing is compiled again.

    Args:
      model: `ResNet` or `CifarResNet`.
      variables: Its {"params", "batch_stats"}, which stay as they are.
      names: Blocks that are skipped, of `block_names(variables)`.

    Raises:
      ConfigError: A name that is no block, or blocks that cannot be skipped: plain bottlenecks, and blocks that
        normalize behind the sum.
    """
    names, known = list(names), block_names(variables)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"the net has no block {', '.join(unknown)}; its blocks are {', '.join(known)}")
    plain = model.shortcut == "none"  # pyright: ignore[reportAttributeAccessIssue]
    if plain and any("conv3" in variables["params"][name] for name in names):
        raise ConfigError("plain bottlenecks cannot be skipped, since their inner maps are narrower; use basic blocks")
    if model.norm_after:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError("blocks that normalize behind the sum cannot be skipped; use norm_after=False")
    changed = {kind: dict(tree) for kind, tree in variables.items()}
    for name in names:
        if plain:
            epsilon = model.norm.epsilon  # pyright: ignore[reportAttributeAccessIssue]
            changed["params"][name], changed["batch_stats"][name] = _identity(changed["params"][name], epsilon)
        else:
            last = "bn3" if "bn3" in changed["params"][name] else "bn2"
            zeros = {leaf: np.zeros_like(value) for leaf, value in changed["params"][name][last].items()}
            changed["params"][name] = {**changed["params"][name], last: zeros}
    return changed


def _identity(params: Mapping[str, Any], epsilon: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns parameters and statistics of a basic block that passes maps without negative values, as ReLUs' are."""
    made, stats = {}, {}
    for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
        kernel = np.zeros_like(params[conv]["kernel"])
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = np.eye(*kernel.shape[2:])
        ones = np.ones(kernel.shape[-1], kernel.dtype)
        made[conv] = {"kernel": kernel}
        made[norm] = {"scale": ones * math.sqrt(1.0 + epsilon), "bias": 0 * ones}
        stats[norm] = {"mean": 0 * ones, "var": ones}
    return made, stats
