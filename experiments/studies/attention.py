"""Do the gates of squeeze-and-excitation tell classes apart, and where in the net?

Hu et al. (1709.01507) averaged the gates of SE-ResNet-50 over the images of a class. In early stages the averages of
different classes are nearly the same: the gates weigh features that all classes share. In deep stages each class has
its own. Here a small SE-ResNet is trained, and the gates of every block are read out for images it has not seen. Two
figures are taken of each block: how far the classes' mean gates lie apart, and which share of a gate's variance over
images the class explains. An untrained net shows how much of that the images bring along by themselves.

    cvjax study attention                          the embedded scenes
    cvjax study attention --data FOLDER            CIFAR-10, or any labeled images
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from experiments.studies._inputs import scored_inputs
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
    plot_line,
    spread,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 5
"""Number of classes in the panels of single gates, and of blocks that are named on the axis."""
_STAGES = 3


@dataclass(frozen=True)
class AttentionSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      blocks: Number of blocks in each of the three stages.
      width: Channels of the first stage; doubles at each stage.
      reduction: Divisor of the channels in the gates' hidden layers.
      steps: Number of training steps.
      examples: Number of images that are scored, and whose gates are read out.
    """

    blocks: int = 2
    width: int = 8
    reduction: int = 4
    steps: int = 200
    examples: int = 1000


def runs_of(settings: AttentionSettings) -> ShortRun:
    """Returns the runs of the net."""
    options: dict[str, Any] = {"width": settings.width, "squeeze_excite": settings.reduction}
    config = replace(SMALL_IMAGES, model=ModelConfig("resnet20_cifar", blocks=settings.blocks, **options))
    return ShortRun(settings.on_data(replace(config, steps=settings.steps)), examples=settings.examples)


Gates = tuple[dict[str, np.ndarray], np.ndarray]


def reader_of(run: ShortRun) -> Callable[[Mapping[str, Any]], Gates]:
    """Returns a function from variables to the gates of each block and the images' labels.

    The gates are [examples, channels], in the order of depth; the labels are [examples].
    """

    @jax.jit
    def read(variables: Mapping[str, Any], images: jax.Array) -> Any:
        return run.model.apply(dict(variables), images, mutable=["intermediates"])[1]["intermediates"]

    def gates_of(variables: Mapping[str, Any]) -> Gates:
        parts, labels = [], []
        for images, batch in scored_inputs(run):
            kept, found = batch["valid"], read(variables, images)
            parts.append(
                {name: np.asarray(tree["squeeze_excite"]["attention"][0])[kept] for name, tree in found.items()}
            )
            labels.append(batch["label"][kept])
        return {name: np.concatenate([part[name] for part in parts]) for name in sorted(parts[0])}, np.concatenate(
            labels
        )

    return gates_of


