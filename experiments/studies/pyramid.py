"""Does a pyramid of dilation rates serve objects of all sizes better than one rate does?

Chen et al. (1606.00915) let several atrous convolutions look at the last map side by side, at rates of their own: each
sees another size of surroundings, and their scores are added. One rate fits one size. The nets here are DeepLab v2 on a
narrow VGG: with a branch for each rate, or with one branch of one rate, which gets as many channels as make its
parameters equal. They are scored by the share of pixels found of each object, by its size; an object is a connected
region of one label.

    cvjax study pyramid                                   the embedded scenes
    cvjax study pyramid --data FOLDER --void 11           CamVid, or any images with masks
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.data.decode import IGNORE
from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from experiments.studies._budget import closest
from experiments.studies._masks import Labeled, Labeler, MaskSettings, labeler, miou
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

_SIZES = (8, 24)  # square roots of areas between small, middle and large objects, in pixels
_LEAST = 16  # area of the smallest object that counts, in pixels
_NAMES = ("small", "middle", "large")


@dataclass(frozen=True)
class PyramidSettings(MaskSettings):
    """Says how the study is run.

    Attributes: those of `MaskSettings`, and
      rates: Dilations at output stride 8, each alone and all of them side by side.
      width: Channels of the VGG's first stage.
      hidden: Channels of each branch of the pyramid.
    """

    rates: tuple[int, ...] = (1, 3, 6)
    width: int = 16
    hidden: int = 32
    steps: int = 150


def measure(settings: PyramidSettings, lab: Lab) -> None:
    """Trains each net with each seed, and counts what it finds of objects by their size."""
    nets = {f"rate {rate}": (rate,) for rate in settings.rates}
    for name, rates in (nets | {f"rates {', '.join(map(str, settings.rates))}": settings.rates}).items():
        lab.measure_seeds(name, settings.seeds, partial(_runs, settings, rates), _figures)


def _runs(settings: PyramidSettings, rates: tuple[int, ...]) -> tuple[ShortRun, Labeler]:
    config = settings.config(model=_model(settings, rates), batch_size=8)

    def as_large(classes: int) -> nn.Module:
        wanted = _params(config.model.replace(aspp_rates=settings.rates), classes)
        return _widened(config.model, wanted, classes).build(classes)

    run = ShortRun(config, None if rates == settings.rates else as_large, settings.examples)
    return run, labeler(run)


def _model(settings: PyramidSettings, rates: tuple[int, ...]) -> ModelConfig:
    width = settings.width
    widths = (width, 2 * width, *3 * (4 * width,))
    backbone = {"stage_sizes": (1, 1, 1, 1, 1), "widths": widths, "batch_norm": True}
    options = {"dropout": 0.0, "hidden": settings.hidden, "aspp_rates": rates}
    return ModelConfig("deeplabv2_vgg16", backbone=backbone, scales=(1.0,), **options)


def _widened(model: ModelConfig, wanted: int, classes: int) -> ModelConfig:
    """Returns the net with as many hidden channels as bring it nearest to a number of parameters."""
    first: int = model.get("hidden")
    most = 8 * first - 1
    hidden = closest(lambda hidden: _params(model.replace(hidden=hidden), classes), wanted, first, most)
    return model.replace(hidden=hidden)


def _params(model: ModelConfig, classes: int) -> int:
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return _size(jax.eval_shape(model.build(classes).init, jax.random.key(0), images)["params"])


def _size(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _figures(runs: tuple[ShortRun, Labeler], seed: int) -> dict[str, Any]:
    run, label = runs
    variables = run.train(seed).variables
    return _found(label(variables)) | {"params": _size(variables["params"])}


def _found(labeled: Labeled) -> dict[str, Any]:
    """Returns the mean share of pixels found of the objects of each size, their number, and the mean IoU."""
    found: list[list[float]] = [[] for _ in _NAMES]
    for truth, labels in zip(*labeled):
        for label in set(np.unique(truth).tolist()) - {IGNORE}:
            count, regions = cv2.connectedComponents((truth == label).astype(np.uint8))
            areas = np.bincount(regions.ravel(), minlength=count)
            hits = np.bincount(regions.ravel(), (labels == label).ravel(), minlength=count)
            for area, hit in zip(areas[1:], hits[1:]):
                if area >= _LEAST:
                    found[int(np.searchsorted(_SIZES, np.sqrt(area)))].append(hit / area)
    shares = [float(np.mean(part)) if part else 0.0 for part in found]
    return {"found": shares, "objects": [len(part) for part in found], "miou": miou(labeled)}


def conclude(cells: Cells) -> Finding:
    """Returns the table of the nets, and whether the pyramid is best in all sizes, and in the mean IoU."""
    *single, pyramid = variants_of(cells)
    rows = [
        [net, f"{of_seeds(cells, net, 'params').mean() / 1e3:.1f}"]
        + [with_error(of_seeds(cells, net, "found")[:, size], 100) for size in range(len(_NAMES))]
        + [with_error(of_seeds(cells, net, "miou"), 100)]
        for net in (*single, pyramid)
    ]
    best = {
        name: max(single, key=lambda net: of_seeds(cells, net, "found")[:, size].mean())
        for size, name in enumerate(_NAMES)
    }
    gaps = [
        (of_seeds(cells, pyramid, "found")[:, size], of_seeds(cells, best[name], "found")[:, size])
        for size, name in enumerate(_NAMES)
    ]
    gap = [100 * (ours.mean() - theirs.mean()) for ours, theirs in gaps]
    top = max((of_seeds(cells, net, "miou") for net in single), key=np.mean)
    ours = of_seeds(cells, pyramid, "miou")
    holds = ours.mean() - spread(ours) > top.mean() + spread(top)
    words = [f"{name} objects (rate {best[name].split()[1]}) {points:+.1f}" for name, points in zip(_NAMES, gap)]
    verdict = (
        f"against the best single rate of each size the pyramid finds, in points: {', '.join(words)}; its mean IoU is"
        f" {100 * (ours.mean() - top.mean()):+.1f} points from the best single rate's: that several rates beat any one"
        f" {'holds' if holds else 'does not show'} at this budget."
    )
    return Finding(("net", "parameters / 1000", *(f"{name} found %" for name in _NAMES), "mean IoU %"), rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the share of objects found by their size, and its difference from the mean over the single rates."""
    left, right = figure.subplots(1, 2)
    *single, pyramid = variants_of(cells)
    edges = (f"below {_SIZES[0]}", f"{_SIZES[0]} to {_SIZES[1]}", f"above {_SIZES[1]}")
    counts = of_seeds(cells, pyramid, "objects")[0]
    names = [f"{name}\n{edge}\n{count:.0f} objects" for name, edge, count in zip(_NAMES, edges, counts)]
    middle = np.mean([of_seeds(cells, net, "found").mean(axis=0) for net in single], axis=0)
    for number, net in enumerate((*single, pyramid)):
        found = of_seeds(cells, net, "found")
        plot_line(left, range(len(names)), 100 * found, net, number)
        plot_line(right, range(len(names)), 100 * (found - middle), net, number)
    right.axhline(0, color="#c9ced6", linewidth=1)
    for axes in (left, right):
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.3, len(names) - 0.7)
    panel(left, "what is found of objects", "square root of the object's area (pixels)", "pixels found (%)")
    panel(right, "against the mean of single rates", "square root of the object's area (pixels)", "difference (points)")


STUDY = Study(
    settings=PyramidSettings(),
    trial=PyramidSettings(seeds=1, rates=(1, 2), width=2, hidden=4, size=(32, 32), steps=2, examples=8),
    task="segmentation",
    claim="Several dilation rates side by side serve objects of all sizes; one rate fits one size",
    paper="of DeepLab on VGG-16 the mean IoU on PASCAL VOC 2012 val before the CRF is 65.76% with one rate of 12,"
    " 66.98% with rates of 2 to 12 and 68.96% with rates of 6 to 24 (1606.00915, table 3); those nets have more"
    " parameters.",
    meaning="Rates differ by object size: here one high rate finds more of small objects and far less of large ones."
    " A pyramid follows its best branch in all pixels, without being best for every size.",
    measure=measure,
    conclude=conclude,
    draw=draw,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
