"""How our parameters are called in PyTorch state dicts, as tables of patterns, one table an architecture."""

import re

from cvjax.weights.architecture import Architecture, Table
from cvjax.weights.names_timm import EFFICIENTNET_TIMM

# Each row: a pattern on our module path, joined by "/", and what torchvision calls that module.
RESNET = (
    (r"stem_conv_0", r"conv1"),
    (r"stem_bn_0", r"bn1"),
    (r"stage(\d)_(\d+)/(conv\d|bn\d)", r"layer\1.\2.\3"),
    (r"stage(\d)_(\d+)/downsample_conv", r"layer\1.\2.downsample.0"),
    (r"stage(\d)_(\d+)/downsample_bn", r"layer\1.\2.downsample.1"),
    (r"head", r"fc"),
)
DEEPLABV3 = (
    *((rf"backbone/{ours}", rf"backbone.{theirs}") for ours, theirs in RESNET[:-1]),
    (r"aspp/conv1x1/conv", r"classifier.0.convs.0.0"),
    (r"aspp/conv1x1/bn", r"classifier.0.convs.0.1"),
    (r"aspp/atrous(\d)/conv", r"classifier.0.convs.\1.0"),
    (r"aspp/atrous(\d)/bn", r"classifier.0.convs.\1.1"),
    (r"aspp/pooling/conv", r"classifier.0.convs.4.1"),
    (r"aspp/pooling/bn", r"classifier.0.convs.4.2"),
    (r"aspp/project/conv", r"classifier.0.project.0"),
    (r"aspp/project/bn", r"classifier.0.project.1"),
    (r"head/conv", r"classifier.1"),
    (r"head/bn", r"classifier.2"),
    (r"classifier", r"classifier.4"),
    (r"aux_head/conv/conv", r"aux_classifier.0"),
    (r"aux_head/conv/bn", r"aux_classifier.1"),
    (r"aux_head/classifier", r"aux_classifier.4"),
)
# torchvision numbers the layers of a block; those of the first stage lack the widening at the front.
EFFICIENTNET = (
    (r"stem_conv", r"features.0.0"),
    (r"stem_bn", r"features.0.1"),
    *(
        (rf"stage({stage})_(\d+)/{ours}", rf"features.\1.\2.block.{theirs - skipped}{rest}")
        for stage, skipped in ((r"1", 1), (r"[2-7]", 0))
        for ours, theirs, rest in (
            ("expand_conv", 0, ".0"),
            ("expand_bn", 0, ".1"),
            ("depthwise_conv", 1, ".0"),
            ("depthwise_bn", 1, ".1"),
            ("squeeze_excite/reduce", 2, ".fc1"),
            ("squeeze_excite/expand", 2, ".fc2"),
            ("project_conv", 3, ".0"),
            ("project_bn", 3, ".1"),
        )
    ),
    (r"top_conv", r"features.8.0"),
    (r"top_bn", r"features.8.1"),
    (r"head", r"classifier.1"),
)
# By patterns of models' names; the first that matches counts.
_RESNET = Architecture(RESNET, classes_key="fc.weight", input_key="conv1.weight")
ARCHITECTURES = {
    "resnet*": _RESNET,
    "resnext*": _RESNET,
    "wide_resnet*": _RESNET,
    "efficientnet_b*": Architecture(
        EFFICIENTNET, classes_key="classifier.1.weight", input_key="features.0.0.weight", others=(EFFICIENTNET_TIMM,)
    ),
    "deeplabv3_resnet*": Architecture(
        DEEPLABV3,
        classes_key="classifier.4.weight",
        input_key="backbone.conv1.weight",
        aux_prefix="aux_classifier.",
        aux_classes_keys=("aux_classifier.4.weight",),
    ),
}
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def torch_key(path: tuple[str, ...], table: Table) -> str | None:
    """The state dict's key of one of our leaves, or None if the architecture has no such thing in PyTorch.

    Args:
      path: of the leaf within its collection, such as ("stage1_0", "conv1", "kernel").
      table: rows of (pattern, replacement).
    """
    module, leaf = "/".join(path[:-1]), path[-1]
    for pattern, replacement in table:
        match = re.fullmatch(pattern, module)
        if match and leaf in _LEAVES:
            return f"{match.expand(replacement)}.{_LEAVES[leaf]}"
    return None
