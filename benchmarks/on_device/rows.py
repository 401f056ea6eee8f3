"""The rows of `benchmarks/accelerator.py`, in the order of what matters first, at full size and tiny."""

import dataclasses
from collections.abc import Mapping

from layer_sides import Layer
from layers import LAYERS, name_of
from nms import CASES
from paired import Message

# XLA's options that may make convolutions on a GPU faster; a side each, beside "cvjax" without.
FLAGS = {
    "cvjax-conv-fusion": "xla_gpu_experimental_enable_conv_fusion",
    "cvjax-nhwc": "xla_gpu_force_conv_nhwc",
}
TORCH_SIDES = ("torch", "torch-compile")
DIRECTIONS = ("kernel gradient", "input gradient", "forward")
_UP = Layer("conv_transpose", (32, 32, 512), 256, (2, 2), (2, 2), ((1, 1), (1, 1)))  # of U-Net
_ALONE = {"torch-compile": "a layer alone leaves nothing to fuse"}


@dataclasses.dataclass(frozen=True)
class Net:
    """A net that is trained.

    Attributes:
      task: "classification", "segmentation" or "detection".
      classes: number of classes, without a detector's background.
      batch: images a step.
      size: side of the images, in pixels.
    """

    task: str
    classes: int
    batch: int
    size: int


NETS = {
    "resnet50": Net("classification", 1000, 256, 224),
    "efficientnet_b0": Net("classification", 1000, 256, 224),
    "deeplabv3plus_resnet50": Net("segmentation", 21, 32, 513),
    "unet": Net("segmentation", 21, 16, 512),
    "fasterrcnn_resnet50_fpn": Net("detection", 90, 8, 800),
    "yolov1": Net("detection", 20, 64, 448),
}
_TINY_SIZES = {"yolov1": 448, "fasterrcnn_resnet50_fpn": 64}  # YOLO's dense layers fix its images' size.
_TINY_LAYERS = (
    Layer("conv_transpose", (3, 4, 6), 5, (2, 2), (2, 2), ((1, 1), (1, 1))),
    Layer("conv", (5, 6, 8), 8, (3, 3), (1, 1), ((1, 1), (1, 1)), groups=8),
    Layer("conv", (5, 6, 8), 16, (3, 3), (1, 1), ((1, 1), (1, 1)), groups=4),
    Layer("max_pool", (6, 6, 4), 0, (3, 3), (2, 2), ((1, 1), (1, 1))),
    Layer("resize", (5, 6, 3), window=(9, 11)),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
      group: "training", "flags", "operators" or "lowerings".
      case: as the table calls it.
      mode: what is run.
      sides: contestants; the first is the reference.
      work: what they prepare, as `on_device.sides` reads it.
      tolerance: relative difference up to which they compute the same thing.
      absent: sides that cannot take part, and why.
    """

    group: str
    case: str
    mode: str
    sides: tuple[str, ...]
    work: Message
    tolerance: float = 2e-2
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)


def rows(tiny: bool = False, share: float = 1.0) -> list[Row]:
    """All rows, the most important ones first.

    Args:
      tiny: nets, images and batches small enough for a CPU.
      share: factor on the batches of training, for a device of less memory.
    """
    transposed, others = [], []
    for layer in _TINY_LAYERS if tiny else (_UP, *(one for one in LAYERS if _has_forms(one))):
        (transposed if layer.kind == "conv_transpose" else others).extend(_lowerings(layer, 2 if tiny else 32))
    nets = {name: _training(name, tiny, share) for name in NETS}
    return [
        nets["resnet50"],
        *transposed,
        *_suppressions(tiny),
        nets["unet"],
        nets["efficientnet_b0"],
        nets["deeplabv3plus_resnet50"],
        _crf(tiny),
        _flags("resnet50", tiny, share),
        nets["yolov1"],
        nets["fasterrcnn_resnet50_fpn"],
        *others,
        _flags("unet", tiny, share),
        _flags("efficientnet_b0", tiny, share),
    ]


def _has_forms(layer: Layer) -> bool:
    """Whether cvjax has a form of its own for the layer, on some platform."""
    return layer.kind in ("conv_transpose", "max_pool", "resize") or layer.groups > 1


def _work(name: str, tiny: bool, share: float) -> Message:
    net = NETS[name]
    if tiny:
        net = dataclasses.replace(net, batch=2, size=_TINY_SIZES.get(name, 32))
    batch = max(2, round(net.batch * share))
    return {
        "kind": "training",
        "model": name,
        **dataclasses.asdict(net),
        "batch": batch,
        "tiny": tiny,
        "dtype": "bfloat16",
    }


def _training(name: str, tiny: bool, share: float) -> Row:
    # Random steps give random losses; who has as many parameters has the same net.
    slow = {"torch-compile": "takes minutes on a CPU; leave out --tiny"} if tiny else {}
    return Row("training", name, "training", ("cvjax", *TORCH_SIDES), _work(name, tiny, share), 1e-9, slow)


def _flags(name: str, tiny: bool, share: float) -> Row:
    return Row("flags", name, "training with XLA's options", ("cvjax", *FLAGS), _work(name, tiny, share), 1e-9)


def _suppressions(tiny: bool) -> list[Row]:
    cases = [("proposals", 50, 10)] if tiny else CASES
    alone = {"torch-compile": "torchvision's is one kernel, which leaves nothing to compile"}
    return [
        Row(
            "operators",
            f"NMS, {kind}, {count} to {most}",
            "inference",
            ("cvjax", *TORCH_SIDES),
            {"kind": "nms", "case": {"kind": kind, "count": count, "most": most}, "batch": 1},
            1e-5,
            alone,
        )
        for kind, count, most in cases
    ]


def _crf(tiny: bool) -> Row:
    batch, size, classes = (1, [12, 9], 3) if tiny else (16, [375, 500], 21)
    case = {"image": "noise", "batch": batch, "classes": classes, "size": size}
    none = dict.fromkeys(TORCH_SIDES, "PyTorch has no dense CRF; benchmarks/crf.py compares with pydensecrf")
    name = "dense CRF, {}x{}, {} classes".format(*size, classes)
    sides = ("cvjax", *TORCH_SIDES)
    return Row("operators", name, "inference", sides, {"kind": "crf", "case": case, "batch": batch}, absent=none)


def _lowerings(layer: Layer, batch: int) -> list[Row]:
    work = {"kind": "lowering", "layer": dataclasses.asdict(layer), "batch": batch, "dtype": "bfloat16"}
    one_form = {"cvjax-cpu-forms": "a resize has one form on all platforms"} if layer.kind == "resize" else {}
    return [
        Row(
            "lowerings",
            name_of(layer),
            direction,
            ("cvjax", "flax", "cvjax-cpu-forms", *TORCH_SIDES),
            {**work, "direction": direction},
            absent={**_ALONE, **one_form},
        )
        for direction in DIRECTIONS
        if layer.kernel_shape or direction != "kernel gradient"
    ]
