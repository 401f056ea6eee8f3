"""Maps our parameters to the names in PyTorch's best-known releases of DeepLab and FCN.

A release differs from ours by a few options of structure, which its layout brings. Differences in training alone are
left out: VainF trains the backbone with a BatchNorm momentum of 0.99 and the head with 0.9, where ours have one for
both; mmsegmentation's DeepLab v3+ drops in front of its classifier and not behind ASPP.
"""

import dataclasses

from cvjax.models.info import Preprocessing
from cvjax.weights.layouts.architecture import Architecture, Table
from cvjax.weights.layouts.caffe import CAFFE, DEEPLAB
from cvjax.weights.layouts.folds import Unused
from cvjax.weights.layouts.torchvision import RESNET

RGB = Preprocessing(None, None)
"""Of nets whose backbone comes from torchvision's ImageNet weights, for images of any size."""


def _backbone(prefix: str) -> Table:
    return tuple((rf"backbone/{ours}", rf"{prefix}.{theirs}") for ours, theirs in RESNET[:-1])


def _aspp(prefix: str) -> Table:
    """ASPP as torchvision names it, with separable branches as segmentation_models_pytorch does."""
    return (
        (r"aspp/conv1x1/conv", rf"{prefix}.convs.0.0"),
        (r"aspp/conv1x1/bn", rf"{prefix}.convs.0.1"),
        (r"aspp/atrous(\d)/conv", rf"{prefix}.convs.\1.0"),
        (r"aspp/atrous(\d)/depthwise", rf"{prefix}.convs.\1.0.0"),
        (r"aspp/atrous(\d)/pointwise/conv", rf"{prefix}.convs.\1.0.1"),
        (r"aspp/atrous(\d)/(pointwise/)?bn", rf"{prefix}.convs.\1.1"),
        (r"aspp/pooling/conv", rf"{prefix}.convs.4.1"),
        (r"aspp/pooling/bn", rf"{prefix}.convs.4.2"),
        (r"aspp/project/conv", rf"{prefix}.project.0"),
        (r"aspp/project/bn", rf"{prefix}.project.1"),
    )


_LOW_LEVEL = 48  # channels, which lie in front of the pyramid's in VainF's concatenation
_VAINF_V3 = Architecture(
    (
        *_backbone("backbone"),
        *_aspp("classifier.classifier.0"),
        (r"head/conv", "classifier.classifier.1"),
        (r"head/bn", "classifier.classifier.2"),
        (r"classifier", "classifier.classifier.4"),
    ),
    classes_key="classifier.classifier.4.weight",
    input_key="backbone.conv1.weight",
    layout="vainf",
    options={"aux": False, "output_stride": 16, "dropout": 0.1},
    preprocessing=RGB,
)
_VAINF_V3PLUS = Architecture(
    (
        *_backbone("backbone"),
        *_aspp("classifier.aspp"),
        (r"low_level/conv", "classifier.project.0"),
        (r"low_level/bn", "classifier.project.1"),
        (r"refine_0/conv", "classifier.classifier.0"),
        (r"refine_0/bn", "classifier.classifier.1"),
        (r"classifier", "classifier.classifier.3"),
    ),
    classes_key="classifier.classifier.3.weight",
    input_key="backbone.conv1.weight",
    layout="vainf",
    rolled={"classifier.classifier.0.weight": -_LOW_LEVEL},
    options={"separable_decoder": False, "decoder_layers": 1, "dropout": 0.1},
    preprocessing=RGB,
)

# Every block of a dilated stage has the full dilation, the first one too.
_SMP_BACKBONE = {"dilate_first": True}
_SMP_HEAD = (r"classifier", "segmentation_head.0")
_SMP_UNUSED = Unused(("encoder.fc.*",))
_SMP_V3 = Architecture(
    (*_backbone("encoder"), *_aspp("decoder.aspp"), (r"head/(conv|bn)", r"decoder.\1"), _SMP_HEAD),
    classes_key="segmentation_head.0.weight",
    input_key="encoder.conv1.weight",
    # Lightning's prefix, and the names of releases before 0.5.
    renamed=(
        (r"^model\.", ""),
        (r"^decoder\.0\.", "decoder.aspp."),
        (r"^decoder\.1\.", "decoder.conv."),
        (r"^decoder\.2\.", "decoder.bn."),
    ),
    layout="smp",
    options={"aux": False, "align_corners": True, "backbone": _SMP_BACKBONE},
    fold=_SMP_UNUSED,
    preprocessing=RGB,
)
_SMP_V3PLUS = Architecture(
    (
        *_backbone("encoder"),
        *_aspp("decoder.aspp.0"),
        (r"pyramid_conv/depthwise", "decoder.aspp.1.0"),
        (r"pyramid_conv/pointwise/conv", "decoder.aspp.1.1"),
        (r"pyramid_conv/pointwise/bn", "decoder.aspp.2"),
        (r"low_level/conv", "decoder.block1.0"),
        (r"low_level/bn", "decoder.block1.1"),
        (r"refine_0/depthwise", "decoder.block2.0.0"),
        (r"refine_0/pointwise/conv", "decoder.block2.0.1"),
        (r"refine_0/pointwise/bn", "decoder.block2.1"),
        _SMP_HEAD,
    ),
    classes_key="segmentation_head.0.weight",
    input_key="encoder.conv1.weight",
    renamed=((r"^model\.", ""),),
    layout="smp",
    options={
        "aspp_rates": (12, 24, 36),
        "separable_aspp": True,
        "conv_after_aspp": True,
        "decoder_layers": 1,
        "inner_norm": False,
        "align_corners": True,
        "backbone": _SMP_BACKBONE,
    },
    fold=_SMP_UNUSED,
    preprocessing=RGB,
)

