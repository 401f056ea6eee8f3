"""How fast a training step of Faster R-CNN is against torchvision's: a ResNet-50 with a feature pyramid.

    python benchmarks/faster_rcnn.py --torch-python path/to/python-with-torch

One image whose shorter side is 800, padded to multiples of 32, with 8 objects of 20 classes. Ours is the engine's own
step on the detection task; torch is torchvision's net, which normalizes and pads as ours does. Both have frozen
BatchNorm, train what torchvision trains (the ResNet's last three stages, the pyramid and all behind it), and look at
256 anchors and 512 regions of 2000 proposals; SGD with momentum, no weight decay.

Each side draws anchors and regions by random numbers of its own, so losses of the measured step agree by chance alone.
Compared is a step before it, from the same weights, that draws all there are: all anchors that are positive or
negative, and all proposals with the objects themselves. It must agree in each of the four losses and in the norm of
the trained parameters' gradient, to 1e-3: of 2000 proposals, rounding may change a few. Weights are such that scores
and boxes are small, as at the start of a training, so that suppression has its usual work.

torch needs torchvision, and is optional. Results go to benchmarks/results/faster_rcnn_PLATFORM.md and .json, with
--threads N to faster_rcnn_PLATFORM_threadsN. Memory is what `benchmarks/models.py` says.
"""

import argparse

from model_tables import Subject, add_net_arguments, run
from paired import add_arguments

FASTER_RCNN = Subject("Faster R-CNN", "faster_rcnn.py", "faster_rcnn_sides.py", ("cvjax", "torch"), looseness=10)
NET = "fasterrcnn_resnet50_fpn"


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=5)
    add_net_arguments(parser, batch=1, modes=("training",))
    parser.add_argument("--size", type=int, nargs=2, default=[800, 1066], help="height and width, in pixels")
    arguments = parser.parse_args()
    net = {"net": NET, "model": NET, "classes": 20, "options": {}}
    run(FASTER_RCNN, arguments, [net], tuple(arguments.size))


if __name__ == "__main__":
    main()
