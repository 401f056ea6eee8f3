"""What do a U-Net's odd maps cost at the border of the image: cropped, filled with zeros, or mirrored beforehand?

Pooling drops the last row or column of an odd map, and on the way up the map from below is smaller than its skip.
Ronneberger et al. (1505.04597) choose sizes whose maps are all even, and mirror images beyond their border. Others fill
the missing row with zeros, or crop the skip and repeat the last logits. Here images have a size whose maps are odd at
every level. One net, trained on images one pixel larger, whose maps are even, meets odd maps in three ways; and a net
is trained with each way. Errors are counted by the distance from the lower and right border, where the pixels go.

    cvjax study odd_sizes                                   the embedded scenes
    cvjax study odd_sizes --data FOLDER --void 11           CamVid, or any images with masks
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cvjax.data.decode import IGNORE
from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from experiments.studies._masks import Labeled, MaskSettings, labeler, miou
from experiments.studies._study import (
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
    variants_of,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EVEN = "even sizes"
_BANDS = (1, 2, 4, 8, 16)  # farthest pixels from the border in each band; the last band has the rest


@dataclass(frozen=True)
class OddSettings(MaskSettings):
    """Says how the study is run.

    Attributes: those of `MaskSettings`, where `size` is odd at all levels, and
      ways: Ways to meet odd maps, `mirror` among them.
      width: Channels of the first level.
      depth: Number of times that maps are halved.
    """

    size: tuple[int, int] = (95, 127)
    ways: tuple[str, ...] = ("mirror", "zeros", "crop")
    width: int = 6
    depth: int = 4
    steps: int = 160
    learning_rate: float = 6e-3


def measure(settings: OddSettings, lab: Lab) -> None:
    """Trains a net on even sizes and scores it in each way, then a net in each way."""
    larger = replace(settings, size=(settings.size[0] + 1, settings.size[1] + 1))
    even, ways = once(lambda: _runs(larger, "mirror")), settings.ways
    odd = {way: once(lambda way=way: _runs(settings, way)) for way in ways}
    labelers = {way: once(lambda way=way: labeler(odd[way]())) for way in ways}
    label_even = once(lambda: labeler(even()))
    for seed in range(settings.seeds):
        net = once(lambda seed=seed: even().train(seed).variables)
        lab.measure(f"{_EVEN}/{seed}", lambda net=net: _figures(label_even()(net())))
        for way in ways:
            lab.measure(f"{way}, unseen/{seed}", lambda net=net, way=way: _figures(labelers[way]()(net())))
    for way in ways:
        for seed in range(settings.seeds):
            name = f"{way}, trained/{seed}"
            lab.measure(name, lambda way=way, seed=seed: _figures(labelers[way]()(odd[way]().train(seed).variables)))


def _runs(settings: OddSettings, way: str) -> ShortRun:
    model = ModelConfig("unet", width=settings.width, depth=settings.depth, odd_sides=way)
    return ShortRun(settings.config(model=model, batch_size=8), examples=settings.examples)


def _figures(labeled: Labeled) -> Mapping[str, Any]:
    """Returns the share of wrong pixels in each band along the lower and right border, and the mean IoU."""
    known, wrong = labeled.truth != IGNORE, labeled.truth != labeled.found
    height, width = known.shape[1:]
    distance = np.minimum(np.arange(height, 0, -1)[:, None], np.arange(width, 0, -1))
    band = np.searchsorted(_BANDS, distance).ravel()
    counted, missed = (np.bincount(band, pixels.sum(0).ravel()) for pixels in (known, known & wrong))
    border = missed[:-1].sum() / counted[:-1].sum()
    return {"errors": (missed / counted).tolist(), "border": border, "inside": missed[-1] / counted[-1]} | {
        "miou": miou(labeled)
    }


def _ways(cells: Cells) -> list[str]:
    return [variant.split(",")[0] for variant in variants_of(cells) if variant.endswith("trained")]


def _cost(cells: Cells, way: str, how: str, figure: str = "border") -> np.ndarray:
    """Returns by how much a way is worse than mirroring with each seed, as a share of the pixels."""
    return of_seeds(cells, f"{way}, {how}", figure) - of_seeds(cells, f"mirror, {how}", figure)


def conclude(cells: Cells) -> Finding:
    """Returns the table of all ways, and what they cost against mirroring."""
    rows = [
        [variant, *(with_error(of_seeds(cells, variant, figure), 100) for figure in ("border", "inside", "miou"))]
        for variant in variants_of(cells)
    ]
    words, holds = [], True
    for how, said in (("unseen", "a net that never saw odd maps"), ("trained", "nets trained with them")):
        costs = {way: _cost(cells, way, how) for way in _ways(cells) if way != "mirror"}
        inside = {way: 100 * _cost(cells, way, how, "inside").mean() for way in costs}
        parts = [
            f"{with_error(cost, 100)} points for {way} ({inside[way]:.1f} elsewhere)" for way, cost in costs.items()
        ]
        words.append(f"of {said} {' and '.join(parts)}")
        holds &= how == "trained" or all(cost.mean() > spread(cost) for cost in costs.values())
    verdict = (
        f"error in the last {_BANDS[-1]} pixels above that with mirroring: {'; '.join(words)}; the claim"
        f" {'holds' if holds else 'does not show'} at this budget for a net that never saw odd maps."
    )
    columns = ("way", f"error in the last {_BANDS[-1]} pixels %", "elsewhere %", "mean IoU %")
    return Finding(columns, rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the error above that with mirroring by distance from the border, of a net that saw no odd maps or did."""
    names = [f"{low + 1}-{high}" if high > low + 1 else f"{high}" for low, high in zip((0, *_BANDS), _BANDS)]
    titles = {"unseen": "one net, trained on even maps", "trained": "a net trained with each way"}
    for axes, (how, title) in zip(figure.subplots(1, 2), titles.items()):
        axes.axhline(0, color="#8a8f98", linewidth=1)
        for number, way in enumerate(_ways(cells)):
            if way != "mirror":
                cost = _cost(cells, way, how, "errors")
                plot_line(axes, range(len(names) + 1), 100 * cost, f"{way}, against mirror", number)
        if how == "unseen":
            even = of_seeds(cells, _EVEN, "errors") - of_seeds(cells, "mirror, unseen", "errors")
            plot_line(axes, range(len(names) + 1), 100 * even, "even maps, against mirror", 5)
        axes.set_xticks(range(len(names) + 1), [*names, "farther"])
        panel(axes, title, "distance from the lower or right border (pixels)", "wrong pixels above mirroring (points)")


STUDY = Study(
    settings=OddSettings(),
    trial=OddSettings(seeds=1, size=(31, 39), ways=("mirror", "crop"), width=2, depth=1, steps=2, examples=8),
    task="segmentation",
    claim="Odd maps cost accuracy at the border if they are cropped or filled with zeros, not if images are mirrored",
    paper="tiles have sizes whose maps are even at every pooling, and what they lack at the border of the image is its"
    " mirror image (1505.04597, sections 1 and 2, figure 2); what odd maps cost is not measured.",
    meaning="A net that never saw odd maps is best served by mirroring to a size that halves evenly. What it loses"
    " otherwise is not at the border alone, but more inside: the deepest maps lack a row whose pixels see far."
    " Trained with them, a net gets used to zeros; cropping costs a little.",
    measure=measure,
    conclude=conclude,
    draw=draw,
)

if __name__ == "__main__":
    main(STUDY, __doc__)
