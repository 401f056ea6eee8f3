"""Maps the parameters of our U-Nets to their names in the authors' Caffe net and in public PyTorch libraries.

All of them have other orders of channels, other layers or other borders than our default nets; the options of a layout
say which.
"""

from collections.abc import Iterator
from typing import Any

from cvjax.models.info import Preprocessing
from cvjax.weights.layouts.architecture import Architecture, Table
from cvjax.weights.layouts.folds import Unused
from cvjax.weights.layouts.timm import EFFICIENTNET_TIMM
from cvjax.weights.layouts.torchvision import ARCHITECTURES, DENSENET, RESNET


def _phseg() -> Architecture:
    """The authors' net: levels count from 0, and the maps within one are called by letters."""
    table = [
        (rf"down{level}_conv{number}", f"conv_d{level - 1}{letters}")
        for level in range(1, 6)
        for number, letters in ((1, "a-b"), (2, "b-c"))
    ]
    for level in range(1, 5):
        below = "d4c" if level == 4 else f"u{level}d"
        table += [
            (rf"up{level}/conv", f"upconv_{below}_u{level - 1}a"),
            (rf"join{level}_conv1", f"conv_u{level - 1}b-c"),
            (rf"join{level}_conv2", f"conv_u{level - 1}c-d"),
        ]
    return Architecture(
        (*table, (r"classifier", "conv_u0d-score")),
        classes_key="conv_u0d-score.weight",
        input_key="conv_d0a-b.weight",
        layout="caffe",
        counts=False,
        options={"last_up_width": 128, "up_relu": True},
        turned=("upconv_*.weight",),
        # They read the enlarged map first, ours the skip.
        rolled={f"conv_u{level}b-c.weight": 64 * 2**level for level in range(4)},
    )


def _double_convs() -> Iterator[tuple[str, str]]:
    """Yields (our list of two layers, milesial's module of two): the way down, then the way up, from the bottom."""
    yield "down_0", "inc"
    for level in range(1, 5):
        yield f"down_{level}", f"down{level}.maxpool_conv.1"
    for number in range(1, 5):
        yield f"join_{4 - number}", f"up{number}.conv"


