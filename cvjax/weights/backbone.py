"""Loads the weights of a classifier as the backbone of another model."""

import re

from cvjax.errors import ConfigError
from cvjax.models import list_models, model_info
from cvjax.weights.convert import COLLECTIONS, StateDict, Variables, fill, recognize
from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.subsample import is_branch, subsample_branch


def load_backbone(variables: Variables, state_dict: StateDict, name: str, layout: str | None = None) -> Variables:
    """Puts the weights of an ImageNet classifier into the `backbone` of a segmentation model or a detector.

    Args:
      variables: Result of `model.init`, with a subtree `backbone` in `params` and `batch_stats`.
      state_dict: State dict of the classifier, under torchvision's or timm's keys. Its last layer is dropped, and with
        it all dense layers where the backbone has none. The dense layers of VGG are thinned out for DeepLab's branches,
        see `cvjax.weights.subsample`.
      name: Name of the classifier, such as "resnet50".
      layout: Name of the layout that the state dict is in; None finds it by the keys.

    Returns:
      New variables: the backbone from the state dict, everything else as it was.

    Raises:
      ConfigError: The model is not a classifier, or the variables have no backbone.
      CheckpointError: Entries are unknown, missing or mis-shaped; all are listed in one message.
    """
    architecture, state_dict = recognize(name, state_dict, layout)
    if model_info(name).task != "classification":
        raise ConfigError(f"load_backbone takes the weights of a classifier such as resnet50, not of {name}")
    if "backbone" not in variables.get("params", {}):
        raise ConfigError("these variables have no 'backbone'; for a classifier itself use from_torch")
    collections = [key for key in COLLECTIONS if "backbone" in variables.get(key, {})]
    backbone = {key: variables[key]["backbone"] for key in collections}
    branches = {key: layers for key, layers in backbone["params"].items() if is_branch(key)}
    backbone["params"] = {key: layers for key, layers in backbone["params"].items() if key not in branches}
    heads = [architecture.classes_key.removesuffix("weight")]
    if "head" not in backbone["params"]:  # as in a U-Net, which needs none of VGG's dense layers
        heads += [f"{name}." for name in _dense_layers(architecture, state_dict)]
    trunk = {
        key: value
        for key, value in state_dict.items()
        if not (key.startswith(tuple(heads)) or architecture.is_aux(key))
    }
    filled = fill(name, backbone, architecture, trunk)
    for key, layers in branches.items():
        filled["params"][key] = subsample_branch(name, layers, architecture, state_dict)
    return {
        **variables,
        **{key: {**variables[key], "backbone": filled[key]} for key in collections},
    }


def _dense_layers(architecture: Architecture, state_dict: StateDict) -> set[str]:
    """Returns the publisher's names of the layers that are ours in `head`."""
    modules = {key.rpartition(".")[0] for key in state_dict}
    rows = [(ours, theirs) for ours, theirs in architecture.table if ours.startswith("head")]
    return {module for module in modules if any(re.fullmatch(_named_by(*row), module) for row in rows)}


def _named_by(ours: str, theirs: str) -> str:
    """Returns the pattern of the names that a row of a layout's table gives."""
    groups = re.findall(r"\([^()]*\)", ours)
    return re.sub(r"\\\\(\d)", lambda match: groups[int(match[1]) - 1], re.escape(theirs))


def backbone_name(name: str) -> str:
    """Returns the classifier that a model's name ends with: "resnet50" for "deeplabv3plus_resnet50".

    The ending "_fpn" of a model with a feature pyramid may follow it, as in "fasterrcnn_resnet50_fpn".

    Raises:
      ConfigError: The name does not end with a classifier's.
    """
    stem = name.removesuffix("_fpn")
    found = [classifier for classifier in list_models("classification") if stem.endswith(f"_{classifier}")]
    if not found:
        raise ConfigError(f"{name} has no backbone that is a classifier of its own, so there are no weights for it")
    return max(found, key=len)
