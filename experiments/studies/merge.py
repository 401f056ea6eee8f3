"""Sum or concatenation: which way to merge a layer's output with its input serves better at equal parameters?

ResNet (1512.03385) adds the output of a block to its input, so all blocks of a stage write into the same channels.
DenseNet (1608.06993) appends it: nothing is overwritten and every layer reads all before it, but channels grow with
depth. Transitions between blocks hold that down: they keep half of the channels.
Three nets are trained here with the same number of 3x3 convolutions, and of parameters as near as whole numbers of
channels allow: sums, concatenation with transitions that halve the channels, and concatenation with transitions that
keep all of them. Multiply-adds, values in feature maps and time, which are not equal, are noted.

    cvjax study merge                          the embedded scenes
    cvjax study merge --data FOLDER            CIFAR-10, or any labeled images
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.inspection import inspect_model
from experiments.studies._budget import StepClock, closest
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
    panel,
    spread,
    variants_of,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_KEPT = {"concatenation (halved)": 0.5, "concatenation (all kept)": 1.0}
_KINDS = ("sum", *_KEPT)
_SIDE = 32  # pixels


@dataclass(frozen=True)
class MergeSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      kinds: Ways to merge.
      blocks: Number of residual blocks in each of three stages; dense blocks have twice as many layers.
      width: Channels of the residual net's first stage. Its parameters are the budget.
      steps: Number of training steps of each net.
      examples: Number of images that are scored.
    """

    kinds: tuple[str, ...] = _KINDS
    blocks: int = 2
    width: int = 6
    steps: int = 200
    examples: int = 1000


def model_of(settings: MergeSettings, kind: str, classes: int = 10) -> ModelConfig:
    """Returns a net with the number of parameters of the residual one."""
    residual = ModelConfig("resnet20_cifar", blocks=settings.blocks, width=settings.width)
    if kind == "sum":
        return residual

    def dense(growth: int) -> ModelConfig:
        sizes, kept = (2 * settings.blocks,) * 3, _KEPT[kind]
        return ModelConfig(
            "densenet100_k12_cifar", block_sizes=sizes, growth=growth, stem_features=2 * growth, compression=kept
        )

    def params(model: ModelConfig) -> int:
        return inspect_model(model.build(classes), image_size=_SIDE).params

    return dense(closest(lambda growth: params(dense(growth)), params(residual), 1, 2 * settings.width))


def runs_of(settings: MergeSettings, kind: str) -> ShortRun:
    """Returns the runs of one net."""
    config = replace(SMALL_IMAGES, model=model_of(settings, kind), steps=settings.steps)
    return ShortRun(settings.on_data(config), examples=settings.examples)


def measure(settings: MergeSettings, lab: Lab) -> None:
    """Counts what each net costs, trains it with each seed, and notes its training loss and its accuracy."""
    for kind in settings.kinds:
        lab.measure_seeds(kind, settings.seeds, partial(runs_of, settings, kind), _figures)


def _figures(run: ShortRun, seed: int) -> dict[str, object]:
    found, clock = inspect_model(run.model, image_size=_SIDE), StepClock()
    maps = [layer for layer in found.at_depth(1) if len(layer.output_shape) == 3]
    trained = run.train(seed, watch=clock)
    return {
        "top1": run.score(trained.variables)["top1"],
        "train_loss": trained.last_loss,
        "seconds_per_step": round(clock.seconds, 4),
        "params": found.params,
        "macs": found.macs,
        "activations": found.activations,
        "layers": [layer.name for layer in maps],
        "channels": [layer.output_shape[-1] for layer in maps],
    }


def conclude(cells: Cells) -> Finding:
    """Returns the table of all nets, and how their accuracies differ."""
    rows, top = [], {}
    for kind in variants_of(cells):
        top[kind] = 100 * of_seeds(cells, kind, "top1")
        params, macs, values, channels = (
            of_seeds(cells, kind, name)[0] for name in ("params", "macs", "activations", "channels")
        )
        counts = f"{params / 1e3:.1f}", f"{macs / 1e6:.1f}", f"{values / 1e3:.0f}", f"{channels.max():.0f}"
        seconds = with_error(of_seeds(cells, kind, "seconds_per_step"), 1e3, 0)
        loss = with_error(of_seeds(cells, kind, "train_loss"), 1, 2)
        rows.append([kind, *counts, seconds, loss, with_error(top[kind])])
    leads = {kind: top[kind] - top["sum"] for kind in _KEPT if kind in top}
    words = [f"{kind} by {with_error(lead)}" for kind, lead in leads.items()]
    costs = [of_seeds(cells, kind, "macs")[0] for kind in _KINDS[:2]]
    shows = leads[_KINDS[1]].mean() > spread(leads[_KINDS[1]])
    verdict = (
        f"at equal parameters these differ from the sum in accuracy (points): {', '.join(words)}; the claim"
        f" {'holds' if shows else 'does not show'} at this budget. Concatenation takes {costs[1] / costs[0]:.1f} times"
        " the sum's multiply-adds."
    )
    heads = "net", "1e3 parameters", "1e6 multiply-adds", "1e3 values in maps", "most channels", "ms a step"
    return Finding((*heads, "training loss", "top-1 %"), rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the channels along the depth, and the accuracy over the multiply-adds."""
    left, right = figure.subplots(1, 2)
    for number, kind in enumerate(variants_of(cells)):
        look = look_of(number)
        layers, channels = cells[f"{kind}/0"]["layers"], of_seeds(cells, kind, "channels")[0]
        merges = [place for place, name in enumerate(layers) if name == "stem_conv" or name[:5] in ("stage", "block")]
        convolutions = 1 + np.arange(len(merges)) * (2 if kind == "sum" else 1)
        left.step(convolutions, channels[merges], where="post", label=kind, markersize=5, **look)
        top1, macs = 100 * of_seeds(cells, kind, "top1"), of_seeds(cells, kind, "macs")[0] / 1e6
        right.errorbar([macs], [top1.mean()], yerr=[spread(top1)], capsize=4, markersize=8, label=kind, **look)
    right.set_xlim(left=0)
    right.margins(x=0.15, y=0.3)
    left.locator_params(integer=True)
    panel(left, "channels of the maps", "3x3 convolutions up to the map", "channels")
    panel(
        right, "accuracy at equal parameters", "multiply-adds (millions an image)", "top-1 accuracy (%)", legend=False
    )


STUDY = Study(
    settings=MergeSettings(),
    trial=MergeSettings(seeds=1, kinds=_KINDS[:2], blocks=1, width=2, steps=2, examples=8),
    task="classification",
    claim="Concatenation makes more of the same number of parameters than the sum",
    paper="on CIFAR-10 with augmentation a DenseNet-BC of 100 layers and 0.8 million parameters has 4.51% error, a"
    " pre-activation ResNet of 1001 layers and 10.2 million 4.62% (1608.06993, table 2).",
    meaning="Concatenation keeps what earlier layers found and lets later ones read it, with few new channels a layer."
    " The price is not parameters but maps and multiply-adds, and channels that grow with depth unless transitions hold"
    " them down.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(10.0, 4.8),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
