"""Do two 3x3 convolutions see as far as one 5x5, with fewer parameters, and three as far as one 7x7?

VGG (1409.1556, section 2.3) has nothing but 3x3 kernels: two of them see 5x5 pixels with 18 instead of 25 weights for
each pair of channels, three see 7x7 pixels with 27 instead of 49, and there are more rectifiers on the way. That is so
where channels stay as many; where they double, as at the start of a stage, a stack pays for the second layer in full.
Nets of three stages are compared here, as wide in each stage, which differ in nothing but the kernels of a stage. How
far a stage sees is counted from the geometry (`cvjax.inspection`), and measured: the pixels on which the middle of its
map has a gradient. How much it looks at each of them is another question; most weight lies in the middle (1701.04128).

    cvjax study kernels                          the embedded scenes
    cvjax study kernels --data FOLDER            CIFAR-10, or any labeled images
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.inspection import inspect_model
from cvjax.nn import ConvBNReLU, max_pool
from experiments.studies._recipes import SMALL_IMAGES
from experiments.studies._study import (
    LOOKS,
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {(5, 1): "one 5x5", (3, 2): "two 3x3", (7, 1): "one 7x7", (3, 3): "three 3x3"}
_WEIGHTS = "weights of "
_STAGES = 3
_SIDE = 64  # of the images for gradients, in pixels: the middle of each map then sees no border


@dataclass(frozen=True)
class KernelsSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      kernels: Pairs of a kernel's side and the number of such convolutions in a stage; those that see as far lie side
        by side.
      steps: Number of training steps of each net.
      width: Channels of all stages.
      examples: Number of images that are scored.
    """

    kernels: tuple[tuple[int, int], ...] = tuple(_NAMES)
    steps: int = 400
    width: int = 16
    examples: int = 1000


