"""Is a residual net an ensemble of many paths: does it go on working without some of its blocks?

Veit et al. (1605.06431) unroll a residual net of n blocks into 2^n paths, since each block is either passed through or
passed by. A trained net without one block loses half of its paths and hardly any accuracy; without several it declines
smoothly, as an ensemble does that loses members. A plain net has one path, and falls to chance.
Both kinds are trained here as in `depth`, and scored without blocks: one each, then growing numbers of them drawn at
random. No net is trained again. What is left in the place of a block is the shortcut, in plain nets the identity:
`cvjax.models.blocks.skip` changes the variables.

    cvjax study paths                          the embedded scenes
    cvjax study paths --data FOLDER            CIFAR-10, or any labeled images
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.models.blocks.skip import block_names, skip_blocks
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


_KINDS = {"residual": "A", "plain": "none"}


@dataclass(frozen=True)
class PathSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      blocks: Number of blocks in each of the three stages.
      width: Channels of the first stage.
      steps: Number of training steps of each net.
      removed: Numbers of blocks that are removed together, drawn at random.
      draws: Number of random draws for each of these numbers.
      examples: Number of images that are scored.
    """

    blocks: int = 3
    width: int = 8
    steps: int = 200
    removed: tuple[int, ...] = (2, 4, 6)
    draws: int = 3
    examples: int = 600


def runs_of(settings: PathSettings, kind: str) -> ShortRun:
    """Returns the runs of one net."""
    model = ModelConfig("resnet20_cifar", blocks=settings.blocks, width=settings.width, shortcut=_KINDS[kind])
    config = settings.on_data(replace(SMALL_IMAGES, model=model, steps=settings.steps))
    return ShortRun(config, examples=settings.examples)


def measure(settings: PathSettings, lab: Lab) -> None:
    """Trains both nets with each seed, and scores them whole and without blocks."""
    for kind in _KINDS:
        lab.measure_seeds(kind, settings.seeds, partial(runs_of, settings, kind), partial(_figures, settings))


def _figures(settings: PathSettings, run: ShortRun, seed: int) -> dict[str, object]:
    variables = run.train(seed).variables
    names, draw = block_names(variables), np.random.default_rng(seed)

    def top1(skipped: list[str]) -> float:
        return run.score(skip_blocks(run.model, variables, skipped))["top1"]

    def mean_without(number: int) -> float:
        drawn = [draw.choice(names, number, replace=False).tolist() for _ in range(settings.draws)]
        return float(np.mean([top1(skipped) for skipped in drawn]))

    return {
        "top1": top1([]),
        "blocks": names,
        "top1 without one": [top1([name]) for name in names],
        "removed": list(settings.removed),
        "top1 without several": [mean_without(number) for number in settings.removed],
        "chance": 1 / len(run.train_set.class_names),
    }


def conclude(cells: Cells) -> Finding:
    """Returns the table of both kinds, and which of their accuracy above chance is left without a block."""
    rows, left = [], {}
    chance = next(iter(cells.values()))["chance"]
    for kind in variants_of(cells):
        whole, one = of_seeds(cells, kind, "top1"), of_seeds(cells, kind, "top1 without one")
        several = of_seeds(cells, kind, "top1 without several")
        left[kind] = 100 * (np.median(one, axis=1) - chance) / np.maximum(whole - chance, 1e-6)
        columns = whole, np.median(one, axis=1), one.min(axis=1), *several.T
        rows.append([kind, *(with_error(values, 100) for values in columns)])
    removed = next(iter(cells.values()))["removed"]
    heads = ["net", "top-1 % whole", "without one block, median", "worst", *(f"without {number}" for number in removed)]
    residual, plain = left["residual"], left["plain"]
    holds = residual.mean() - spread(residual) > plain.mean() + spread(plain) and residual.mean() > 50
    verdict = (
        f"without one block (the median one) {with_error(residual, 1, 0)}% of a residual net's accuracy above chance is"
        f" left, and {with_error(plain, 1, 0)}% of a plain net's; the claim {'holds' if holds else 'does not show'} at"
        " this budget."
    )
    return Finding(heads, rows, verdict)


def _place(block: str) -> str:
    """Returns stage and block, each counted from 1, of a name such as stage1_0."""
    stage, number = block.removeprefix("stage").split("_")
    return f"{stage}.{int(number) + 1}"


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the accuracy without each block, and without growing numbers of blocks."""
    left, right = figure.subplots(1, 2)
    left.sharey(right)
    first = next(iter(cells.values()))
    places = np.arange(len(first["blocks"]))
    for number, kind in enumerate(variants_of(cells)):
        whole, one = (100 * of_seeds(cells, kind, name) for name in ("top1", "top1 without one"))
        several = 100 * of_seeds(cells, kind, "top1 without several")
        plot_line(left, places, one, f"{kind} net", number)
        left.axhline(whole.mean(), color="#8a8f98", linewidth=0.8, linestyle=("-", "--")[number])
        curve = np.concatenate([whole[:, None], one.mean(axis=1, keepdims=True), several], axis=1)
        plot_line(right, [0, 1, *first["removed"]], curve, f"{kind} net", number)
    for axes in (left, right):
        axes.axhline(100 * first["chance"], color="#8a8f98", linewidth=1, linestyle=":")
        axes.set_ylim(bottom=0)
    right.locator_params(axis="x", integer=True)
    left.set_xticks(places, [_place(name) for name in first["blocks"]], fontsize=8)
    panel(
        left,
        "without one block (grey: whole nets; dotted: chance)",
        "missing block (stage.block)",
        "top-1 accuracy (%)",
    )
    panel(
        right, "without several blocks, drawn at random", "number of missing blocks", "top-1 accuracy (%)", legend=False
    )


STUDY = Study(
    settings=PathSettings(),
    trial=PathSettings(seeds=1, blocks=1, width=2, steps=2, removed=(2,), draws=1, examples=8),
    task="classification",
    claim="A residual net behaves like an ensemble of paths: without a block it goes on working, a plain net does not",
    paper="on CIFAR-10 removing any one layer takes VGG to chance, while a residual net of 110 layers hardly changes"
    " but where maps are downsampled; without more and more blocks its error grows smoothly (1605.06431,"
    " sections 4.1 and 4.2).",
    meaning="Blocks that add to what is there depend little on one another, so that each can be missed; layers that"
    " replace what is there cannot. With nine blocks instead of 54, trained briefly, each is still missed more than in"
    " the paper, and the first one most.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(10.0, 4.8),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
