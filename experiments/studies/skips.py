"""What do skips from finer maps give, and is it at the borders of objects?

The last map of a classifier has a pixel for 32 of the image's. Long et al. (1411.4038) add scores of finer maps on the
way up (FCN-16s, FCN-8s); Ronneberger et al. (1505.04597) join the maps themselves, at all scales (U-Net); Hariharan et
al. (1411.5752) classify a pixel by all maps above it (hypercolumns). All of them stand here on the same narrow VGG, and
are trained from scratch with the same steps. They are scored in trimaps: on the pixels within some distance of a border
between two labels (1210.5644).

    cvjax study skips                                   the embedded scenes
    cvjax study skips --data FOLDER --void 11           CamVid, or any images with masks
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.inspection import Inspection, inspect_model
from experiments.studies._masks import MaskSettings
from experiments.studies._recipes import SMALL_MASKS
from experiments.studies._study import (
    Cells,
    Finding,
    Lab,
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

_FCN = {"alignment": "same", "dropout": 0.0, "last_upsampling": "transposed_fixed"}  # as in the paper
_NETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "FCN-32s": ("fcn32s_vgg16", _FCN),
    "FCN-16s": ("fcn16s_vgg16", _FCN),
    "FCN-8s": ("fcn8s_vgg16", _FCN),
    "hypercolumns": ("hypercolumn_vgg16", {"dropout": 0.0, "grid": 1}),
    "U-Net": ("unet_vgg16", {}),
}
_DISTANCES = (1, 2, 4, 8, 16)
_NEAR = 2


@dataclass(frozen=True)
class SkipsSettings(MaskSettings):
    """Says how the study is run.

    Attributes: those of `MaskSettings`, and
      nets: Nets to compare; the first one has no skips.
      width: Channels of the VGG's first stage.
    """

    nets: tuple[str, ...] = tuple(_NETS)
    width: int = 16
    steps: int = 140


def measure(settings: SkipsSettings, lab: Lab) -> None:
    """Trains each net with each seed, and scores it in trimaps."""
    for net in settings.nets:
        lab.measure_seeds(net, settings.seeds, partial(_runs, settings, net), _figures)


def _runs(settings: SkipsSettings, net: str) -> tuple[ShortRun, Inspection]:
    name, options = _NETS[net]
    width = settings.width
    backbone = {"stage_sizes": (1, 1, 1, 2, 2), "widths": (width, 2 * width, *3 * (4 * width,)), "batch_norm": True}
    if net == "U-Net":
        options = {"decoder_widths": (4 * width, 4 * width, 2 * width, width, width), **options}
    else:
        backbone["hidden"] = 4 * width
    model = ModelConfig(name, backbone=backbone, **options)
    scoring = replace(SMALL_MASKS.eval, trimap=_DISTANCES)
    run = ShortRun(settings.config(model=model, batch_size=8, eval=scoring), examples=settings.examples)
    return run, inspect_model(run.model, image_size=settings.size)


def _figures(runs: tuple[ShortRun, Inspection], seed: int) -> dict[str, Any]:
    run, cost = runs
    scores = run.score(run.train(seed).variables)
    trimaps = [scores[f"trimap_miou_{distance}"] for distance in _DISTANCES]
    return {"miou": scores["miou"], "trimaps": trimaps, "params": cost.params, "macs": cost.macs}


def _gain(cells: Cells, net: str) -> np.ndarray:
    """Returns the gain of a net over the first at each distance and in all, float64 [seeds, distances + 1]."""
    first = _scores(cells, variants_of(cells)[0])
    return _scores(cells, net) - first.mean(axis=0)


def _scores(cells: Cells, net: str) -> np.ndarray:
    return np.concatenate([of_seeds(cells, net, "trimaps"), of_seeds(cells, net, "miou")[:, None]], axis=1)


def conclude(cells: Cells) -> Finding:
    """Returns the table of the nets, and whether each finer FCN is better at borders, and gains more there."""
    nets, near = variants_of(cells), _DISTANCES.index(_NEAR)
    rows = [
        [net, with_error(_scores(cells, net)[:, near], 100), with_error(of_seeds(cells, net, "miou"), 100)]
        + [f"{of_seeds(cells, net, name).mean() / scale:.3g}" for name, scale in (("params", 1e3), ("macs", 1e6))]
        for net in nets
    ]
    ordered = [_scores(cells, net)[:, near] for net in nets if net.startswith("FCN")]
    steps = itertools.pairwise(ordered)
    rises = [after.mean() - before.mean() > spread(after) + spread(before) for before, after in steps]
    words = [
        f"{net} {100 * gain[near]:.1f} ({100 * gain[-1]:.1f})"
        for net, gain in ((net, _gain(cells, net).mean(axis=0)) for net in nets[1:])
    ]
    gains = [_gain(cells, net)[:, [near, -1]].mean(axis=0) for net in nets[1:] if net.startswith("FCN")]
    more = all(border > everywhere for border, everywhere in gains)
    verdict = (
        f"points of mean IoU above {nets[0]} within {_NEAR} pixels of a border (and on all pixels): {', '.join(words)};"
        f" that finer skips of FCN are better at borders {'holds' if all(rises) else 'does not show at every step'} at"
        f" this budget, that they gain most there {'holds' if more else 'does not'}."
    )
    columns = ("net", f"mean IoU within {_NEAR} pixels %", "all pixels %", "parameters / 1000", "multiply-adds / 10^6")
    return Finding(columns, rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the mean IoU in trimaps, and the gain over the net without skips."""
    left, right = figure.subplots(1, 2)
    names, nets = [*map(str, _DISTANCES), "all"], variants_of(cells)
    for number, net in enumerate(nets):
        plot_line(left, range(len(names)), 100 * _scores(cells, net), net, number)
        if number:
            plot_line(right, range(len(names)), 100 * _gain(cells, net), net, number)
    for axes in (left, right):
        axes.set_xticks(range(len(names)), names)
    where = "pixels counted: within so many of a border"
    panel(left, "accuracy near borders", where, "mean IoU (%)")
    panel(right, f"gain over {nets[0]}", where, "mean IoU (points)")


STUDY = Study(
    settings=SkipsSettings(),
    trial=SkipsSettings(seeds=1, nets=("FCN-32s", "FCN-8s"), width=2, size=(32, 32), steps=2, examples=8),
    task="segmentation",
    claim="Skips from finer maps make segmentation more accurate and finer in detail",
    paper="mean IU of FCN-32s, 16s and 8s on a part of PASCAL VOC 2011 val is 59.4, 62.4 and 62.7%, and the answer"
    " becomes finer in detail (1411.4038, section 4.2, table 2, figure 4).",
    meaning="Coarse scores know what is there and fine maps where it ends: each finer map that FCN adds makes borders"
    " better, for hardly any parameters. In images this small it helps even more away from borders: what is thinner"
    " than a pixel of the coarse map is not found at all without. U-Net's larger decoder needs more steps than these.",
    measure=measure,
    conclude=conclude,
    draw=draw,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
