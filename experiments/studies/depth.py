"""Do deeper plain nets fit worse, and do residual nets not?

He et al. (1512.03385) saw that plain nets of 20 to 56 layers on CIFAR-10 have a higher training error the deeper they
are, though a deeper net could do all that a shallower one does. It is not overfitting: the training error itself rises.
Both kinds are trained here for the same number of steps, with the same optimizer, data and number of parameters; only
the shortcuts differ.

    cvjax study depth                          the embedded scenes
    cvjax study depth --data FOLDER            CIFAR-10, or any labeled images
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from experiments.studies._recipes import SMALL_IMAGES
from experiments.studies._study import (
    Cells,
    Finding,
    Lab,
    Settings,
    Study,
    main,
    of_seeds,
    panel,
    plot_line,
    spread,
    variants_of,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_KINDS = {"none": "plain", "A": "residual"}


@dataclass(frozen=True)
class DepthSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      depths: Numbers of layers, each 6n + 2.
      steps: Number of training steps of each net.
      width: Channels of the first stage; 16 in the paper.
      examples: Number of images that are scored.
    """

    depths: tuple[int, ...] = (8, 20, 44)
    steps: int = 200
    width: int = 8
    examples: int = 1000


def runs_of(settings: DepthSettings, depth: int, shortcut: str) -> ShortRun:
    """Returns the runs of one net."""
    model = ModelConfig("resnet20_cifar", blocks=(depth - 2) // 6, width=settings.width, shortcut=shortcut)
    config = replace(SMALL_IMAGES, model=model, steps=settings.steps)
    return ShortRun(settings.on_data(config), examples=settings.examples)


def measure(settings: DepthSettings, lab: Lab) -> None:
    """Trains each net with each seed, and notes its training loss at the end and its accuracy."""
    for shortcut in ("none", "A"):
        for depth in settings.depths:
            runs = partial(runs_of, settings, depth, shortcut)
            lab.measure_seeds(f"{_KINDS[shortcut]} {depth}", settings.seeds, runs, _figures)


def _figures(run: ShortRun, seed: int) -> dict[str, float]:
    trained = run.train(seed)
    return {"train_loss": trained.last_loss, "top1": run.score(trained.variables)["top1"]}


def _depths(cells: Cells) -> list[int]:
    return sorted({int(variant.split()[1]) for variant in variants_of(cells)})


def _table(cells: Cells, kind: str, figure: str) -> np.ndarray:
    """Returns a figure of all depths of one kind, float64 [seeds, depths]."""
    return np.stack([of_seeds(cells, f"{kind} {depth}", figure) for depth in _depths(cells)], axis=1)


def conclude(cells: Cells) -> Finding:
    """Returns the table of both kinds, and what depth does to the training loss of each."""
    rows = [
        [variant, *(with_error(of_seeds(cells, variant, figure), scale, digits) for figure, scale, digits in _SHOWN)]
        for variant in variants_of(cells)
    ]
    first, last = _depths(cells)[0], _depths(cells)[-1]
    rises = {kind: np.diff(_table(cells, kind, "train_loss")[:, [0, -1]])[:, 0] for kind in ("plain", "residual")}
    words = [f"of {kind} nets by {with_error(rise, 1, 2)}" for kind, rise in rises.items()]
    holds = rises["plain"].mean() > spread(rises["plain"]) and rises["residual"].mean() < rises["plain"].mean()
    verdict = (
        f"from {first} to {last} layers the training loss changes: {', '.join(words)}; the claim"
        f" {'holds' if holds else 'does not show'} at this budget."
    )
    return Finding(("net", "training loss", "top-1 %"), rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the training loss and the accuracy over depth."""
    left, right = figure.subplots(1, 2)
    for number, kind in enumerate(("plain", "residual")):
        plot_line(left, _depths(cells), _table(cells, kind, "train_loss"), kind, number)
        plot_line(right, _depths(cells), 100 * _table(cells, kind, "top1"), kind, number)
    for axes in (left, right):
        axes.set_xticks(_depths(cells))
    panel(left, "loss on training images, last tenth of the steps", "layers", "training loss (cross entropy)")
    panel(right, "accuracy on other images", "layers", "top-1 accuracy (%)", legend=False)


_SHOWN = (("train_loss", 1, 3), ("top1", 100, 1))

STUDY = Study(
    settings=DepthSettings(),
    trial=DepthSettings(seeds=2, depths=(8, 14), steps=2, width=2, examples=8),
    task="classification",
    claim="Plain nets fit the training images worse the deeper they are; residual nets do not",
    paper="on CIFAR-10 plain nets of 20, 32, 44 and 56 layers end at ever higher training and test errors, residual"
    " nets of 20 to 110 layers at ever lower ones, 8.75% to 6.43% on the test images (1512.03385, figure 6, table 6).",
    meaning="Depth alone makes a net harder to fit, not more prone to overfit: what it lacks is a way for signals and"
    " gradients around its layers.",
    measure=measure,
    conclude=conclude,
    draw=draw,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
