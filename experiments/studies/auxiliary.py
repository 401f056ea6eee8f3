"""Do auxiliary classifiers halfway strengthen the gradients of early layers, and what is left of it at test?

GoogLeNet (Szegedy et al., 1409.4842) has two small classifiers on maps halfway through the net, whose losses count 0.3
each in training and which are thrown away afterwards. The paper meant them to bring gradients to early layers, and to
regularize; Inception v3's (1512.00567) found later that they change nothing early in training.
The net of 2014, without BatchNorm, is narrowed here and trained with the auxiliary losses and with a weight of zero for
them: the same first parameters, steps, data and optimizer. Gradients are taken on one batch at several steps of the
training. Those of the net with auxiliary losses are also taken by the last classifier's loss alone, so that weights
that have grown apart do not blur what the losses add.

    cvjax study auxiliary                          the embedded scenes
    cvjax study auxiliary --data FOLDER            CIFAR-10, or any labeled images
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.engine.state import TrainState
from cvjax.experiment import ModelConfig
from experiments.studies._gradients import Gradients, kernel_gradients
from experiments.studies._recipes import SMALL_IMAGES
from experiments.studies._study import (
    Cells,
    Finding,
    Lab,
    Settings,
    Study,
    main,
    of_seeds,
    once,
    panel,
    plot_line,
    spread,
    variants_of,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_KINDS = ("with", "without")
_LOSSES = {"all losses": 1.0, "last loss alone": 0.0}  # weight of the auxiliary ones
_CLIP = 1.0  # norm of the gradient: the net has no BatchNorm
_CURVE = 20  # points of a curve over training


@dataclass(frozen=True)
class AuxiliarySettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      kinds: Nets with and without auxiliary classifiers.
      width: Factor on the channels of all layers.
      stage_sizes: Number of inception blocks in each stage.
      side: Side in pixels to which images are brought; the net divides it by 32.
      steps: Number of training steps of each net.
      looks: Number of times, evenly over the training, that gradients are taken after the start.
      examples: Number of images that are scored.
    """

    kinds: tuple[str, ...] = _KINDS
    width: float = 0.25
    stage_sizes: tuple[int, int, int] = (2, 5, 2)
    side: int = 64
    steps: int = 200
    looks: int = 4
    examples: int = 1000


def _layers(settings: AuxiliarySettings) -> list[str]:
    """Returns the paths of the stem's convolutions and of the 3x3 convolutions of all blocks."""
    blocks = [f"{stage + 3}{'abcde'[number]}" for stage in range(3) for number in range(settings.stage_sizes[stage])]
    return [f"conv{number}/conv" for number in (1, 2, 3)] + [f"inception{block}/branch2_1/conv" for block in blocks]


def runs_of(settings: AuxiliarySettings, kind: str) -> ShortRun:
    """Returns the runs with or without auxiliary losses; without, the classifiers are there and count nothing."""
    model = ModelConfig("googlenet_original", width=settings.width, stage_sizes=settings.stage_sizes)
    images = replace(SMALL_IMAGES.input, crop=(settings.side, settings.side))
    optim = replace(SMALL_IMAGES.optim, clip_norm=_CLIP)
    config = replace(SMALL_IMAGES, model=model, input=images, optim=optim, steps=settings.steps)
    config = replace(config, aux_weight=config.aux_weight if kind == "with" else 0.0)
    return ShortRun(settings.on_data(config), examples=settings.examples)


def measure(settings: AuxiliarySettings, lab: Lab) -> None:
    """Trains both nets with each seed, and notes gradients and accuracy on the way, and accuracy at the end."""
    runs = {kind: once(partial(runs_of, settings, kind)) for kind in _KINDS}
    gradients = once(lambda: kernel_gradients(runs["with"](), _layers(settings)))
    for kind in settings.kinds:
        for seed in range(settings.seeds):
            lab.measure(
                f"{kind}/{seed}", lambda kind=kind, seed=seed: _figures(settings, runs[kind](), gradients(), kind, seed)
            )


def _figures(
    settings: AuxiliarySettings, run: ShortRun, gradients: Gradients, kind: str, seed: int
) -> dict[str, object]:
    looks = sorted({round(settings.steps * (look + 1) / settings.looks) for look in range(settings.looks)})
    weights = {losses: weight for losses, weight in _LOSSES.items() if kind == "with" or not weight}
    found: dict[str, list[list[float]]] = {losses: [] for losses in weights}
    accuracies: list[float] = []

    def look(variables: Mapping[str, Any]) -> None:
        for losses, weight in weights.items():
            found[losses].append([float(f"{size:.3e}") for size in gradients(variables, weight)])

    def watch(step: int, state: TrainState, metrics: Mapping[str, Any]) -> None:
        accuracies.append(float(metrics["accuracy"]))
        if step in looks:
            look(state.variables)

    first = run.start(seed)
    look(first)
    trained = run.train(seed, first, watch)
    parts = np.array_split(accuracies, min(_CURVE, len(accuracies)))
    names = [layer.split("/")[0].removeprefix("inception").replace("conv", "c") for layer in _layers(settings)]
    return {
        "top1": run.score(trained.variables)["top1"],
        "accuracies": [round(float(part.mean()), 4) for part in parts],
        "looks": [0, *looks],
        "layers": names,
        **found,
    }


