"""Is it better to make a net wider, deeper, its images larger, or all of it a little?

Tan and Le (1905.11946) scale a net to more multiply-adds in four ways: width alone, depth alone, resolution alone, and
all three by constant ratios (depth 1.2, width 1.1, resolution 1.15 to the power of phi). At equal cost the compound
scaling is the most accurate. Here a small residual net is scaled to several times its multiply-adds. Each way has one
free number; the net nearest to the wanted cost is searched for, compound scaling starting from the paper's ratios.
Images have 32 pixels, so beyond that size they only become smoother, which the paper's photographs do not.

    cvjax study scaling                          the embedded scenes
    cvjax study scaling --data FOLDER            CIFAR-10, or any labeled images
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.inspection import Inspection, inspect_model
from cvjax.models.classification.efficientnet import compound_scale
from experiments.studies._budget import closest
from experiments.studies._recipes import SMALL_IMAGES
from experiments.studies._study import (
    Cells,
    Finding,
    Lab,
    Settings,
    Study,
    look_of,
    main,
    of_seeds,
    once,
    panel,
    spread,
    variants_of,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BASE = "as it is"
_EVEN = 2
"""Sides of images are multiples of this many pixels."""


@dataclass(frozen=True)
class Net:
    """Describes a net of the family.

    Attributes:
      width: Channels of the first stage.
      blocks: Number of blocks in each of the three stages.
      size: Side of the images in pixels.
    """

    width: int
    blocks: int
    size: int

    @property
    def config(self) -> ModelConfig:
        """Returns the configuration of the model."""
        return ModelConfig("resnet20_cifar", width=self.width, blocks=self.blocks)

    @property
    def macs(self) -> int:
        """Returns the multiply-adds of one image."""
        return self.counted().macs

    def counted(self) -> Inspection:
        """Returns what there is to count in the net."""
        return inspect_model("resnet20_cifar", image_size=self.size, **self.config.options)


@dataclass(frozen=True)
class ScalingSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      width, blocks, size: Channels, blocks of a stage, and side of the images of the net that is scaled.
      ways: Ways in which it is scaled, compound the last.
      factor: Multiply-adds of the scaled nets, in those of that net.
      steps: Number of training steps of each net.
      examples: Number of images that are scored.
    """

    width: int = 6
    blocks: int = 2
    size: int = 24
    ways: tuple[str, ...] = ("width", "depth", "resolution", "compound")
    factor: float = 3.5
    steps: int = 150
    examples: int = 1000


def scaled(base: Net, way: str, factor: float) -> Net:
    """Returns the net that is scaled in one way and is nearest to the wanted multiply-adds.

    Compound scaling rounds the paper's numbers, and then takes the width that is nearest.
    """
    wanted = factor * base.macs
    if way == "depth":
        tried = [replace(base, blocks=blocks) for blocks in range(base.blocks, int(base.blocks * factor) + 3)]
    elif way == "resolution":
        tried = [replace(base, size=size) for size in range(base.size, int(base.size * factor**0.5) + 5, _EVEN)]
    else:
        start = base
        if way == "compound":
            ratios = compound_scale(np.log2(factor))
            size = _EVEN * round(base.size * ratios.image_size / compound_scale(0).image_size / _EVEN)
            start = Net(base.width, max(base.blocks, round(base.blocks * ratios.depth_coefficient)), size)
        tried = [replace(start, width=width) for width in range(base.width, int(base.width * factor**0.5) + 3)]
    return tried[closest(lambda place: tried[place].macs, wanted, 0, len(tried) - 1)]


def measure(settings: ScalingSettings, lab: Lab) -> None:
    """Trains the net as it is, and scaled in each way, with each seed."""
    base = Net(settings.width, settings.blocks, settings.size)
    for way in (_BASE, *settings.ways):
        net = once(lambda way=way: base if way == _BASE else scaled(base, way, settings.factor))
        lab.measure_seeds(
            way,
            settings.seeds,
            lambda net=net: runs_of(settings, net()),
            lambda run, seed, net=net: _figures(net(), run, seed),
        )