def means_of(gates: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the mean gate of each class and channel, [classes, channels]; classes without images are left out."""
    return np.stack([gates[labels == label].mean(0) for label in range(classes) if (labels == label).any()])


def explained(gates: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of the gates' variance over images that lies between classes, of all channels together.

    What labels drawn by chance would explain, (classes - 1) / (images - 1), is taken off, so that 0 means nothing.
    """
    found, counts = np.unique(labels, return_counts=True)
    means = np.stack([gates[labels == label].mean(0) for label in found])
    total = ((gates - gates.mean(0)) ** 2).sum()
    between = (counts[:, None] * (means - gates.mean(0)) ** 2).sum()
    share, chance = between / max(total, 1e-12), (len(found) - 1) / max(len(labels) - 1, 1)
    return float((share - chance) / max(1 - chance, 1e-12))


def measure(settings: AttentionSettings, lab: Lab) -> None:
    """Reads out the gates of each seed's net, before and after its training."""
    runs = once(lambda: runs_of(settings))
    reader = once(lambda: reader_of(runs()))
    for kind in ("untrained", "trained"):
        for seed in range(settings.seeds):
            lab.measure(f"{kind}/{seed}", lambda kind=kind, seed=seed: _figures(runs(), reader(), kind, seed))


def _figures(run: ShortRun, read: Callable[[Mapping[str, Any]], Gates], kind: str, seed: int) -> dict[str, Any]:
    variables = run.train(seed).variables if kind == "trained" else run.start(seed)
    blocks, labels = read(variables)
    names = run.train_set.class_names
    means = {block: means_of(gates, labels, len(names)) for block, gates in blocks.items()}
    first, last = next(iter(blocks)), list(blocks)[-1]
    shown = {block: means[block][:_SHOWN].round(4).tolist() for block in (first, last)} if kind == "trained" else {}
    return {
        "top1": run.score(variables)["top1"],
        "blocks": list(blocks),
        "apart": [float(mean.std(axis=0).mean()) for mean in means.values()],
        "explained": [explained(gates, labels) for gates in blocks.values()],
        "classes": [names[label] for label in np.unique(labels)][:_SHOWN],
        "shown": shown,
    }


def _blocks(cells: Cells) -> list[str]:
    return next(iter(cells.values()))["blocks"]


def conclude(cells: Cells) -> Finding:
    """Returns the table of all blocks, and how the last stage compares with the first."""
    rows = []
    for number, block in enumerate(_blocks(cells)):
        columns = [
            with_error(of_seeds(cells, kind, figure)[:, number], 100)
            for kind, figure in (("trained", "apart"), ("trained", "explained"), ("untrained", "explained"))
        ]
        rows.append([block.replace("_", " block "), *columns])
    count = len(_blocks(cells)) // _STAGES
    words, grows = [], []
    for figure, what in (
        ("apart", "distance of the classes' mean gates"),
        ("explained", "variance that classes explain"),
    ):
        found = 100 * of_seeds(cells, "trained", figure)
        first, last = found[:, :count].mean(1), found[:, -count:].mean(1)
        grows.append((last - first).mean() > spread(last - first))
        words.append(f"{what} {with_error(first)} in the first stage, {with_error(last)} in the last")
    at_once = of_seeds(cells, "untrained", "explained")
    change = 100 * (at_once[:, -count:].mean(1) - at_once[:, :count].mean(1))
    held = "holds" if all(grows) else "holds in one of both figures" if any(grows) else "does not show"
    verdict = (
        f"in percent: {'; '.join(words)} (untrained this share changes by {with_error(change)} from first to last); the"
        f" net's top-1 accuracy is {with_error(of_seeds(cells, 'trained', 'top1'), 100)}%. The claim {held}"
        " at this budget."
    )
    return Finding(("block", "distance of classes, %", "explained by class, %", "the same untrained, %"), rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the mean gates of some classes in the first and in the last block, and both figures over depth."""
    (early, late), (apart, share) = figure.subplots(2, 2)
    cell = cells["trained/0"]
    for axes, (block, means) in zip((early, late), cell["shown"].items()):
        for number, (name, gates) in enumerate(zip(cell["classes"], means)):
            look = look_of(number) | {"markersize": 4, "linewidth": 1.2}
            axes.plot(range(len(gates)), gates, label=name, **look)
        axes.set_ylim(0, 1)
        panel(
            axes, f"mean gates of classes: {block.replace('_', ' block ')}", "channel", "gate (0 to 1)", axes is early
        )
    early.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", labelcolor="#333333")
    blocks = _blocks(cells)
    for axes, name, title, unit in (
        (apart, "apart", "distance of the classes' mean gates", "deviation of classes (% of a gate's range)"),
        (share, "explained", "what the class explains of a gate", "share of the variance over images (%)"),
    ):
        for number, kind in enumerate(("trained", "untrained")):
            plot_line(axes, range(len(blocks)), 100 * of_seeds(cells, kind, name), kind, number)
        axes.set_xticks(range(len(blocks)), [block.replace("stage", "").replace("_", ".") for block in blocks])
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        panel(axes, title, "stage.block, from shallow to deep", unit)


STUDY = Study(
    settings=AttentionSettings(),
    trial=AttentionSettings(seeds=1, blocks=1, steps=2, width=4, examples=8),
    task="classification",
    claim="Gates of squeeze-and-excitation differ by class in deep stages, hardly in early ones",
    paper="in SE-ResNet-50 on ImageNet the mean gates of goldfish, pug, plane and cliff are nearly the same in early"
    " stages and ever more class-specific with depth, except in the last two blocks, where gates saturate near 1 or"
    " look alike but for scale (1709.01507, Role of Excitation).",
    meaning="Early gates weigh features that all classes need; late ones pick those of the class, and that is learned:"
    " in the untrained net the class explains equally little at every depth.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(9.5, 7.2),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