def _early(cells: Cells, kind: str, losses: str) -> np.ndarray:
    """Returns the common logarithm of the gradients before the first auxiliary classifier, float64 [seeds, looks]."""
    return _logarithms(cells, kind, losses)[..., : _first_of_4(cells)].mean(axis=-1)


def _first_of_4(cells: Cells) -> int:
    return next(iter(cells.values()))["layers"].index("4a")


def _logarithms(cells: Cells, kind: str, losses: str) -> np.ndarray:
    return np.log10(np.maximum(of_seeds(cells, kind, losses), 1e-30))


def conclude(cells: Cells) -> Finding:
    """Returns the table of both nets, and by how much the classifiers strengthen gradients and accuracy."""
    rows = []
    for kind, losses in _series(cells):
        early, late = (
            _early(cells, kind, losses),
            _logarithms(cells, kind, losses)[..., _first_of_4(cells) :].mean(axis=-1),
        )
        columns = [with_error(1e3 * 10**values, 1, 2) for values in (early[:, 0], early[:, 1:].mean(axis=1))]
        top1 = with_error(of_seeds(cells, kind, "top1"), 100)
        rows.append([f"{kind}, {losses}", *columns, with_error(10 ** (early - late)[:, 0], 1, 2), top1])
    more = _early(cells, "with", "all losses") - _early(cells, "with", "last loss alone")
    start, later = more[:, 0], more[:, 1:].mean(axis=1)
    stronger = (start.mean() > spread(start), later.mean() > spread(later))
    says = {(True, True): "holds", (True, False): "holds at the start alone", (False, True): "holds later alone"}
    verdict = (
        f"auxiliary losses multiply the early layers' gradient by {with_error(10**start, 1, 2)} at the start and by"
        f" {with_error(10**later, 1, 2)} in training: the claim {says.get(stronger, 'does not show')}."
    )
    if "without/0" in cells:
        better = 100 * (of_seeds(cells, "with", "top1") - of_seeds(cells, "without", "top1"))
        seen = "" if abs(better.mean()) > spread(better) else ", which does not stand out from the seeds,"
        verdict += (
            f" At test, where the classifiers are gone, the net that had them differs by {with_error(better)} points"
            f"{seen} at this budget."
        )
    heads = "auxiliary classifiers", "early gradient at the start (1e-3)", "in training", "early / late", "top-1 %"
    return Finding(heads, rows, verdict)


def _series(cells: Cells) -> list[tuple[str, str]]:
    """Returns what has gradients: nets and losses."""
    return [(kind, losses) for kind in variants_of(cells) for losses in _LOSSES if losses in cells[f"{kind}/0"]]


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the gradients by layer at the start, those of early layers over training, and the training accuracy."""
    panels = figure.subplots(1, 3)
    looks, names = (next(iter(cells.values()))[figure] for figure in ("looks", "layers"))
    for number, (kind, losses) in enumerate(_series(cells)):
        label = f"{kind} auxiliary classifiers: {losses}"
        plot_line(panels[0], range(len(names)), _logarithms(cells, kind, losses)[:, 0], label, number)
        plot_line(panels[1], looks, _early(cells, kind, losses), label, number)
        if kind == "without" or losses == "all losses":
            curve, steps = 100 * of_seeds(cells, kind, "accuracies"), looks[-1]
            ends = steps * (np.arange(curve.shape[1]) + 1) / curve.shape[1]
            plot_line(panels[2], ends, curve, label, number)
    panels[0].set_xticks(range(len(names)), names, fontsize=8)
    for axes in panels[:2]:
        axes.yaxis.set_major_formatter(lambda value, place: f"{10**value:.2g}")
    size = "root mean square of the kernels' gradient"
    panel(panels[0], "at the start", "convolution, or 3x3 of inception block", size, legend=False)
    panel(panels[1], "layers before the first auxiliary classifier", "step", size)
    panels[1].set_ylim(bottom=panels[1].get_ylim()[0] - 0.7)  # room for the legend
    panels[1].legend(loc="lower right", frameon=False, fontsize=8, labelcolor="#333333")
    panel(panels[2], "training, last classifier", "step", "accuracy on training batches (%)", legend=False)


STUDY = Study(
    settings=AuxiliarySettings(),
    trial=AuxiliarySettings(
        seeds=1, kinds=("with",), stage_sizes=(1, 1, 1), width=0.03, side=32, steps=2, looks=1, examples=8
    ),
    task="classification",
    claim="Auxiliary classifiers strengthen the gradients of early layers; at test they are gone",
    paper="the classifiers were added to bring gradients to early layers and to regularize (1409.4842, section 5);"
    " Inception v3 saw no difference early in training, and a slightly higher plateau at its end (1512.00567,"
    " section 4).",
    meaning="A loss halfway is nearer to the early layers, so it adds to their gradient as long as it is there. Whether"
    " the net that is left at test is better for it is another question, which accuracies answer and gradients do not.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(12.0, 4.8),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
