"""Do the sampling points of deformable convolution follow the shape and the scale of objects?

A convolution reads a fixed grid around each place. Dai et al. (1703.06211) let a second convolution predict an offset
for each of its points, learned with nothing but the task's loss, and found that filters on large objects read further
apart than filters on small ones. Here a small net with two deformable stages learns to segment, and the offsets of its
last stage are read out on images it has not seen: the mean distance of neighboring points, by the size of the object
that the filter is centered on, and how many of its points lie on that object. Offsets start at zero, so the plain grid
is where they come from. The same net with plain convolutions is trained beside it.

    cvjax study deformable                                   the embedded scenes
    cvjax study deformable --data FOLDER --void 11           CamVid, or any images with masks
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.tasks.segmentation.task import Segmentation
from experiments.studies._inputs import scored_inputs
from experiments.studies._masks import MaskSettings
from experiments.studies._pictures import picture_of, picture_text
from experiments.studies._sampling import Layer, Reader, distances_of, inside_of, make_reader, parts_of, points_of
from experiments.studies._study import (
    LOOKS,
    Cells,
    Finding,
    Lab,
    Study,
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

_LAYER = Layer("stage4_0", stride=8, dilation=4)
_SIDES = (0, 16, 32)
"""Sides of squares, in pixels, with whose areas small, medium and large objects begin."""
_GROUPS = ("small", "medium", "large", "background")


@dataclass(frozen=True)
class DeformableSettings(MaskSettings):
    """Says how the study is run.

    Attributes: those of `MaskSettings`, and
      width: Channels of the first stage; doubles at each of the four stages.
      stages: Stages that are deformable, the fourth among them.
    """

    width: int = 16
    stages: tuple[int, ...] = (3, 4)
    steps: int = 300
    examples: int = 64


def runs_of(settings: DeformableSettings, deformable: tuple[int, ...]) -> ShortRun:
    """Returns the runs of the net with some stages deformable."""
    backbone = {"stage_sizes": (1, 1, 1, 1), "bottleneck": False, "width": settings.width, "deformable": deformable}
    options = {"aux": False, "output_stride": _LAYER.stride, "norm": {"momentum": 0.95}}
    model = ModelConfig("fcn_resnet50", backbone=backbone, **options)
    return ShortRun(settings.config(model=model), examples=settings.examples)


def measure(settings: DeformableSettings, lab: Lab) -> None:
    """Trains both nets with each seed, and reads out the points of the deformable one."""
    for kind, stages in (("plain", ()), ("deformable", settings.stages)):
        runs = once(lambda stages=stages: runs_of(settings, stages))
        reader = once(lambda runs=runs: make_reader(runs().model, _LAYER))
        for seed in range(settings.seeds):
            lab.measure(f"{kind}/{seed}", partial(_figures, runs, reader if stages else None, seed))


def _figures(runs: Callable[[], ShortRun], reader: Callable[[], Reader] | None, seed: int) -> dict[str, Any]:
    variables = runs().train(seed).variables
    scores = {"miou": runs().score(variables)["miou"]}
    return scores if reader is None else {**scores, **_points(runs(), variables, reader(), shown=seed == 0)}


def _points(run: ShortRun, variables: Mapping[str, Any], read: Reader, shown: bool) -> dict[str, Any]:
    """Returns the distances and shares by size of object, and if `shown` a picture with the points of some filters."""
    task, stride = run.scoring, _LAYER.stride
    assert isinstance(task, Segmentation)
    background = 0 if task.class_names[0] == "background" else None
    rows, best = [], (-1.0, {})
    for images, batch in scored_inputs(run):
        kept = np.flatnonzero(batch["valid"])
        for offsets, image, mask in zip(
            np.asarray(read(variables, images))[kept], batch["image"][kept], batch["mask"][kept]
        ):
            found = parts_of(mask, task.ignore, background)
            own = found.parts[::stride, ::stride][: offsets.shape[0], : offsets.shape[1]]
            points, grid = (points_of(values, _LAYER) for values in (offsets, np.zeros_like(offsets)))
            group = np.searchsorted(np.square(_SIDES), found.areas[own], side="right") - 1
            group = np.where(found.background[own], len(_GROUPS) - 1, group)
            values = (
                group,
                found.areas[own],
                distances_of(points),
                inside_of(points, found.parts, own),
                inside_of(grid, found.parts, own),
            )
            rows.append(np.stack([value[own > 0] for value in values], axis=1))
            objects = np.unique(own[(own > 0) & ~found.background[own]])
            if shown and len(objects) > 1:
                sizes = found.areas[objects]
                pair = objects[[sizes.argmin(), sizes.argmax()]]
                if sizes.max() / sizes.min() > best[0]:
                    best = (sizes.max() / sizes.min(), _shown(image, mask != task.ignore, own, pair, points))
    table = np.concatenate(rows)
    groups = [table[table[:, 0] == number] for number in range(len(_GROUPS))]
    means = [part[:, 1:].mean(axis=0) if len(part) else np.full(4, np.nan) for part in groups]
    objects = table[table[:, 0] < len(_GROUPS) - 1]
    result: dict[str, Any] = {"filters": [len(part) for part in groups]}
    for number, name in enumerate(("distance", "inside", "inside_grid"), start=1):
        result[name] = [None if np.isnan(mean[number]) else float(mean[number]) for mean in means]
    return {**result, "correlation": rank_correlation(objects[:, 1], objects[:, 2]), **best[1]}


def _shown(
    image: np.ndarray, inside: np.ndarray, own: np.ndarray, parts: np.ndarray, points: np.ndarray
) -> dict[str, Any]:
    """Returns a picture without its padding, and the places and points of a filter in the middle of each part."""
    height, width = (int(np.flatnonzero(inside.any(axis=axis))[-1]) + 1 for axis in (1, 0))
    places = []
    for part in parts:
        cells = np.argwhere(own == part)
        places.append(cells[np.linalg.norm(cells - cells.mean(axis=0), axis=1).argmin()])
    chosen = [points[row, column].reshape(-1, 2).round(1).tolist() for row, column in places]
    centers = [(_LAYER.stride * place).tolist() for place in places]
    return {"picture": picture_text(image[:height, :width]), "centers": centers, "points": chosen}


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Returns Spearman's rank correlation; of constant values it is 0."""
    if not x.size or not np.ptp(x) or not np.ptp(y):
        return 0.0
    return float(np.asarray(spearmanr(x, y))[0])


