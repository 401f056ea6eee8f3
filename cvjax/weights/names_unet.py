"""Maps the parameters of our U-Nets to their names in the authors' Caffe net and in public PyTorch libraries.

All of them have other orders of channels, other layers or other borders than our default nets; the options of a layout
say which.
"""

from collections.abc import Iterator
from typing import Any

from cvjax.models.info import Preprocessing
from cvjax.weights.architecture import Architecture, Table
from cvjax.weights.folds import Extras


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


def _milesial(layout: str, **more: Any) -> Architecture:
    table = [
        (rf"{ours}_{layer}/{kind}", f"{theirs}.double_conv.{3 * layer + place}")
        for ours, theirs in _double_convs()
        for layer in (0, 1)
        for place, kind in enumerate(("conv", "bn"))
    ]
    table += [(rf"up_{4 - number}/conv", f"up{number}.up") for number in range(1, 5)]
    return Architecture(
        (*table, (r"classifier", "outc.conv")),
        classes_key="outc.conv.weight",
        input_key="inc.double_conv.0.weight",
        layout=layout,
        turned=("up?.up.weight",),
        fold=Extras(("mask_values",)),
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


UNETS: dict[str, tuple[Architecture, ...]] = {
    "unet": (
        _milesial("milesial", sign="up1.up.weight", options={"odd_sides": "zeros"}),
        _milesial(
            "milesial_bilinear", options={"odd_sides": "zeros", "upsampling": "corners_bare", "narrow": True}
        ),
        _mmsegmentation(),
    ),
    "unet_original": (_phseg(),),
}
"""Layouts of U-Nets by patterns of our models' names."""
