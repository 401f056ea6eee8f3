"""Where do a net's parameters and multiply-adds sit?

Krizhevsky (1404.5997) noted that the convolutions of nets such as his do nearly all of the work and hold hardly any of
the parameters, and that dense layers are the other way round: a kernel is used at every pixel of a map, a dense layer's
weight once. Here both are counted, layer by layer, in nets from AlexNet to EfficientNet as their papers have them;
layers of training alone, such as auxiliary classifiers, do not count. Nothing is trained, and no data are read.

    cvjax study parameters                     at 224 pixels, or the size that a net is made for
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cvjax.inspection import LayerInfo, inspect_model
from cvjax.models import model_info
from experiments.studies._study import LOOKS, Cells, Finding, Lab, Settings, Study, main, panel, variants_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ParametersSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      models: Names of classifiers, from old to new.
    """

    seeds: int = 1
    models: tuple[str, ...] = (
        "alexnet_grouped",
        "nin",
        "vgg16",
        "googlenet_original",
        "resnet50",
        "densenet121",
        "seresnet50",
        "efficientnet_b0",
    )


_KINDS = {
    "dense": ("dense layers", LOOKS[0]["color"], ""),
    "gate": ("gates on pooled vectors", "#8d4e85", "xxx"),
    "wide": ("convolutions of 3x3 and more", LOOKS[1]["color"], "//"),
    "pointwise": ("1x1 convolutions", "#f2d0a7", ""),
    "depthwise": ("depthwise convolutions", "#9fcbb0", ".."),
    "norm": ("normalization", "#ffffff", ""),
}
"""Kinds of layers: their name in the legend, color and hatch."""


def kind_of(layer: LayerInfo) -> str:
    """Returns the kind of a layer, one of `_KINDS`."""
    if layer.kind.startswith("Dense"):
        return "dense"
    if not layer.kind.startswith("Conv"):
        return "norm"
    words = layer.kind.split()
    if layer.output_shape[:2] == (1, 1) and words[1] == "1x1":
        return "gate"  # of squeeze-and-excitation: a dense layer, written as a convolution of one pixel
    if "groups" in words and int(words[-1]) == layer.output_shape[-1]:
        return "depthwise"
    return "pointwise" if words[1].startswith("1x1") else "wide"


def measure(settings: ParametersSettings, lab: Lab) -> None:
    """Counts each net."""
    for model in settings.models:
        lab.measure(f"{model}/0", lambda model=model: _counts(model))


def _counts(model: str) -> dict[str, int]:
    info, found = model_info(model), inspect_model(model)
    params, macs = Counter(), Counter()
    for layer in found.layers:
        params[kind_of(layer)] += layer.params
        macs[kind_of(layer)] += layer.macs
    counts = {f"{kind}_params": params[kind] for kind in _KINDS} | {f"{kind}_macs": macs[kind] for kind in _KINDS}
    totals = {"params": sum(params.values()), "macs": found.macs, "training_only": found.training_only_params}
    return {"year": info.year} | totals | counts


def _shares(cells: Cells, what: str, *kinds: str) -> np.ndarray:
    """Returns the percentage of the parameters or multiply-adds in layers of some kinds, float64 [nets]."""
    rows = [cells[f"{net}/0"] for net in variants_of(cells)]
    return np.array([100 * sum(row[f"{kind}_{what}"] for kind in kinds) / row[what] for row in rows])


def conclude(cells: Cells) -> Finding:
    """Returns the table of all nets, and what dense layers hold in those that have hidden ones and in the others."""
    nets = variants_of(cells)
    params, macs = _shares(cells, "params", "dense"), _shares(cells, "macs", "dense")
    rows = []
    for net, held, done in zip(nets, params, macs):
        row = cells[f"{net}/0"]
        totals = (f"{row['params'] / 1e6:.1f}", f"{row['macs'] / 1e9:.2f}")
        rows.append([net, str(row["year"]), *totals, f"{held:.1f}", f"{done:.2f}"])
    heads = ("net", "year", "parameters M", "multiply-adds G", "dense layers: % of parameters", "% of multiply-adds")
    most = params > 50
    words = [
        f"{_paper(net)}'s hold {held:.0f}% of its parameters and do {done:.1f}% of its multiply-adds"
        for net, held, done, many in zip(nets, params, macs, most)
        if many
    ]
    if not all(most):
        rest = f"the other nets' at most {params[~most].max():.0f}% and {macs[~most].max():.1f}%"
        words.append(rest)
    holds = most.any() and macs[most].max() < 10
    verdict = f"dense layers: {'; '.join(words)}. The claim {'holds' if holds else 'does not show'}"
    if holds and not all(most):
        verdict += " where hidden layers are dense; in the other nets the convolutions hold the parameters too"
    return Finding(heads, rows, f"{verdict}.")


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the shares of all kinds of layers in parameters and in multiply-adds, a bar a net."""
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, what, unit, scale in ((left, "params", "M", 1e6), (right, "macs", "G", 1e9)):
        _bars(axes, cells, what)
        for place, net in enumerate(variants_of(cells)):
            axes.text(101.5, place, f"{cells[f'{net}/0'][what] / scale:.3g} {unit}", va="center", fontsize=8)
    nets = variants_of(cells)
    left.set_yticks(range(len(nets)), [f"{_paper(net)} {cells[f'{net}/0']['year']}" for net in nets])
    left.invert_yaxis()
    panel(left, "parameters", "share of the parameters (%)", "net, year", legend=False)
    panel(right, "multiply-adds of one image", "share of the multiply-adds (%)", "net, year", legend=False)
    for axes in (left, right):
        axes.grid(visible=False)
        axes.set_xlim(0, 116)
        axes.set_xticks(range(0, 101, 20))
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=8)


def _paper(net: str) -> str:
    """Returns the name that the paper gives to a net whose later form has that name in the zoo."""
    return net.removesuffix("_original").removesuffix("_grouped")


def _bars(axes: "Axes", cells: Cells, what: str) -> None:
    nets = variants_of(cells)
    start = np.zeros(len(nets))
    for kind, (label, color, hatch) in _KINDS.items():
        width = _shares(cells, what, kind)
        axes.barh(range(len(nets)), width, 0.7, start, label=label, color=color, hatch=hatch, edgecolor="#444444")
        start += width


STUDY = Study(
    settings=ParametersSettings(),
    trial=ParametersSettings(models=("alexnet", "nin")),
    task="none",
    claim="Dense layers hold the parameters, convolutions do the work",
    paper="convolutions hold about 5% of the parameters and do 90 to 95% of the computation; dense layers hold about"
    " 95% and do 5 to 10% (1404.5997).",
    meaning="A weight of a convolution is used at every pixel of a map, one of a dense layer once, so a net may be"
    " heavy in one place and slow in another. Nets without hidden dense layers have both in their convolutions; from"
    " ResNet-50 on, more than half of the work is in the 1x1 ones.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(12.0, 5.0),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