def _groups(cells: Cells) -> list[tuple[int, str]]:
    """Returns number and name of the groups with filters: data whose classes are of everything have no background."""
    filters = of_seeds(cells, "deformable", "filters").min(axis=0)
    return [(number, name) for number, name in enumerate(_GROUPS) if filters[number]]


def conclude(cells: Cells) -> Finding:
    """Returns the table by size of object, and whether points spread and follow."""
    grid = _LAYER.stride * _LAYER.dilation
    figures = {name: of_seeds(cells, "deformable", name) for name in ("distance", "inside", "inside_grid")}
    rows = [
        [
            f"filters on {group}{' objects' if group != 'background' else ''}",
            f"{of_seeds(cells, 'deformable', 'filters')[:, number].mean():.0f}",
            with_error(figures["distance"][:, number]),
            str(grid),
            with_error(figures["inside"][:, number], 100),
            with_error(figures["inside_grid"][:, number], 100),
        ]
        for number, group in _groups(cells)
    ]
    wider = figures["distance"][:, 2] - figures["distance"][:, 0]
    more = 100 * (figures["inside"] - figures["inside_grid"])[:, :3].mean(axis=1)
    ranks = of_seeds(cells, "deformable", "correlation")
    gain = 100 * (of_seeds(cells, "deformable", "miou") - of_seeds(cells, "plain", "miou"))
    scale, shape = wider.mean() > spread(wider), more.mean() > spread(more)
    follows = ["shows" if found else "does not show" for found in (scale, shape)]
    verdict = (
        f"neighboring points of filters on large objects lie {with_error(wider)} pixels further apart than on small"
        f" ones, rank correlation with the object's area {with_error(ranks, 1, 2)} (plain grid: {grid} pixels);"
        f" {with_error(more)}% more of all points lie on the filter's own object than of the grid's. That points follow"
        f" scale {follows[0]}, and shape {follows[1]}, at this budget; the mean IoU changes by {with_error(gain)}."
    )
    columns = ("where", "filters", "distance of points, px", "of the grid", "points on the object, %", "of the grid, %")
    return Finding(columns, rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws points on a picture, their distance by size of object, and their share on the object."""
    photo, apart, inside = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
    cell = cells["deformable/0"]
    if cell.get("picture"):
        picture = picture_of(cell["picture"])
        photo.imshow(picture, interpolation="nearest")
        for number, (center, points) in enumerate(zip(cell["centers"], cell["points"])):
            rows, columns = np.array(points).T
            name, look = ("small", "large")[number], LOOKS[number]
            edge = {"markeredgecolor": "white", "markersize": 7, "color": look["color"], "linestyle": "none"}
            photo.plot(columns, rows, marker=look["marker"], label=f"points of a filter on a {name} object", **edge)
            photo.plot(center[1], center[0], marker="X", label=f"its center ({name})", **{**edge, "markersize": 10})
        photo.set_xlim(-20, picture.shape[1] + 20)
        photo.set_ylim(picture.shape[0] + 20, -20)
        photo.legend(frameon=False, fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    photo.set_title("where two filters read", loc="left", fontsize=10, color="#222222")
    photo.set_xlabel("pixels", fontsize=9, color="#50555c")
    photo.set_ylabel("pixels", fontsize=9, color="#50555c")
    groups = [number for number, _ in _groups(cells)]
    places = range(len(groups))
    names = np.array(["small\n< 16²", "medium\n< 32²", "large", "back-\nground"])[groups]
    plot_line(apart, places, of_seeds(cells, "deformable", "distance")[:, groups], "deformable", 0)
    grid = _LAYER.stride * _LAYER.dilation
    apart.plot(places, [grid] * len(groups), label="plain grid", **{**LOOKS[1], "marker": "none"})
    for number, (name, words) in enumerate((("inside", "deformable"), ("inside_grid", "plain grid"))):
        plot_line(inside, places, 100 * of_seeds(cells, "deformable", name)[:, groups], words, number)
    for axes in (apart, inside):
        axes.set_xticks(places, names)
    panel(apart, "distance of neighboring points", "object under the filter (area in pixels)", "mean distance (pixels)")
    panel(inside, "points on the filter's own object", "object under the filter (area in pixels)", "points (%)")


STUDY = Study(
    settings=DeformableSettings(),
    trial=DeformableSettings(seeds=1, width=2, stages=(4,), size=(32, 32), steps=2, examples=8),
    task="segmentation",
    claim="Sampling points of deformable convolution follow the object's shape and scale",
    paper="on PASCAL VOC 2007 the effective dilation of the filters grows with the objects that they are centered on,"
    " that of filters on background lies between those on medium and large ones (1703.06211, table 2).",
    meaning="Where a filter reads is learned from the task alone, place by place. Here points spread beyond the grid,"
    " the further the larger the object under the filter, but they do not gather on it: what surrounds an object tells"
    " this small net more about it.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(11.5, 5.0),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