def _milesial(layout: str, transposed: bool, **more: Any) -> Architecture:
    table = [
        (rf"{ours}_{layer}/{kind}", f"{theirs}.double_conv.{3 * layer + place}")
        for ours, theirs in _double_convs()
        for layer in (0, 1)
        for place, kind in enumerate(("conv", "bn"))
    ]
    if transposed:
        table += [(rf"up_{4 - number}/conv", f"up{number}.up") for number in range(1, 5)]
    return Architecture(
        (*table, (r"classifier", "outc.conv")),
        classes_key="outc.conv.weight",
        input_key="inc.double_conv.0.weight",
        layout=layout,
        turned=("up?.up.weight",),
        fold=Unused(("mask_values",)),
        preprocessing=Preprocessing(None, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic"),
        **more,
    )


def _mmsegmentation() -> Architecture:
    """mmsegmentation's: the encoder's levels after the first have their pooling as member 0."""
    conv = r"_(\d)/(conv|bn)"
    table = (
        (rf"down_0{conv}", r"backbone.encoder.0.0.convs.\1.\2"),
        (rf"down_(\d){conv}", r"backbone.encoder.\1.1.convs.\2.\3"),
        (r"up_(\d)/project/(conv|bn)", r"backbone.decoder.\1.upsample.interp_upsample.1.\2"),
        (rf"join_(\d){conv}", r"backbone.decoder.\1.conv_block.convs.\2.\3"),
        *(
            row
            for ours, theirs in (("head", "decode_head"), ("aux_head", "auxiliary_head"))
            for row in (
                (rf"{ours}/conv/(conv|bn)", rf"{theirs}.convs.0.\1"),
                (rf"{ours}/classifier", f"{theirs}.conv_seg"),
            )
        ),
    )
    return Architecture(
        table,
        classes_key="decode_head.conv_seg.weight",
        input_key="backbone.encoder.0.0.convs.0.conv.weight",
        aux_prefix="auxiliary_head.",
        aux_classes_keys=("auxiliary_head.conv_seg.weight",),
        layout="mmsegmentation",
        options={"upsampling": "bilinear_pointwise", "head_width": 64},
    )


def _smp(
    encoder: Table, first: str, skips: dict[str, int], deepest: str, layout: str = "smp", **options: Any
) -> Architecture:
    """Returns the layout of segmentation_models_pytorch for one encoder.

    Args:
      encoder: Rows of the encoder as a classifier.
      first: Name of its first convolution.
      skips: Names of the maps that the decoder joins and their channels, from shallow to deep.
      deepest: Name of the map that the decoder starts from.
      layout: Name of the layout.
      **options: Options beside those that all encoders share.
    """
    table = (
        *((rf"backbone/{ours}", rf"encoder.{theirs}") for ours, theirs in encoder if not ours.startswith("head")),
        (r"center_(\d)/conv", r"decoder.center.\1.0"),
        (r"center_(\d)/bn", r"decoder.center.\1.1"),
        *(
            (rf"join_(\d)_{layer}/{kind}", rf"decoder.blocks.\1.conv{layer + 1}.{place}")
            for layer in (0, 1)
            for place, kind in enumerate(("conv", "bn"))
        ),
        (r"classifier", "segmentation_head.0"),
    )
    return Architecture(
        table,
        classes_key="segmentation_head.0.weight",
        input_key=f"encoder.{first}.weight",
        layout=layout,
        options={"upsampling": "nearest_bare", "skips": (*skips, deepest), "head_size": 3, **options},
        # They read the enlarged map first, ours the skip.
        rolled={
            f"decoder.blocks.{block}.conv1.0.weight": channels
            for block, channels in enumerate(list(skips.values())[::-1])
        },
    )


def _named(names: str, channels: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(names.split(), channels))


def _smp_resnet(width: int) -> Architecture:
    """Of a ResNet whose first stage has so many channels."""
    skips = {"stem": 64, "stage1": width, "stage2": 2 * width, "stage3": 4 * width}
    return _smp(RESNET, "conv1", skips, "stage4")


def _smp_vgg(name: str) -> Architecture:
    skips = {"stage2": 128, "stage3": 256, "stage4": 512, "stage5": 512}
    return _smp(ARCHITECTURES[name].table, "features.0", skips, "pool5", center_widths=(512, 512))


def _smp_densenet(*channels: int) -> Architecture:
    skips = _named("stem block1 block2 block3", channels)
    return _smp(DENSENET, "features.conv0", skips, "block4", backbone={"normalized_maps": True})


def _smp_efficientnet(number: int, counts: tuple[int, ...], side: int, channels: tuple[int, ...]) -> Architecture:
    """Of EfficientNet-PyTorch, which numbers all blocks in one row. Of B0 the third skip is a block too early."""
    table = [("stem_conv", "_conv_stem"), ("stem_bn", "_bn0"), ("top_conv", "_conv_head"), ("top_bn", "_bn1")]
    layers = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "depthwise_conv": "_depthwise_conv",
        "depthwise_bn": "_bn1",
        "squeeze_excite/reduce": "_se_reduce",
        "squeeze_excite/expand": "_se_expand",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    blocks = [(stage, block) for stage, count in enumerate(counts, start=1) for block in range(count)]
    for place, (stage, block) in enumerate(blocks):
        table += [(f"stage{stage}_{block}/{ours}", f"_blocks.{place}.{theirs}") for ours, theirs in layers.items()]
    skips = _named(f"stem stage2 stage3 {'stage5' if number else 'stage5_0'}", channels)
    backbone: dict[str, Any] = {"norm": {"epsilon": 1e-3}, "padded_for": side}
    if not number:
        backbone["block_maps"] = ("stage5_0",)
    return _smp(tuple(table), "_conv_stem", skips, "stage7", backbone=backbone)


def _smp_timm_efficientnet(channels: tuple[int, ...]) -> Architecture:
    skips = _named("stem stage2 stage3 stage5", channels)
    backbone = {"norm": {"epsilon": 1e-5}}
    return _smp(EFFICIENTNET_TIMM.table, "conv_stem", skips, "stage7", "smp_timm", backbone=backbone)


# Blocks of each stage, side of the images, and channels of the skips, of B0 to B7.
_EFFICIENTNETS = (
    ((1, 2, 2, 3, 3, 4, 1), 224, (32, 24, 40, 112)),
    ((2, 3, 3, 4, 4, 5, 2), 240, (32, 24, 40, 112)),
    ((2, 3, 3, 4, 4, 5, 2), 260, (32, 24, 48, 120)),
    ((2, 3, 3, 5, 5, 6, 2), 300, (40, 32, 48, 136)),
    ((2, 4, 4, 6, 6, 8, 2), 380, (48, 32, 56, 160)),
    ((3, 5, 5, 7, 7, 9, 3), 456, (48, 40, 64, 176)),
    ((3, 6, 6, 8, 8, 11, 3), 528, (56, 40, 72, 200)),
    ((4, 7, 7, 10, 10, 13, 4), 600, (64, 48, 80, 224)),
)
UNETS: dict[str, tuple[Architecture, ...]] = {
    "unet": (
        _milesial("milesial", True, sign="up1.up.weight", options={"odd_sides": "zeros"}),
        _milesial(
            "milesial_bilinear", False, options={"odd_sides": "zeros", "upsampling": "corners_bare", "narrow": True}
        ),
        _mmsegmentation(),
    ),
    "unet_original": (_phseg(),),
    **{f"unet_resnet{depth}": (_smp_resnet(64 if depth < 50 else 256),) for depth in (18, 34, 50, 101, 152)},
    "unet_resnext*": (_smp_resnet(256),),
    **{
        f"unet_vgg{depth}{norm}": (_smp_vgg(f"vgg{depth}{norm}"),) for depth in (11, 13, 16, 19) for norm in ("", "_bn")
    },
    "unet_densenet121": (_smp_densenet(64, 256, 512, 1024),),
    "unet_densenet161": (_smp_densenet(96, 384, 768, 2112),),
    "unet_densenet169": (_smp_densenet(64, 256, 512, 1280),),
    "unet_densenet201": (_smp_densenet(64, 256, 512, 1792),),
    **{
        f"unet_efficientnet_b{number}": (_smp_efficientnet(number, *row), _smp_timm_efficientnet(row[-1]))
        for number, row in enumerate(_EFFICIENTNETS)
    },
}
"""Layouts of U-Nets by patterns of our models' names."""
