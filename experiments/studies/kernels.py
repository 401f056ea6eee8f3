"""Do two 3x3 convolutions see as far as one 5x5, with fewer parameters, and three as far as one 7x7?

VGG (1409.1556, section 2.3) has nothing but 3x3 kernels: two of them see 5x5 pixels with 18 instead of 25 weights for
each pair of channels, three see 7x7 pixels with 27 instead of 49, and there are more rectifiers on the way. Nets of
three stages with equal channels are compared here, which differ in nothing but the kernels of a stage. How far a stage
sees is counted from the geometry (`cvjax.inspection`), and measured: the pixels on which the middle of its map has a
gradient. How much it looks at each of them is another question; most weight lies in the middle (1701.04128).

    cvjax study kernels                          the embedded scenes
    cvjax study kernels --data FOLDER            CIFAR-10, or any labeled images
"""

from dataclasses import dataclass, replace
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
    main,
    of_seeds,
    once,
    panel,
    spread,
    variants_of,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {(5, 1): "one 5x5", (3, 2): "two 3x3", (7, 1): "one 7x7", (3, 3): "three 3x3"}
_STAGES = 3
_SIDE = 64  # of the images for gradients, in pixels: the middle of each map then sees no border


@dataclass(frozen=True)
class KernelsSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      kernels: Pairs of a kernel's side and the number of such convolutions in a stage; those that see as far lie side
        by side.
      steps: Number of training steps of each net.
      width: Channels of the first stage; they double at each stage.
      examples: Number of images that are scored.
    """

    kernels: tuple[tuple[int, int], ...] = tuple(_NAMES)
    steps: int = 250
    width: int = 8
    examples: int = 1000


class Stacked(nn.Module):
    """Classifies images by three stages of equal convolutions with 2x2 pooling between them, and global pooling.

    Attributes:
      num_classes: Channels of the logits.
      side: Side of all kernels in pixels.
      count: Number of convolutions in a stage.
      width: Channels of the first stage; they double at each stage.
    """

    num_classes: int
    side: int
    count: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes] of images [B, H, W, 3]; the maps of the stages are sown as `stages`."""
        x = images
        for stage in range(_STAGES):
            for number in range(self.count):
                name = f"stage{stage + 1}_conv{number + 1}"
                x = ConvBNReLU(self.width * 2**stage, self.side, name=name)(x, train)
            self.sow("intermediates", "stages", x)
            x = max_pool(x, 2, 2) if stage < _STAGES - 1 else x
        return nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2)))


def measure(settings: KernelsSettings, lab: Lab) -> None:
    """Trains each net with each seed, and notes its size, its accuracy and how far its stages see."""
    config = settings.on_data(replace(SMALL_IMAGES, steps=settings.steps))
    classes = once(lambda: len(ShortRun(config, Stacked(1, 3, 1, 1)).train_set.class_names))
    for side, count in settings.kernels:
        runs = once(
            lambda side=side, count=count: ShortRun(
                config, Stacked(classes(), side, count, settings.width), settings.examples
            )
        )
        for seed in range(settings.seeds):
            lab.measure(f"{_NAMES[side, count]}/{seed}", lambda seed=seed, runs=runs: _figures(runs(), seed))


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


def _pairs(cells: Cells) -> list[tuple[str, str]]:
    names = variants_of(cells)
    return list(zip(names[::2], names[1::2]))


def conclude(cells: Cells) -> Finding:
    """Returns the table of all nets, and whether small kernels see as far and what they save."""
    rows = []
    for variant in variants_of(cells):
        params, macs, top1 = (of_seeds(cells, variant, figure) for figure in ("params", "macs", "top1"))
        seen = [_fields(cells, variant, figure) for figure in ("by_theory", "by_gradient", "middle")]
        rows.append([variant, f"{params[0] / 1e3:.1f}", f"{macs[0] / 1e6:.2f}", *seen, with_error(top1, 100)])
    heads = ("net", "parameters k", "multiply-adds M", "field px", "by gradient px", "95% of it px", "top-1 %")
    words, holds = [], True
    for large, small in _pairs(cells):
        big, little = (cells[f"{name}/0"] for name in (large, small))
        same = all(
            np.array_equal(of_seeds(cells, name, "by_gradient"), of_seeds(cells, large, "by_theory"))
            for name in (large, small)
        )
        saved = 1 - little["params"] / big["params"]
        gain = 100 * (of_seeds(cells, small, "top1") - of_seeds(cells, large, "top1"))
        far, size = "as far as" if same else "not as far as", "fewer" if saved > 0 else "more"
        words.append(
            f"{small} see {far} {large}, have {100 * abs(saved):.0f}% {size} parameters, and"
            f" a top-1 accuracy {with_error(abs(gain))} points {'higher' if gain.mean() > 0 else 'lower'}"
        )
        holds = holds and same and saved > 0
    return Finding(heads, rows, f"{'; '.join(words)}. The claim {'holds' if holds else 'does not show'}.")


def _fields(cells: Cells, variant: str, figure: str) -> str:
    return ", ".join(f"{value:.0f}" for value in of_seeds(cells, variant, figure).mean(axis=0))


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws what the second stage of each net looks at, the number of parameters, and the accuracy."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(2, 1, 1))
    names = variants_of(cells)
    for number, name in enumerate(names):
        profile = 100 * of_seeds(cells, name, "profile").mean(axis=0)
        seen = np.flatnonzero(profile)
        left.plot(seen - (seen[0] + seen[-1]) / 2, profile[seen], label=name, markersize=4, **_look(number))
    left.set_ylim(bottom=0)
    panel(
        left,
        "what the second stage sees, columns of zero gradient left out",
        "distance from the middle (px)",
        "share of the gradient (%)",
    )
    params = np.array([of_seeds(cells, name, "params") for name in names]) / 1e3
    _bars(middle, names, params[:, :1])
    panel(middle, "parameters", "convolutions of a stage", "parameters (thousands)", legend=False)
    _bars(right, names, np.array([100 * of_seeds(cells, name, "top1") for name in names]))
    panel(right, "accuracy", "convolutions of a stage", "top-1 accuracy (%)", legend=False)


def _look(number: int) -> dict[str, Any]:
    return dict(LOOKS[number % len(LOOKS)])


def _bars(axes: "Axes", names: list[str], values: np.ndarray) -> None:
    for number, row in enumerate(values):
        axes.bar(number, row.mean(), 0.7, yerr=spread(row), capsize=3, color=LOOKS[number]["color"])
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])


STUDY = Study(
    settings=KernelsSettings(),
    trial=KernelsSettings(seeds=1, kernels=((5, 1), (3, 2)), steps=2, width=2, examples=8),
    task="classification",
    claim="Two 3x3 convolutions see as far as one 5x5, three as far as one 7x7, with fewer parameters",
    paper="three 3x3 convolutions have 27 weights for each pair of channels, one 7x7 has 49, 81% more (1409.1556,"
    " section 2.3); a net with one 5x5 in the place of each two 3x3 has a top-1 error higher by 7% (section 4.1).",
    meaning="Stacked small kernels reach as far as a large one, with fewer weights and a rectifier between; but they"
    " look more at the middle of what they reach.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(11.0, 4.6),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
