"""Maps the parameters of our U-Nets to their names in the authors' Caffe net and in public PyTorch libraries.

All of them have other orders of channels, other layers or other borders than our default nets; the options of a layout
say which.
"""

from cvjax.weights.architecture import Architecture, Table


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


UNETS: dict[str, tuple[Architecture, ...]] = {
    "unet_original": (_phseg(),),
}
"""Layouts of U-Nets by patterns of our models' names."""
