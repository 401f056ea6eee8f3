"""Maps our parameters to timm's names, where timm's names differ from torchvision's."""

from cvjax.weights.layouts.architecture import Architecture, Table

# The first stage's blocks do not widen: their depthwise convolution comes first, under other names.
EFFICIENTNET_TIMM = Architecture(
    (
        (r"stem_conv", r"conv_stem"),
        (r"stem_bn", r"bn1"),
        *(
            (rf"stage1_(\d+)/{ours}", rf"blocks.0.\1.{theirs}")
            for ours, theirs in (
                ("depthwise_conv", "conv_dw"),
                ("depthwise_bn", "bn1"),
                ("project_conv", "conv_pw"),
                ("project_bn", "bn2"),
            )
        ),
        *(
            (rf"stage{stage}_(\d+)/{ours}", rf"blocks.{stage - 1}.\1.{theirs}")
            for stage in range(1, 8)
            for ours, theirs in (
                ("expand_conv", "conv_pw"),
                ("expand_bn", "bn1"),
                ("depthwise_conv", "conv_dw"),
                ("depthwise_bn", "bn2"),
                ("squeeze_excite/reduce", "se.conv_reduce"),
                ("squeeze_excite/expand", "se.conv_expand"),
                ("project_conv", "conv_pwl"),
                ("project_bn", "bn3"),
            )
        ),
        (r"top_conv", r"conv_head"),
        (r"top_bn", r"bn2"),
        (r"head", r"classifier"),
    ),
    classes_key="classifier.weight",
    input_key="conv_stem.weight",
    layout="timm",
)

XCEPTION = Architecture(
    (
        (r"stem_(conv|bn)_(\d)", r"stem.\2.\1"),
        *(
            # Blocks count their convolutions from 1, beside rectifiers that have no weights.
            (rf"blocks_(\d+)/separable(\d)/{part}_{kind}", rf"blocks.\1.stack.conv\2.{kind}_{short}")
            for part, short in (("depthwise", "dw"), ("pointwise", "pw"))
            for kind in ("conv", "bn")
        ),
        (r"blocks_(\d+)/shortcut_(conv|bn)", r"blocks.\1.shortcut.\2"),
        (r"head", r"head.fc"),
    ),
    classes_key="head.fc.weight",
    input_key="stem.0.conv.weight",
    layout="timm",
)


def vgg_timm(table: Table) -> Table:
    """Returns torchvision's table of a VGG with timm's names for its dense layers, which are convolutions there."""
    dense = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    return tuple((ours, dense.get(theirs, theirs)) for ours, theirs in table)
