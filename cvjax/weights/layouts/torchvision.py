"""Maps our parameters to their names in PyTorch state dicts, with a table of patterns for each architecture."""

import re

from cvjax.weights.layouts.architecture import Architecture, Table
from cvjax.weights.layouts.tensorflow import DEEPLABV3PLUS_XCEPTION65
from cvjax.weights.layouts.timm import EFFICIENTNET_TIMM, XCEPTION, vgg_timm

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
FCN_RESNET = (
    *((rf"backbone/{ours}", rf"backbone.{theirs}") for ours, theirs in RESNET[:-1]),
    *(
        (rf"{ours}/{layer}", rf"{theirs}.{place}")
        for ours, theirs in (("head", "classifier"), ("aux_head", "aux_classifier"))
        for place, layer in ((0, "conv/conv"), (1, "conv/bn"), (4, "classifier"))
    ),
)
FASTER_RCNN_FPN = (
    *((rf"backbone/{ours}", rf"backbone.body.{theirs}") for ours, theirs in RESNET[:-1]),
    (r"fpn/(inner|layer)_(\d)", r"backbone.fpn.\1_blocks.\2.0"),
    (r"rpn/conv", r"rpn.head.conv.0.0"),
    (r"rpn/objectness", r"rpn.head.cls_logits"),
    (r"rpn/deltas", r"rpn.head.bbox_pred"),
    (r"box_head/(fc\d)", r"roi_heads.box_head.\1"),
    (r"predictor/classes", r"roi_heads.box_predictor.cls_score"),
    (r"predictor/deltas", r"roi_heads.box_predictor.bbox_pred"),
)
ALEXNET = (
    *((rf"conv_{ours}", rf"features.{theirs}") for ours, theirs in enumerate((0, 3, 6, 8, 10))),
    (r"head/fc6", r"classifier.1"),
    (r"head/fc7", r"classifier.4"),
    (r"head/head", r"classifier.6"),
)


def _vgg(sizes: tuple[int, ...], batch_norm: bool) -> tuple[tuple[str, str], ...]:
    """Builds a VGG's table; torchvision numbers convolutions, BatchNorms, rectifiers and poolings in one row."""
    rows, place = [], 0
    for stage, count in enumerate(sizes, start=1):
        for number in range(1, count + 1):
            rows.append((rf"conv{stage}_{number}", rf"features.{place}"))
            rows.append((rf"bn{stage}_{number}", rf"features.{place + 1}"))
            place += 3 if batch_norm else 2
        place += 1
    return (*rows, (r"head/fc6", r"classifier.0"), (r"head/fc7", r"classifier.3"), (r"head/head", r"classifier.6"))


GOOGLENET = (
    (r"(conv\d)/(conv|bn)", r"\1.\2"),
    (r"(inception\w+)/branch1/(conv|bn)", r"\1.branch1.\2"),
    (r"(inception\w+)/branch(\d)_(\d)/(conv|bn)", r"\1.branch\2.\3.\4"),
    (r"(aux\d)/conv/(conv|bn)", r"\1.conv.\2"),
    (r"(aux\d)/(fc\d)", r"\1.\2"),
    (r"head", r"fc"),
)
DENSENET = (
    (r"stem_conv", r"features.conv0"),
    (r"stem_bn", r"features.norm0"),
    (r"block(\d)_layer(\d+)/(norm\d|conv\d)", r"features.denseblock\1.denselayer\2.\3"),
    (r"(transition\d)/(norm|conv)", r"features.\1.\2"),
    (r"last_bn", r"features.norm5"),
    (r"head", r"classifier"),
)
SERESNET = (
    *RESNET,
    (r"stage(\d)_(\d+)/squeeze_excite/reduce", r"layer\1.\2.se.fc1"),
    (r"stage(\d)_(\d+)/squeeze_excite/expand", r"layer\1.\2.se.fc2"),
)
SENET = (
    *((rf"stem_{kind}_{i}", rf"layer0.{kind}{i + 1}") for kind in ("conv", "bn") for i in range(3)),
    *RESNET[2:-1],
    (r"stage(\d)_(\d+)/squeeze_excite/reduce", r"layer\1.\2.se_module.fc1"),
    (r"stage(\d)_(\d+)/squeeze_excite/expand", r"layer\1.\2.se_module.fc2"),
    (r"head", r"last_linear"),
)


def _efficientnet(fused: str, separable: str, top: int, narrow: str = "") -> tuple[tuple[str, str], ...]:
    """Builds an EfficientNet's table; torchvision numbers the layers of a block.

    Args:
      fused, separable, narrow: Numbers of the stages of each kind, as the inside of a pattern's brackets. Stages in
        `narrow` lack the widening at the front.
      top: Number of the last convolution.
    """
    kinds = [
        (fused, ("fused_conv", "fused_bn"), ("project_conv", "project_bn")),
        (narrow, *_SEPARABLE[1:]),
        (separable, *_SEPARABLE),
    ]
    return (
        (r"stem_conv", r"features.0.0"),
        (r"stem_bn", r"features.0.1"),
        *(
            (rf"stage([{stages}])_(\d+)/{ours}", rf"features.\1.\2.block.{place}.{theirs}")
            for stages, *layers in kinds
            if stages
            for place, parts in enumerate(layers)
            for ours, theirs in zip(parts, ("fc1", "fc2") if "reduce" in parts[0] else ("0", "1"))
        ),
        (r"top_conv", rf"features.{top}.0"),
        (r"top_bn", rf"features.{top}.1"),
        (r"head", r"classifier.1"),
    )


