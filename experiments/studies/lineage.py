"""What did seven years of architectures bring, at one budget?

AlexNet, Network in Network, VGG, GoogLeNet, ResNet, DenseNet, SENet and EfficientNet are narrowed until one image costs
all of them about the same multiply-adds, and trained for the same number of steps, on the same images, with the same
optimizer (AdamW, which nets without BatchNorm bear too). A search over widths finds the nets. NIN, VGG, ResNet and
DenseNet have the form for small images. The strides of the others are made for large ones: as in their recipes for
CIFAR-10 they see images enlarged to 64 pixels. DenseNet and EfficientNet are shallower than published, so that the
study takes minutes. Nothing overfits within so few steps, so dropout is off.

    cvjax study lineage                          the embedded scenes
    cvjax study lineage --data FOLDER            CIFAR-10, or any labeled images
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig, OptimizerConfig
from cvjax.inspection import inspect_model
from cvjax.models import model_info
from cvjax.tasks.classification.config import ClassificationConfig
from experiments.studies._recipes import SMALL_IMAGES
from experiments.studies._study import (
    LOOKS,
    Cells,
    Finding,
    Lab,
    Settings,
    Study,
    main,
    of_seeds,
    panel,
    spread,
    variants_of,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LineageSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      nets: Names of the nets in the order of their years.
      budget: Multiply-adds of one image, in millions.
      steps: Number of training steps of each net.
      examples: Number of images that are scored.
    """

    nets: tuple[str, ...] = ("AlexNet", "NIN", "VGG", "GoogLeNet", "ResNet", "DenseNet", "SENet", "EfficientNet")
    budget: float = 5.0
    steps: int = 150
    examples: int = 1000


class Line(NamedTuple):
    """Describes one of the nets.

    Attributes:
      model: Name of the published model.
      options: Options at a factor on the published widths.
      side: Side of the images that it sees, in pixels.
      published: Name of the model whose year counts, where the small form is not it.
    """

    model: str
    options: Callable[[float], dict[str, Any]]
    side: int
    published: str


def _times(factor: float, *widths: int) -> tuple[int, ...]:
    return tuple(max(1, round(factor * width)) for width in widths)


_STILL = {"dropout": 0.0}
_LINES = {
    "AlexNet": Line(
        "alexnet",
        lambda f: {"channels": _times(f, 64, 192, 384, 256, 256), "hidden": _times(f, 1024)[0], **_STILL},
        64,
        "alexnet_grouped",
    ),
    "NIN": Line("nin_cifar", lambda f: {"width": f, **_STILL}, 32, "nin"),
    "VGG": Line(
        "vgg11_bn",
        lambda f: {"widths": _times(f, 64, 128, 256, 512, 512), "hidden": _times(f, 512)[0], **_STILL},
        32,
        "vgg11_bn",
    ),
    "GoogLeNet": Line("googlenet", lambda f: {"width": f, "aux_dropout": 0.0, **_STILL}, 64, "googlenet"),
    "ResNet": Line("resnet20_cifar", lambda f: {"width": _times(f, 16)[0]}, 32, "resnet20_cifar"),
    "DenseNet": Line(
        "densenet100_k12_cifar",
        lambda f: {"growth": _times(f, 12)[0], "stem_features": _times(f, 24)[0], "block_sizes": (3, 3, 3)},
        32,
        "densenet100_k12_cifar",
    ),
    "SENet": Line("seresnet18", lambda f: {"width": _times(f, 64)[0]}, 64, "seresnet18"),
    "EfficientNet": Line(
        "efficientnet_b0",
        lambda f: {
            "width_coefficient": f,
            "depth_coefficient": 0.3,
            "drop_connect": 0.0,
            "norm": {"momentum": 0.9},
            **_STILL,
        },
        64,
        "efficientnet_b0",
    ),
}
_ADAMW = OptimizerConfig(name="adamw", learning_rate=2e-3, weight_decay=0.05, schedule="cosine", warmup=0.1)


def narrowed(line: Line, macs: float, tries: int = 7) -> dict[str, Any]:
    """Returns the options of a net with about so many multiply-adds for an image.

    The work is about a square of the width. Widths are whole numbers, so the nearest of all tries is taken.
    """
    factor, below, above, best = 0.25, 0.0, np.inf, (np.inf, {})
    for _ in range(tries):
        options = line.options(factor)
        found = inspect_model(line.model, image_size=line.side, num_classes=10, **options).macs
        best = min(best, (abs(np.log(found / macs)), options), key=lambda pair: pair[0])
        if best[0] < 0.03:
            break
        below, above = (max(below, factor), above) if found < macs else (below, min(above, factor))
        factor *= float(np.sqrt(macs / found))
        if not below < factor < above:
            factor = float(np.sqrt(max(below, 0.01) * above)) if np.isfinite(above) else 1.5 * below
    return best[1]


def measure(settings: LineageSettings, lab: Lab) -> None:
    """Trains each net with each seed, and notes its size, its time and its accuracy."""
    for net in settings.nets:
        line = _LINES[net]
        lab.measure_seeds(net, settings.seeds, partial(_runs, settings, line), partial(_figures, line))


