"""Starts a net from the weights of another one of ours: FCN-16s from FCN-32s, a finer net from a coarser."""

import logging
from typing import Any

from flax import traverse_util

from cvjax.errors import CheckpointError
from cvjax.weights.convert import COLLECTIONS, Variables

_LOG = logging.getLogger("cvjax.weights")
Leaves = dict[tuple[str, ...], Any]


def warm_start(variables: Variables, source: Variables) -> Variables:
    """Takes over every layer that another net has under the same name and with the same shapes.

    All other layers stay as they are in `variables`, and layers that only `source` has are left out. The log
    (`cvjax.weights`) lists both. For FCN-16s from FCN-32s the other layers are the new score layer, which starts at
    zero, and the upsampling, which starts as interpolation. For a net with other classes they are its score layers.

    Args:
      variables: Result of `model.init`: {"params": ...} and, with BatchNorm, "batch_stats".
      source: Variables of the other net. If it is a classifier, without a `backbone` of its own, they go into the
        `backbone` here.

    Returns:
      New variables, with the leaves' dtypes as they were.

    Raises:
      CheckpointError: The `backbone` does not fit, or the nets have no layer in common.
    """
    wanted = _leaves(variables)
    given: Leaves = _leaves(source)
    if _has_backbone(wanted) and not _has_backbone(given):
        given = {(key, "backbone", *path): leaf for (key, *path), leaf in given.items()}
    # A layer with one leaf of another shape is another layer.
    differing = {path[:-1] for path, leaf in wanted.items() if path in given and given[path].shape != leaf.shape}
    fresh = {path for path in wanted if path not in given or path[:-1] in differing}
    broken = sorted(_name(path) for path in fresh if path[1] == "backbone")
    if broken:
        shown = ", ".join(broken[:4]) + (f" and {len(broken) - 4} more" if len(broken) > 4 else "")
        raise CheckpointError(f"the backbones differ: {shown} is missing there or has another shape; use its options")
    if len(fresh) == len(wanted):
        raise CheckpointError("these weights are of another net: it has no layer with the same name and shapes")
    left_out = given.keys() - wanted.keys()
    for what, paths in (("start anew", fresh), ("are left out", left_out)):
        if paths:
            _LOG.warning("these layers %s: %s", what, ", ".join(sorted({_name(path[:-1]) for path in paths})))
    taken = {path: given[path].astype(leaf.dtype) for path, leaf in wanted.items() if path not in fresh}
    return {**variables, **traverse_util.unflatten_dict(wanted | taken)}


def _leaves(variables: Variables) -> Leaves:
    return traverse_util.flatten_dict({key: variables[key] for key in COLLECTIONS if key in variables})


def _has_backbone(leaves: Leaves) -> bool:
    return any(path[1] == "backbone" for path in leaves)


def _name(path: tuple[str, ...]) -> str:
    return "/".join(path[1:])
