"""What does depthwise separable convolution cost, in accuracy and in time, against standard convolution?

A 3x3 convolution looks at places and mixes channels at once. A separable one does one after the other: a depthwise 3x3
convolution of each channel alone, then a 1x1 convolution, with about an eighth of the parameters and multiply-adds.
Howard et al. (1704.04861) lose one point of accuracy by that. Both kinds are trained here at the same width, and at the
same number of parameters: a wider separable net against the standard one, and a narrower standard net against the
separable one; the widths are searched for. Time is that of inference, taken in turns.

    cvjax study separable                          the embedded scenes
    cvjax study separable --data FOLDER            CIFAR-10, or any labeled images
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.inspection import inspect_model
from cvjax.nn import ConvBNReLU, SeparableConv, gaussian
from experiments.studies._budget import closest
from experiments.studies._inputs import classes_of
from experiments.studies._recipes import SMALL_IMAGES
from experiments.studies._study import (
    LOOKS,
    Cells,
    Finding,
    Lab,
    Settings,
    Study,
    main,
    of_seeds,
    once,
    panel,
    spread,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NETS = ("standard", "separable, same width", "separable, same parameters", "standard, as few parameters")
_SIDE = 32
_LAYERS = ((1, 1), (2, 2), (2, 1), (4, 2), (4, 1))
"""Width in that of the first layer, and stride."""


@dataclass(frozen=True)
class SeparableSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      width: Channels of the first layer of the standard net.
      layers: Number of layers behind the first, up to five.
      steps: Number of training steps of each net.
      examples: Number of images that are scored.
      timed: Number of images of a batch whose inference is timed.
      repeats: Number of times that all nets are timed in turn.
    """

    width: int = 10
    layers: int = 5
    steps: int = 150
    examples: int = 1000
    timed: int = 128
    repeats: int = 5