def _runs(settings: LineageSettings, line: Line) -> ShortRun:
    data = replace(SMALL_IMAGES.input, crop=(line.side, line.side), padding=line.side // 8)
    model = ModelConfig(line.model, **narrowed(line, 1e6 * settings.budget))
    config: ClassificationConfig = replace(SMALL_IMAGES, model=model, steps=settings.steps, input=data, optim=_ADAMW)
    return ShortRun(settings.on_data(config), examples=settings.examples)


def _figures(line: Line, run: ShortRun, seed: int) -> dict[str, Any]:
    marks: list[float] = []
    trained = run.train(seed, watch=lambda step, state, metrics: marks.append(time.process_time()))
    first = min(4, len(marks) - 2)  # the first steps wait for the compiler
    counted = inspect_model(run.model, image_size=line.side)
    steps, batch = len(marks) - 1 - first, run.task.config.batch_size
    return {
        "year": model_info(line.published).year,
        "side": line.side,
        "params": counted.params - counted.training_only_params,
        "macs": counted.macs,
        "train_loss": trained.last_loss,
        "top1": run.score(trained.variables)["top1"],
        "cpu_ms": 1e3 * (marks[-1] - marks[first]) / (steps * batch),
    }


def frontier(cells: Cells) -> list[str]:
    """Returns the nets, by parameters, that no net with as few parameters beats in accuracy."""
    sizes = {net: cells[f"{net}/0"]["params"] for net in variants_of(cells)}
    found, best = [], -1.0
    for net in sorted(sizes, key=lambda net: sizes[net]):
        accuracy = of_seeds(cells, net, "top1").mean()
        if accuracy > best:
            found.append(net)
            best = accuracy
    return found


def conclude(cells: Cells) -> Finding:
    """Returns the table of all nets, and what those since ResNet have over those before."""
    rows = []
    for net in variants_of(cells):
        row = cells[f"{net}/0"]
        sizes = (f"{row['macs'] / 1e6:.2f}", f"{row['params'] / 1e3:.0f}")
        figures = [with_error(of_seeds(cells, net, "cpu_ms"), 1, 2), with_error(of_seeds(cells, net, "top1"), 100)]
        rows.append([net, str(row["year"]), str(row["side"]), *sizes, *figures])
    heads = ("net", "year", "image px", "multiply-adds M", "parameters k", "CPU ms an image in training", "top-1 %")
    years = {net: cells[f"{net}/0"]["year"] for net in variants_of(cells)}
    late, early = ([net for net in years if (years[net] >= 2015) is since] for since in (True, False))
    words = f"no net with as few parameters beats {', '.join(frontier(cells))}"
    if not late or not early:
        return Finding(heads, rows, f"{words}; the claim needs nets from before and since 2015.")
    gain = _gain(cells, early, late)
    best = max(late, key=lambda net: of_seeds(cells, net, "top1").mean())
    others = [net for net in late if net != best]
    rest = _gain(cells, early, others) if others else gain
    sizes = [np.exp(np.mean([np.log(cells[f"{net}/0"]["params"]) for net in nets])) / 1e3 for nets in (early, late)]
    holds = gain.mean() > spread(gain) and sizes[1] < sizes[0]
    verdict = "holds" if rest.mean() > spread(rest) else f"holds by {best} alone"
    told = (
        f"the nets since 2015 have on average {sizes[1]:.0f} thousand parameters (geometric mean), those before"
        f" {sizes[0]:.0f}, and their mean top-1 differs by {with_error(gain)} points, without {best} by"
        f" {with_error(rest)}; {words}. The claim {verdict if holds else 'does not show'} at this budget."
    )
    return Finding(heads, rows, told)


def _gain(cells: Cells, early: list[str], late: list[str]) -> np.ndarray:
    """Returns by how many points the mean top-1 of the later nets is above that of the earlier ones, of each seed."""
    before, since = (np.mean([of_seeds(cells, net, "top1") for net in nets], axis=0) for nets in (early, late))
    return 100 * (since - before)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the accuracy over the number of parameters, with the frontier, and over the time."""
    left, right = figure.subplots(1, 2, sharey=True)
    edge = frontier(cells)
    sizes = [cells[f"{net}/0"]["params"] / 1e3 for net in edge]
    best = [100 * of_seeds(cells, net, "top1").mean() for net in edge]
    left.step(sizes, best, where="post", color="#9aa0a8", linewidth=1.2, label="best with as few parameters")
    _points(left, cells, "params", 1e-3)
    _points(right, cells, "cpu_ms", 1.0)
    left.set_xscale("log")
    panel(left, "accuracy for parameters", "parameters (thousands)", "top-1 accuracy (%)", legend=False)
    panel(right, "accuracy for time", "CPU time of one image in training (ms)", "top-1 accuracy (%)", legend=False)
    right.set_xlim(left=0)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=8)


def _points(axes: "Axes", cells: Cells, figure: str, scale: float) -> None:
    for number, net in enumerate(variants_of(cells)):
        color = LOOKS[number % len(LOOKS)]["color"]
        x, y = scale * of_seeds(cells, net, figure), 100 * of_seeds(cells, net, "top1")
        axes.errorbar(
            x.mean(),
            y.mean(),
            xerr=spread(x),
            yerr=spread(y),
            color=color,
            marker="os^DvPX*"[number % 8],
            markersize=8,
            markeredgecolor="#222222",
            capsize=3,
            linestyle="none",
            label=f"{net} ({cells[f'{net}/0']['year']})",
        )


STUDY = Study(
    settings=LineageSettings(),
    trial=LineageSettings(seeds=1, nets=("AlexNet", "ResNet"), budget=0.5, steps=3, examples=8),
    task="classification",
    claim="At equal multiply-adds, seven years of architectures get more accuracy out of fewer parameters",
    paper="each at its own size on ImageNet, EfficientNet-B0's 5.3 M parameters reach 77.1% top-1 with 0.39 G"
    " multiply-adds, ResNet-50's 26 M 76.0% with 4.1 G (1905.11946, table 2).",
    meaning="The mean over the later nets is higher, with fewer parameters, but most of that is SENet's: narrowed to so"
    " little work and trained so briefly, ResNet and DenseNet stay below AlexNet and VGG, with a fraction of their"
    " parameters. Equal work is not equal time: thin layers and many take longer than their multiply-adds say.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(11.5, 4.8),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