def runs_of(settings: ScalingSettings, net: Net) -> ShortRun:
    """Returns the runs of a net, whose shifts are in proportion to its images."""
    data = replace(SMALL_IMAGES.input, crop=(net.size, net.size), padding=net.size // 8)
    config = replace(SMALL_IMAGES, model=net.config, input=data, steps=settings.steps)
    return ShortRun(settings.on_data(config), examples=settings.examples)


def _figures(net: Net, run: ShortRun, seed: int) -> dict[str, float]:
    trained = run.train(seed)
    counts = {"width": net.width, "depth": 6 * net.blocks + 2, "size": net.size}
    found = net.counted()
    counts |= {"params": found.params, "macs": found.macs}
    return {**counts, "train_loss": trained.last_loss, "top1": run.score(trained.variables)["top1"]}


def _ways(cells: Cells) -> list[str]:
    return [way for way in variants_of(cells) if way != _BASE]


def conclude(cells: Cells) -> Finding:
    """Returns the table of all nets, and where compound scaling stands among the ways."""
    rows = []
    for way in variants_of(cells):
        net = cells[f"{way}/0"]
        counts = (
            f"{net['width']}, {net['depth']}, {net['size']}",
            f"{net['macs'] / 1e6:.2f}",
            f"{net['params'] / 1000:.0f}",
        )
        loss = with_error(of_seeds(cells, way, "train_loss"), 1, 2)
        rows.append([way, *counts, loss, with_error(100 * of_seeds(cells, way, "top1"))])
    top1 = {way: 100 * of_seeds(cells, way, "top1") for way in _ways(cells)}
    order = sorted(top1, key=lambda way: -top1[way].mean())
    base = 100 * of_seeds(cells, _BASE, "top1")
    gains = {way: top1[way] - base for way in order}
    rest = max((way for way in top1 if way != "compound"), key=lambda way: top1[way].mean())
    lead = top1["compound"] - top1[rest]
    certain = abs(lead.mean()) > spread(lead)
    held = "holds" if lead.mean() > 0 and certain else "does not hold" if certain else "is within the error"
    verdict = (
        f"points of top-1 accuracy gained for {cells['compound/0']['macs'] / cells[f'{_BASE}/0']['macs']:.1f} times the"
        f" multiply-adds: {', '.join(f'{way} {with_error(gains[way])}' for way in order)}. Compound scaling stands"
        f" {with_error(lead)} from the best single way, {rest}; the claim {held} at this budget."
    )
    columns = ("scaled", "width, layers, pixels", "multiply-adds, M", "parameters, k", "training loss", "top-1 %")
    return Finding(columns, rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the accuracy over multiply-adds from the net as it is, and the loss and accuracy of each way."""
    left, right = figure.subplots(1, 2)
    base = cells[f"{_BASE}/0"]["macs"] / 1e6
    for axes, what, scale, unit in (
        (left, "top1", 100, "top-1 accuracy (%)"),
        (right, "train_loss", 1, "training loss (cross entropy, last tenth of the steps)"),
    ):
        first = scale * of_seeds(cells, _BASE, what)
        for number, way in enumerate(_ways(cells)):
            found = scale * of_seeds(cells, way, what)
            x = [base, cells[f"{way}/0"]["macs"] / 1e6 * (1 + 0.02 * (number - 1.5))]  # apart, so that bars can be told
            y, error = [first.mean(), found.mean()], [0.0, spread(found)]
            axes.errorbar(x, y, yerr=error, label=way, capsize=3, markersize=6, **look_of(number))
        axes.errorbar([base], [first.mean()], yerr=[spread(first)], capsize=3, **look_of(5), label=_BASE)
        axes.locator_params(axis="x", nbins=6)
        panel(
            axes,
            "accuracy on other images" if what == "top1" else "fit to the training images",
            "multiply-adds (millions an image)",
            unit,
            axes is left,
        )
    left.legend(frameon=False, fontsize=8, labelcolor="#333333", loc="upper left")


STUDY = Study(
    settings=ScalingSettings(),
    trial=ScalingSettings(
        seeds=1, width=2, blocks=1, size=8, factor=2.0, ways=("resolution", "compound"), steps=2, examples=8
    ),
    task="classification",
    claim="At equal cost, scaling width, depth and resolution together is better than scaling one of them",
    paper="at about the same multiply-adds, compound scaling of EfficientNet-B0 is up to 2.5 points of ImageNet"
    " accuracy better than scaling width, depth or resolution alone (1905.11946, figure 8).",
    meaning="What a net lacks depends on where it starts. Images of 32 pixels hold nothing that a finer grid would"
    " show, and a deeper net needs more steps than these, so the few channels of a small net are what holds it back:"
    " width alone gains most, and compound scaling spends only a part of its work there.",
    measure=measure,
    conclude=conclude,
    draw=draw,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
