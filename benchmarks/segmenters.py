"""How fast segmenters are against stock Flax and PyTorch: a training step, or inference.

    python benchmarks/segmenters.py --torch-python path/to/python-with-torch
    python benchmarks/segmenters.py --nets unet_w16 --modes inference --batch 1 8

As `benchmarks/models.py` has it for classifiers, with nets for CamVid's 11 classes at 180x240: U-Nets of width 16 (that
of `cvjax train camvid quick`, with its BatchNorm) and 64, and DeepLab v3+ on a ResNet-50 without dropout. torch runs
the nets in `benchmarks/torch_nets`. The loss is the cross entropy of the labeled pixels, where a tenth is not labeled.

torch is optional. Results go to benchmarks/results/segmenters_PLATFORM.md and .json, with --threads N to
segmenters_PLATFORM_threadsN, and those of inference to files that end in _inference.
"""

import argparse

from layer_sides import JAX_SIDES
from model_tables import Subject, add_net_arguments, run
from paired import add_arguments

_QUICK = {"depth": 4, "norm": {"momentum": 0.95}}  # of BatchNorm; PyTorch says 0.05
# Our model and its options, by what the row is called.
NETS = {
    "unet_w16": ("unet", {"width": 16, **_QUICK}),
    "unet_w64": ("unet", {"width": 64, **_QUICK}),
    "deeplabv3plus_resnet50": ("deeplabv3plus_resnet50", {}),
}
SEGMENTERS = Subject("Segmenters", "segmenters.py", "model_sides.py", (*JAX_SIDES, "torch"), looseness=10)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=5)
    add_net_arguments(parser, batch=8)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS), metavar="NET", help=", ".join(NETS))
    parser.add_argument("--size", type=int, nargs=2, default=[180, 240], help="height and width, in pixels")
    arguments = parser.parse_args()
    about = {"task": "segmentation", "classes": 11}
    nets = [{"net": net, "model": NETS[net][0], "options": NETS[net][1], **about} for net in arguments.nets]
    run(SEGMENTERS, arguments, nets, tuple(arguments.size))


if __name__ == "__main__":
    main()