_SEPARABLE = (
    ("expand_conv", "expand_bn"),
    ("depthwise_conv", "depthwise_bn"),
    ("squeeze_excite/reduce", "squeeze_excite/expand"),
    ("project_conv", "project_bn"),
)
EFFICIENTNET = _efficientnet("", "2-7", 8, narrow="1")
EFFICIENTNET_V2_S = _efficientnet("1-3", "4-6", 7)
EFFICIENTNET_V2_ML = _efficientnet("1-3", "4-7", 8)
# By patterns of models' names; the first that matches counts.
_RESNET = Architecture(RESNET, classes_key="fc.weight", input_key="conv1.weight")
_SERESNET = Architecture(SERESNET, classes_key="fc.weight", input_key="conv1.weight", layout="timm")
_EFFICIENTNET = Architecture(
    EFFICIENTNET,
    classes_key="classifier.1.weight",
    input_key="features.0.0.weight",
    others=(EFFICIENTNET_TIMM,),
)


def _vgg_architecture(*sizes: int, batch_norm: bool) -> Architecture:
    table = _vgg(sizes, batch_norm)
    timm = Architecture(
        vgg_timm(table),
        classes_key="head.fc.weight",
        input_key="features.0.weight",
        windows={"pre_logits.fc1.weight": (7, 7), "pre_logits.fc2.weight": (1, 1)},
        layout="timm",
    )
    return Architecture(
        table,
        classes_key="classifier.6.weight",
        input_key="features.0.weight",
        flattened={"classifier.0.weight": (7, 7)},
        others=(timm,),
    )


ARCHITECTURES = {
    **{f"resnet{depth}": _RESNET for depth in (18, 34, 50, 101, 152)},
    "resnext*": _RESNET,
    "wide_resnet*": _RESNET,
    "seresnet*": _SERESNET,
    "seresnext*": _SERESNET,
    "legacy_senet154": Architecture(
        SENET, classes_key="last_linear.weight", input_key="layer0.conv1.weight", layout="timm"
    ),
    "alexnet": Architecture(
        ALEXNET,
        classes_key="classifier.6.weight",
        input_key="features.0.weight",
        flattened={"classifier.1.weight": (6, 6)},
    ),
    "vgg11": _vgg_architecture(1, 1, 2, 2, 2, batch_norm=False),
    "vgg11_bn": _vgg_architecture(1, 1, 2, 2, 2, batch_norm=True),
    "vgg13": _vgg_architecture(2, 2, 2, 2, 2, batch_norm=False),
    "vgg13_bn": _vgg_architecture(2, 2, 2, 2, 2, batch_norm=True),
    "vgg16": _vgg_architecture(2, 2, 3, 3, 3, batch_norm=False),
    "vgg16_bn": _vgg_architecture(2, 2, 3, 3, 3, batch_norm=True),
    "vgg19": _vgg_architecture(2, 2, 4, 4, 4, batch_norm=False),
    "vgg19_bn": _vgg_architecture(2, 2, 4, 4, 4, batch_norm=True),
    "googlenet": Architecture(
        GOOGLENET,
        classes_key="fc.weight",
        input_key="conv1.conv.weight",
        aux_prefix="aux",
        aux_classes_keys=("aux1.fc2.weight", "aux2.fc2.weight"),
        flattened={"aux?.fc1.weight": (4, 4)},
    ),
    "densenet*": Architecture(
        DENSENET,
        classes_key="classifier.weight",
        input_key="features.conv0.weight",
        # torchvision's published files are older than its names.
        renamed=((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
    ),
    "efficientnet_b*": _EFFICIENTNET,
    "efficientnet_v2_s": Architecture(
        EFFICIENTNET_V2_S, classes_key="classifier.1.weight", input_key="features.0.0.weight"
    ),
    "efficientnet_v2_[ml]": Architecture(
        EFFICIENTNET_V2_ML, classes_key="classifier.1.weight", input_key="features.0.0.weight"
    ),
    "xception*": XCEPTION,
    "deeplabv3_resnet*": Architecture(
        DEEPLABV3,
        classes_key="classifier.4.weight",
        input_key="backbone.conv1.weight",
        aux_prefix="aux_classifier.",
        aux_classes_keys=("aux_classifier.4.weight",),
    ),
    "deeplabv3plus_xception65": DEEPLABV3PLUS_XCEPTION65,
    "fcn_resnet*": Architecture(
        FCN_RESNET,
        classes_key="classifier.4.weight",
        input_key="backbone.conv1.weight",
        aux_prefix="aux_classifier.",
        aux_classes_keys=("aux_classifier.4.weight",),
    ),
    "fasterrcnn_resnet*_fpn": Architecture(
        FASTER_RCNN_FPN,
        classes_key="roi_heads.box_predictor.cls_score.weight",
        input_key="backbone.body.conv1.weight",
        # It has four numbers a class; `heads` are what follows the number of classes.
        aux_classes_keys=("roi_heads.box_predictor.bbox_pred.weight",),
        flattened={"roi_heads.box_head.fc6.weight": (7, 7)},
        # torchvision's published files are older than its names.
        renamed=(
            (r"(inner_blocks|layer_blocks)\.(\d)\.(weight|bias)$", r"\1.\2.0.\3"),
            (r"rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
        ),
        background=1,
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
    """Returns the state dict's key of one of our leaves, or None if the architecture has no such thing in PyTorch.

    Args:
      path: Path of the leaf within its collection, such as ("stage1_0", "conv1", "kernel").
      table: Rows of (pattern, replacement). A replacement "a|b" has the statistics in a, and scale and bias in b.
    """
    module, leaf = "/".join(path[:-1]), path[-1]
    for pattern, replacement in table:
        match = re.fullmatch(pattern, module)
        if match and leaf in _LEAVES:
            statistics, _, affine = match.expand(replacement).partition("|")
            module = affine if affine and leaf in ("scale", "bias") else statistics
            return f"{module}.{_LEAVES[leaf]}"
    return None
