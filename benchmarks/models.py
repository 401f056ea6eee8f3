"""How fast whole classifiers are against stock Flax and PyTorch: inference, and a training step.

    python benchmarks/models.py --torch-python path/to/python-with-torch
    python benchmarks/models.py --models resnet50 --modes training --batch 256    # on a GPU
    python benchmarks/models.py --modes inference --batch 1 8

Contestants are those of `benchmarks/layers.py`. The stock sides run the same models with the layers of flax.linen in
the place of ours (`benchmarks/stock.py`), so parameters and results are the same; torch runs torchvision's models, or
their twins in `benchmarks/torch_nets`, channels_last, on a GPU under `torch.compile` and, with --dtype bfloat16,
autocast. A training step is cross entropy, gradients, SGD with momentum and BatchNorm's update, on one batch that is
there already; nothing is dropped. All start from the same weights, and must agree in logits, or in the loss and in the
gradient's norm, or they are left out of the row. `benchmarks/paired.py` says how turns are taken.

On a CPU the table says what a training step needs in memory too: parameters, statistics and the optimizer's state, and
what the process grows by at most during a step, so without the programs and libraries themselves.

torch is optional. Results go to benchmarks/results/models_PLATFORM.md and .json, with --threads N to
models_PLATFORM_threadsN, and those of inference, of all batch sizes, beside them to files that end in _inference.
"""

import argparse

from layer_sides import JAX_SIDES
from model_tables import Subject, add_net_arguments, run
from paired import add_arguments

MODELS = ("resnet50", "resnext50_32x4d", "efficientnet_b0")
# Rounding adds up through the layers, the more the fewer values BatchNorm averages: with 2 images of 64x64, ResNet-50's
# gradient in float32 is 2e-3 from that in float64 in PyTorch alone, with 4 of 128x128 1e-4.
CLASSIFIERS = Subject("Classifiers", "models.py", "model_sides.py", (*JAX_SIDES, "torch"), looseness=10)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, rounds=7)
    add_net_arguments(parser, batch=8)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL", help="classifiers, by registered name")
    parser.add_argument("--size", type=int, default=224, help="side of the images, in pixels")
    arguments = parser.parse_args()
    about = {"task": "classification", "classes": 1000, "options": {}}
    nets = [{"net": model, "model": model, **about} for model in arguments.models]
    run(CLASSIFIERS, arguments, nets, (arguments.size, arguments.size))


if __name__ == "__main__":
    main()