class PlainNet(nn.Module):
    """Classifies images by a standard convolution, some of one kind, global average pooling and a dense layer.

    Attributes:
      num_classes: Number of classes.
      width: Channels of the first layer; twice and four times as many after each stride.
      separable: Whether those behind the first are depthwise separable.
      layers: Number of these, up to five.
    """

    num_classes: int
    width: int
    separable: bool
    layers: int = 5

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes] of images [B, H, W, 3]."""
        layer: Any = SeparableConv if self.separable else ConvBNReLU
        x = ConvBNReLU(self.width)(images, train)
        for factor, stride in _LAYERS[: self.layers]:
            x = layer(factor * self.width, 3, strides=stride)(x, train)
        return nn.Dense(self.num_classes, kernel_init=gaussian(0.01))(x.mean(axis=(1, 2)))


def with_params(net: PlainNet, params: int) -> PlainNet:
    """Returns a net of the width that has the nearest number of parameters."""

    def count(width: int) -> int:
        return inspect_model(net.clone(width=width), image_size=_SIDE).params

    most = 2
    while count(most) < params:
        most *= 2
    return net.clone(width=closest(count, params, most // 2, most))


def nets_of(width: int, layers: int, classes: int) -> dict[str, PlainNet]:
    """Returns the four nets by name."""
    full, thin = (PlainNet(classes, width, separable, layers) for separable in (False, True))
    params, few = (inspect_model(net, image_size=_SIDE).params for net in (full, thin))
    return dict(zip(_NETS, (full, thin, with_params(thin, params), with_params(full, few))))


def measure(settings: SeparableSettings, lab: Lab) -> None:
    """Counts each net, trains it with each seed, and times all in turn."""
    config = settings.on_data(replace(SMALL_IMAGES, steps=settings.steps))
    nets = once(lambda: nets_of(settings.width, settings.layers, classes_of(config)))
    for name in _NETS:
        lab.measure(f"{name}/counts", lambda name=name: _counts(nets()[name]))
        make = partial(ShortRun, config, lambda classes, name=name: nets()[name], settings.examples)
        lab.measure_seeds(f"trained {name}", settings.seeds, make, _figures)
    clocks = once(lambda: [clock(net, settings.timed) for net in nets().values()])
    for repeat in range(settings.repeats):
        lab.measure(f"time/{repeat}", lambda: {"ms": [watch() for watch in clocks()]})


def _counts(net: PlainNet) -> dict[str, int]:
    found = inspect_model(net, image_size=_SIDE)
    return {"width": net.width, "params": found.params, "macs": found.macs}


def _figures(run: ShortRun, seed: int) -> dict[str, float]:
    trained = run.train(seed)
    return {"train_loss": trained.last_loss, "top1": run.score(trained.variables)["top1"]}


def clock(net: PlainNet, count: int) -> Callable[[], float]:
    """Returns a function that takes the time of inference, in milliseconds an image: the median of three batches."""
    images = jnp.zeros((count, _SIDE, _SIDE, 3))
    shapes = jax.eval_shape(net.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), shapes)
    infer = jax.jit(net.apply)
    jax.block_until_ready(infer(variables, images))  # compiles

    def once_more() -> float:
        begun = time.perf_counter()
        jax.block_until_ready(infer(variables, images))
        return 1000 * (time.perf_counter() - begun) / count

    return lambda: statistics.median(once_more() for _ in range(3))


def _times(cells: Cells) -> np.ndarray:
    """Returns the time of each net in that of the standard one, float64 [repeats, nets]."""
    taken = of_seeds(cells, "time", "ms")
    return taken / taken[:, :1]


def conclude(cells: Cells) -> Finding:
    """Returns the table of the four nets, and what being separable costs and saves."""
    rows, times = [], _times(cells)
    top1 = {name: 100 * of_seeds(cells, f"trained {name}", "top1") for name in _NETS}
    counts = {name: cells[f"{name}/counts"] for name in _NETS}
    for number, name in enumerate(_NETS):
        row = counts[name]
        figures = (f"{row['params'] / 1000:.1f}", f"{row['macs'] / 1e6:.2f}", with_error(times[:, number], 1, 2))
        loss = with_error(of_seeds(cells, f"trained {name}", "train_loss"), 1, 2)
        rows.append([f"{name} (width {row['width']})", *figures, loss, with_error(top1[name])])
    full, thin, wide, narrow = _NETS
    saved = [counts[full][what] / counts[thin][what] for what in ("params", "macs")]
    lost, more, few = (top1[a] - top1[b] for a, b in ((full, thin), (wide, full), (thin, narrow)))
    better = min(more.mean() - spread(more), few.mean() - spread(few)) > 0
    times_by = [with_error(ratio, 1, 2) for ratio in (times[:, 1], times[:, 2], times[:, 1] / times[:, 3])]
    verdict = (
        f"at equal width the separable net has {saved[0]:.1f} times fewer parameters and {saved[1]:.1f} times fewer"
        f" multiply-adds, takes {times_by[0]} of the time, and changes top-1 accuracy by {with_error(-lost)} points. At"
        f" equal parameters it is {with_error(more)} points better with many and {with_error(few)} with few, and takes"
        f" {times_by[1]} and {times_by[2]} times as long. That it makes more of its parameters"
        f" {'shows' if better else 'does not show in both sizes'} at this budget."
    )
    columns = ("net", "parameters, k", "multiply-adds, M", "time, of standard", "training loss", "top-1 %")
    return Finding(columns, rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the accuracy of both kinds over parameters, multiply-adds and time."""
    panels = figure.subplots(1, 3, sharey=True)
    times = _times(cells)
    kinds = {"standard": (3, 0), "separable": (1, 2)}
    for number, (kind, places) in enumerate(kinds.items()):
        names = [_NETS[place] for place in places]
        top1 = 100 * np.stack([of_seeds(cells, f"trained {name}", "top1") for name in names], axis=1)
        counted = [[cells[f"{name}/counts"][what] for name in names] for what in ("params", "macs")]
        spent = times[:, list(places)]
        look: dict[str, Any] = {"label": kind, "capsize": 3, "markersize": 6, **LOOKS[number]}
        for axes, x in zip(panels, (np.divide(counted[0], 1e3), np.divide(counted[1], 1e6))):
            axes.errorbar(x, top1.mean(0), yerr=spread(top1), **look)
        panels[2].errorbar(spent.mean(0), top1.mean(0), yerr=spread(top1), xerr=spread(spent), **look)
    units = ("parameters (thousands)", "multiply-adds (millions an image)", "time of inference (standard net = 1)")
    for axes, title, unit in zip(panels, ("parameters", "operations", "time"), units):
        axes.set_xlim(left=0)
        panel(axes, f"accuracy by {title}", unit, "top-1 accuracy (%)", axes is panels[0])


STUDY = Study(
    settings=SeparableSettings(),
    trial=SeparableSettings(seeds=1, width=2, layers=1, steps=2, examples=8, timed=8, repeats=2),
    task="classification",
    claim="Depthwise separable convolution saves most parameters and operations and costs little accuracy",
    paper="MobileNet on ImageNet has 70.6% top-1 accuracy with 569 million multiply-adds and 4.2 million parameters,"
    " the same net with standard convolutions 71.7% with 4866 million and 29.3 million (1704.04861, table 4).",
    meaning="Places and channels need not be mixed at once: taken apart, both cost a fraction, and what is saved buys"
    " width. Time falls less than multiply-adds do, because a depthwise convolution has little to compute for each"
    " number that it reads.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(10.5, 4.6),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