class Stacked(nn.Module):
    """Classifies images by three stages of equal convolutions with 2x2 pooling between them, and global pooling.

    A 1x1 convolution before them gives as many channels as the stages have, and sees no further.

    Attributes:
      num_classes: Channels of the logits.
      side: Side of all kernels in pixels.
      count: Number of convolutions in a stage.
      width: Channels of all stages.
    """

    num_classes: int
    side: int
    count: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes] of images [B, H, W, 3]; the maps of the stages are sown as `stages`."""
        x = ConvBNReLU(self.width, 1, name="colors")(images, train)
        for stage in range(_STAGES):
            for number in range(self.count):
                name = f"stage{stage + 1}_conv{number + 1}"
                x = ConvBNReLU(self.width, self.side, name=name)(x, train)
            self.sow("intermediates", "stages", x)
            x = max_pool(x, 2, 2) if stage < _STAGES - 1 else x
        return nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2)))


def measure(settings: KernelsSettings, lab: Lab) -> None:
    """Counts the weights of a stage, and trains each net with each seed: its size, its accuracy and how far it sees."""
    for side, count in settings.kernels:
        lab.measure(f"{_WEIGHTS}{_NAMES[side, count]}/0", lambda side=side, count=count: weights(side, count))
    config = settings.on_data(replace(SMALL_IMAGES, steps=settings.steps))
    for side, count in settings.kernels:
        make = partial(Stacked, side=side, count=count, width=settings.width)
        runs = partial(ShortRun, config, make, settings.examples)
        lab.measure_seeds(_NAMES[side, count], settings.seeds, runs, _figures)


def weights(side: int, count: int) -> dict[str, float]:
    """Returns the weights of a stage of C channels, in units of C squared, when as many and half as many go in."""
    after = side**2 * (count - 1)
    return {"kept": side**2 + after, "doubled": side**2 / 2 + after}


def _figures(run: ShortRun, seed: int) -> dict[str, Any]:
    trained = run.train(seed)
    counted = inspect_model(run.model, image_size=_SIDE)
    ends = [
        [layer for layer in counted.layers if layer.name.startswith(f"stage{stage + 1}_") and layer.macs][-1]
        for stage in range(_STAGES)
    ]
    seen = gradients(run.model, trained.variables, seed)
    return {
        "params": counted.params,
        "macs": counted.macs * 32**2 // _SIDE**2,  # of the images it is trained on
        "top1": run.score(trained.variables)["top1"],
        "by_theory": [layer.receptive_field[1] for layer in ends if layer.receptive_field is not None],
        "by_gradient": [int((profile > 0).sum()) for profile in seen],
        "middle": [_middle(profile) for profile in seen],
        "profile": [round(float(share), 6) for share in seen[1]],
    }


def gradients(model: nn.Module, variables: Any, seed: int) -> np.ndarray:
    """Returns how much the middle of each stage's map depends on each column of noise, float64 [stages, columns].

    The shares of a stage's columns are those of the gradient's absolute values, and add up to 1.
    """
    key = jax.random.key(seed)
    images = jax.random.normal(key, (16, _SIDE, _SIDE, 3))

    @jax.jit
    def shares(images: jax.Array) -> list[jax.Array]:
        def maps(images: jax.Array) -> list[jax.Array]:
            kept: Any = model.apply(variables, images, mutable=["intermediates"])[1]
            return [x[:, x.shape[1] // 2, x.shape[2] // 2] for x in kept["intermediates"]["stages"]]

        middles, pull = jax.vjp(maps, images)
        weights = [jax.random.normal(jax.random.fold_in(key, i), x.shape) for i, x in enumerate(middles)]
        found = []
        for stage in range(_STAGES):
            one = [w if i == stage else jnp.zeros_like(w) for i, w in enumerate(weights)]
            found.append(jnp.abs(pull(one)[0]).sum(axis=(0, 1, 3)))
        return found

    sums = np.stack([np.asarray(share, np.float64) for share in shares(images)])
    return sums / sums.sum(axis=1, keepdims=True)


def _middle(profile: np.ndarray) -> int:
    """Returns the smallest number of columns, in pixels, that hold 95% of the gradient."""
    return int(np.searchsorted(np.sort(profile)[::-1].cumsum(), 0.95)) + 1


def _trained(cells: Cells) -> list[str]:
    return [name for name in variants_of(cells) if not name.startswith(_WEIGHTS)]


def _pairs(cells: Cells) -> list[tuple[str, str]]:
    names = _trained(cells)
    return list(zip(names[::2], names[1::2]))


def conclude(cells: Cells) -> Finding:
    """Returns the table of all nets, and whether small kernels see as far and what they save."""
    rows = []
    for variant in _trained(cells):
        counted = cells[f"{_WEIGHTS}{variant}/0"]
        params, macs, top1 = (of_seeds(cells, variant, figure) for figure in ("params", "macs", "top1"))
        seen = [_fields(cells, variant, figure) for figure in ("by_theory", "by_gradient", "middle")]
        sizes = (f"{counted['kept']:g}", f"{counted['doubled']:g}", f"{params[0] / 1e3:.1f}", f"{macs[0] / 1e6:.2f}")
        rows.append([variant, *sizes, *seen, with_error(top1, 100)])
    heads = ("net", "weights, C to C", "C/2 to C", "parameters k", "multiply-adds M")
    fields = ("field px", "by gradient px", "95% of it px", "top-1 %")
    words, kept, doubled = [], True, True
    for large, small in _pairs(cells):
        seen = of_seeds(cells, large, "by_theory")
        same = all(np.array_equal(of_seeds(cells, name, "by_gradient"), seen) for name in (large, small))
        changes = [
            cells[f"{_WEIGHTS}{small}/0"][case] / cells[f"{_WEIGHTS}{large}/0"][case] - 1
            for case in ("kept", "doubled")
        ]
        kept, doubled = kept and same and changes[0] < 0, doubled and same and changes[1] < 0
        gain = 100 * (of_seeds(cells, small, "top1") - of_seeds(cells, large, "top1"))
        words.append(
            f"{small} see {'as far' if same else 'not as far'} as {large}, with {100 * changes[0]:+.0f}% weights where"
            f" channels stay and {100 * changes[1]:+.0f}% where they double; top-1 differs by {with_error(gain)} points"
        )
    where = (
        "wherever channels stay or double" if doubled else "where channels stay as many, not always where they double"
    )
    return Finding(
        (*heads, *fields), rows, f"{'; '.join(words)}. The claim {f'holds {where}' if kept else 'does not show'}."
    )


def _fields(cells: Cells, variant: str, figure: str) -> str:
    return ", ".join(f"{value:.0f}" for value in of_seeds(cells, variant, figure).mean(axis=0))


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws what the second stage of each net looks at, the number of parameters, and the accuracy."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.6, 1.2, 1))
    names = _trained(cells)
    for number, name in enumerate(names):
        profile = 100 * of_seeds(cells, name, "profile").mean(axis=0)
        seen = np.flatnonzero(profile)
        left.plot(seen - (seen[0] + seen[-1]) / 2, profile[seen], label=name, markersize=4, **look_of(number))
    left.set_ylim(bottom=0)
    left.set_xticks(range(-9, 10, 3))
    panel(
        left,
        "what the middle of the second stage sees",
        "distance from the middle (px)",
        "share of the gradient (%)",
    )
    for case, place, width, hatch in (("kept", -0.2, 0.4, ""), ("doubled", 0.2, 0.4, "//")):
        counts = [cells[f"{_WEIGHTS}{name}/0"][case] for name in names]
        color = "#d3d6da" if hatch else LOOKS[0]["color"]
        label = "C/2 channels in, C out" if hatch else "C channels in, C out"
        middle.bar(
            np.arange(len(names)) + place, counts, width, color=color, hatch=hatch, edgecolor="#444444", label=label
        )
    _ticks(middle, names)
    middle.set_ylim(top=62)
    panel(middle, "weights of a stage", "convolutions of a stage", "weights (times C squared)")
    _bars(right, names, np.array([100 * of_seeds(cells, name, "top1") for name in names]))
    panel(right, "accuracy", "convolutions of a stage", "top-1 accuracy (%)", legend=False)


def _bars(axes: "Axes", names: list[str], values: np.ndarray) -> None:
    for number, row in enumerate(values):
        axes.bar(number, row.mean(), 0.7, yerr=spread(row), capsize=3, color=LOOKS[number]["color"])
    _ticks(axes, names)


def _ticks(axes: "Axes", names: list[str]) -> None:
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])


STUDY = Study(
    settings=KernelsSettings(),
    trial=KernelsSettings(seeds=1, kernels=((5, 1), (3, 2)), steps=2, width=2, examples=8),
    task="classification",
    claim="Two 3x3 convolutions see as far as one 5x5, three as far as one 7x7, with fewer parameters",
    paper="three 3x3 convolutions of C channels have 27 C² weights, one 7x7 has 49 C², 81% more (1409.1556, section"
    " 2.3); a net with one 5x5 in the place of each two 3x3 has a top-1 error higher by 7% (section 4.1).",
    meaning="A stack of small kernels reaches exactly as far as a large one, but looks more at the middle. What it"
    " saves depends on its channels: much where they stay as many, nothing for two layers where they double. At this"
    " budget the nets are equally accurate.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(11.0, 4.6),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