_MMSEG_WIDTH = 512  # channels of the heads; those of image pooling lie in front in ASPP's concatenation
_MMSEG_TABLE = (
    *((rf"backbone/stem_conv_{place}", f"backbone.stem.{3 * place}") for place in range(3)),
    *((rf"backbone/stem_bn_{place}", f"backbone.stem.{3 * place + 1}") for place in range(3)),
    *_backbone("backbone")[2:],
    (r"aspp/conv1x1/(conv|bn)", r"decode_head.aspp_modules.0.\1"),
    (r"aspp/atrous(\d)/(conv|bn)", r"decode_head.aspp_modules.\1.\2"),
    (r"aspp/atrous(\d)/(depthwise|pointwise)/(conv|bn)", r"decode_head.aspp_modules.\1.\2_conv.\3"),
    (r"aspp/pooling/(conv|bn)", r"decode_head.image_pool.1.\1"),
    (r"aspp/project/(conv|bn)", r"decode_head.bottleneck.\1"),
    (r"low_level/(conv|bn)", r"decode_head.c1_bottleneck.\1"),
    (r"refine_(\d)/(depthwise|pointwise)/(conv|bn)", r"decode_head.sep_bottleneck.\1.\2_conv.\3"),
    (r"classifier", "decode_head.conv_seg"),
    (r"head/conv/(conv|bn)", r"decode_head.convs.0.\1"),
    (r"head/conv2/(conv|bn)", r"decode_head.convs.1.\1"),
    (r"head/join/(conv|bn)", r"decode_head.conv_cat.\1"),
    (r"head/classifier", "decode_head.conv_seg"),
    (r"aux_head/conv/(conv|bn)", r"auxiliary_head.convs.0.\1"),
    (r"aux_head/classifier", "auxiliary_head.conv_seg"),
)


def _mmsegmentation(**options: object) -> Architecture:
    return Architecture(
        _MMSEG_TABLE,
        classes_key="decode_head.conv_seg.weight",
        input_key="backbone.stem.0.weight",
        aux_prefix="auxiliary_head.",
        aux_classes_keys=("auxiliary_head.conv_seg.weight",),
        layout="mmsegmentation",
        rolled={"decode_head.bottleneck.conv.weight": -_MMSEG_WIDTH},
        options={"backbone": {"deep_stem": True}, "output_stride": 8, "dropout": 0.1, **options},
        preprocessing=RGB,
    )


_MMSEG_ASPP = {"aspp_features": _MMSEG_WIDTH, "aspp_project_kernel": 3}


def _kazuto1011(prefix: str, layout: str, **options: object) -> Architecture:
    """DeepLab v2 of summed atrous classifiers; our stem is its layer1."""
    parts = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase", "downsample_conv": "shortcut"}
    rows = [(r"backbone/stem_(conv|bn)_0", rf"{prefix}layer1.conv1.\1")]
    for stage, count in enumerate((3, 4, 23, 3), start=1):
        for block in range(count):
            ours, theirs = rf"backbone/stage{stage}_{block}", f"{prefix}layer{stage + 1}.block{block + 1}"
            for part, name in parts.items():
                rows += [
                    (rf"{ours}/{part}", f"{theirs}.{name}.conv"),
                    (rf"{ours}/{part.replace('conv', 'bn')}", f"{theirs}.{name}.bn"),
                ]
    classifiers = [f"{prefix}aspp.c{place}" for place in range(4)]
    rows += [(rf"classifier_{place}", name) for place, name in enumerate(classifiers)]
    first, *others = [f"{name}.weight" for name in classifiers]
    return Architecture(
        tuple(rows),
        classes_key=first,
        input_key=f"{prefix}layer1.conv1.conv.weight",
        aux_classes_keys=tuple(others),
        layout=layout,
        options={
            "backbone": {"stride_in_1x1": True, "stem_pool": "ceil_padded", "dilate_first": True},
            "align_corners": False,
            "norm": {"momentum": 0.999},
            **options,
        },
        preprocessing=DEEPLAB,
    )


# wkentaro's files have the names of the authors' layers, and the layout "caffe" takes them. The net that learned all
# skips at once multiplies by constants that its file lacks, so nothing there tells it from the one learned in stages.
_AT_ONCE = dataclasses.replace(
    CAFFE["fcn8s_vgg16"][0], layout="wkentaro_at_once", options={"skip_scales": (0.01, 0.0001)}
)

DEEPLAB_RELEASES: dict[str, tuple[Architecture, ...]] = {
    "deeplabv3_resnet*": (_VAINF_V3, _SMP_V3, _mmsegmentation(**_MMSEG_ASPP, conv_after_aspp=False)),
    "deeplabv3plus_resnet*": (
        _VAINF_V3PLUS,
        _SMP_V3PLUS,
        _mmsegmentation(**_MMSEG_ASPP, separable_aspp=True),
    ),
    "fcn_resnet*": (_mmsegmentation(head_layers=2, head_joins_input=True),),
    "fcn8s_vgg16": (_AT_ONCE,),
    "deeplabv2_resnet101": (
        # The published files hold the net of several scales, which puts "base." in front of every name.
        _kazuto1011("base.", "kazuto1011", fuse_first=True),
        _kazuto1011("", "kazuto1011_one_scale", scales=(1.0,)),
    ),
}
"""Layouts by patterns of our models' names."""
