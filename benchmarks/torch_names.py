"""What the segmenters in `benchmarks/torch_nets` call the parameters of ours, as `cvjax.weights` describes a layout."""

from cvjax.weights.layouts.architecture import Architecture, Table
from cvjax.weights.layouts.torchvision import RESNET


def _conv_bn(ours: str, theirs: str, first: int = 0) -> Table:
    """Rows of a convolution with its BatchNorm, which have places in a row of modules."""
    return (rf"{ours}/conv", rf"{theirs}.{first}"), (rf"{ours}/bn", rf"{theirs}.{first + 1}")


_UNET = Architecture(
    (
        *_conv_bn(r"(down|join)_(\d)_0", r"\1.\2"),
        *_conv_bn(r"(down|join)_(\d)_1", r"\1.\2", 3),
        (r"up_(\d)/conv", r"up.\1"),
        (r"classifier", r"classifier"),
    ),
    classes_key="classifier.weight",
    input_key="down.0.0.weight",
    layout="torch_nets",
    turned=("up.?.weight",),
)
_DEEPLAB = Architecture(
    (
        *((rf"backbone/{ours}", rf"backbone.{theirs}") for ours, theirs in RESNET[:-1]),
        *_conv_bn(r"aspp/conv1x1", r"branches.0"),
        *_conv_bn(r"aspp/atrous(\d)", r"branches.\1"),
        *_conv_bn(r"aspp/(pooling|project)", r"\1"),
        *_conv_bn(r"(low_level)", r"\1"),
        *(
            row
            for layer in (0, 1)
            for part, kind in enumerate(("depthwise", "pointwise"))
            for row in _conv_bn(rf"refine_{layer}/{kind}", f"refine.{2 * layer + part}")
        ),
        (r"classifier", r"classifier"),
    ),
    classes_key="classifier.weight",
    input_key="backbone.conv1.weight",
    layout="torch_nets",
)
LAYOUTS = {"unet": _UNET, "deeplabv3plus_resnet50": _DEEPLAB}
