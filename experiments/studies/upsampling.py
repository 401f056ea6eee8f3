"""Which ways to enlarge a map draw a checkerboard that is not in the image?

Odena, Dumoulin and Olah (Deconvolution and Checkerboard Artifacts, 2016) saw that transposed convolutions draw one:
where the kernel is no multiple of the stride, the number of taps that fall on a pixel changes from pixel to pixel; and
where it is one, the weights can still differ. Enlarging by interpolation, and a convolution after it, cannot draw any.
Measured is the answer to a flat image, inside: what of its energy is not flat is checkerboard. First single layers with
weights of equal size, and at random; then nets of three doublings, at random start and after training to segment.

    cvjax study upsampling                                  the embedded scenes
    cvjax study upsampling --data FOLDER --void 11          CamVid, or any images with masks
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.nn import BatchNormOptions, ConvBNReLU, ConvTranspose, Upsample, Upsampling, he_normal
from cvjax.ops.checkerboard import checkerboard_energy
from experiments.studies._masks import MaskSettings
from experiments.studies._study import (
    LOOKS,
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

DOUBLINGS = 3
_PERIOD = 2**DOUBLINGS
_WAYS: dict[str, tuple[Upsampling, int]] = {
    "transposed 2x2": ("transposed", 2),
    "transposed 3x3": ("transposed", 3),
    "transposed 4x4": ("transposed", 4),
    "transposed 5x5": ("transposed", 5),
    "nearest + 3x3": ("nearest", 3),
    "bilinear + 3x3": ("bilinear", 3),
}


@dataclass(frozen=True)
class UpsamplingSettings(MaskSettings):
    """Says how the study is run.

    Attributes: those of `MaskSettings`, and
      strides: Strides of single transposed convolutions.
      kernels: Sides of their kernels; those below the stride are left out.
      ways: Ways in which nets enlarge.
      width: Channels of a net's first layer.
    """

    strides: tuple[int, ...] = (2, 3, 4)
    kernels: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    ways: tuple[str, ...] = tuple(_WAYS)
    width: int = 16
    steps: int = 100


class Hourglass(nn.Module):
    """Segments images by strided convolutions and as many doublings, the last of which gives the logits.

    Attributes:
      num_classes: Channels of the logits.
      upsampling: Way to double, see `cvjax.nn.Upsampling`.
      kernel_size: Side of the kernel of each doubling.
      width: Channels of the first convolution; doubled from layer to layer.
    """

    num_classes: int
    upsampling: Upsampling
    kernel_size: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, H, W, num_classes] of images whose sides are multiples of 8."""
        x = images
        for level in range(DOUBLINGS):
            x = ConvBNReLU(self.width * 2**level, 3, strides=2)(x, train)
        for level in reversed(range(DOUBLINGS)):
            features = self.width * 2 ** (level - 1) if level else self.num_classes
            init = he_normal("fan_in")
            x = Upsample(features, 2, self.upsampling, self.kernel_size, kernel_init=init, use_bias=True)(x)
            if level:
                x = nn.relu(BatchNormOptions().build()(x, use_running_average=not train))
        return x.astype(jnp.float32)


def measure(settings: UpsamplingSettings, lab: Lab) -> None:
    """Measures single layers, then each net before and after training."""
    for stride in settings.strides:
        for side in (kernel for kernel in settings.kernels if kernel >= stride):
            for seed in range(settings.seeds):
                name = f"layer {stride} {side}/{seed}"
                lab.measure(name, lambda side=side, stride=stride, seed=seed: _layer(side, stride, seed))
    for way in settings.ways:
        lab.measure_seeds(way, settings.seeds, partial(_runs, settings, way), _net)


def _layer(side: int, stride: int, seed: int) -> dict[str, float]:
    """Returns the checkerboard energy of one transposed convolution, of equal weights and of random ones."""
    flat, inside = jnp.ones((1, 12, 12, 16)), slice(3 * stride, -3 * stride)
    found = {}
    for name, init in (("equal", nn.initializers.ones), ("random", he_normal("fan_in"))):
        layer = ConvTranspose(64, (side, side), (stride, stride), kernel_init=init)
        maps, _ = layer.init_with_output(jax.random.key(seed), flat)
        found[name] = float(checkerboard_energy(maps[:, inside, inside], stride).mean())
    return found


def _runs(settings: UpsamplingSettings, way: str) -> ShortRun:
    upsampling, side = _WAYS[way]
    make = partial(Hourglass, upsampling=upsampling, kernel_size=side, width=settings.width)
    return ShortRun(settings.config(), make, settings.examples)


def _net(run: ShortRun, seed: int) -> dict[str, Any]:
    start = run.start(seed)
    trained = run.train(seed, start)
    (before, _), (after, picture) = _answer(run.model, start, seed), _answer(run.model, trained.variables, seed)
    found = {"start": before, "trained": after, "miou": run.score(trained.variables)["miou"]}
    return found | ({"picture": picture} if seed == 0 else {})


def _answer(model: nn.Module, variables: Any, seed: int) -> tuple[float, list[list[int]]]:
    """Returns the energy of the answers to flat images, mean over colors and classes, and the worst of them."""
    colors = jax.random.normal(jax.random.key(seed), (8, 1, 1, 3))
    maps = model.apply(variables, jnp.broadcast_to(colors, (8, 96, 96, 3)))
    assert isinstance(maps, jax.Array)
    inside = maps[:, 32:-32, 32:-32]  # the border of the image does not reach this far
    energy = checkerboard_energy(inside, _PERIOD)
    image, channel = np.unravel_index(int(energy.argmax()), energy.shape)
    worst = np.asarray(inside[image, :16, :16, channel])
    return float(energy.mean()), np.round(128 + 127 * (worst - worst.mean()) / max(abs(worst).max(), 1e-9)).tolist()


def _nets(cells: Cells) -> list[str]:
    return [variant for variant in variants_of(cells) if not variant.startswith("layer")]


def _layers(cells: Cells) -> dict[int, list[int]]:
    """Returns the kernels that were measured of each stride."""
    pairs = [tuple(map(int, name.split()[1:])) for name in variants_of(cells) if name.startswith("layer")]
    return {stride: [side for other, side in pairs if other == stride] for stride, _ in pairs}


def conclude(cells: Cells) -> Finding:
    """Returns the table of the nets, and whether transposed convolutions draw what the others cannot."""
    nets = _nets(cells)
    rows = [[way, *(with_error(of_seeds(cells, way, name), 100, 1) for name in _SHOWN)] for way in nets]
    layers = [(stride, side) for stride, sides in _layers(cells).items() for side in sides]
    equal = {pair: of_seeds(cells, f"layer {pair[0]} {pair[1]}", "equal").mean() for pair in layers}
    theory = all((energy > 1e-6) == (side % stride > 0) for (stride, side), energy in equal.items())
    transposed = [of_seeds(cells, way, "trained") for way in nets if way.startswith("transposed")]
    resized = [of_seeds(cells, way, "trained") for way in nets if not way.startswith("transposed")]
    holds = theory and all((low - spread(low) > max(high.max() for high in resized)).all() for low in transposed)
    least, most = (100 * f(values.mean() for values in transposed) for f in (min, max))
    verdict = (
        f"with equal weights a layer draws a checkerboard {'exactly' if theory else 'not only'} where the kernel is no"
        f" multiple of the stride; after training {least:.1f} to {most:.1f}% of the energy of what nets with transposed"
        f" convolutions answer to a flat image is checkerboard, and {100 * max(v.mean() for v in resized):.2g}% with"
        f" interpolation; the claim {'holds' if holds else 'does not show'} at this budget."
    )
    return Finding(("doubling", "checkerboard at start %", "trained %", "mean IoU %"), rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the energy of layers by kernel, of nets before and after training, and the nets' worst answers."""
    nets = _nets(cells)
    grid = figure.add_gridspec(2, 2 * len(nets), height_ratios=(3, 1))
    left, right = figure.add_subplot(grid[0, : len(nets)]), figure.add_subplot(grid[0, len(nets) :])
    for number, (stride, sides) in enumerate(_layers(cells).items()):
        random, equal = (
            100 * np.stack([of_seeds(cells, f"layer {stride} {side}", name) for side in sides], axis=1)
            for name in ("random", "equal")
        )
        plot_line(left, sides, random, f"stride {stride}, random weights", number)
        look = LOOKS[number]
        plain = {"color": look["color"], "marker": look["marker"], "markerfacecolor": "none", "linestyle": "none"}
        left.plot(sides, equal.mean(axis=0), label=f"stride {stride}, equal weights", **plain)
    places = np.arange(len(nets))
    for number, (name, label, hatch) in enumerate((("start", "random start", ""), ("trained", "trained", "///"))):
        values = 100 * np.stack([of_seeds(cells, way, name) for way in nets], axis=1)
        look: dict[str, Any] = {"color": ("#c9ced6", LOOKS[0]["color"])[number], "hatch": hatch, "edgecolor": "white"}
        offset = 0.4 * number - 0.2
        right.bar(places + offset, values.mean(axis=0), 0.38, yerr=spread(values), label=label, capsize=3, **look)
    right.set_xticks(places, [way.replace(" ", "\n", 1) for way in nets], fontsize=8)
    panel(left, "one transposed convolution", "side of the kernel (taps)", "checkerboard (% of energy)")
    panel(right, f"nets of {DOUBLINGS} doublings", "way to double", "checkerboard (% of energy)")
    for number, way in enumerate(nets):
        axes = figure.add_subplot(grid[1, 2 * number : 2 * number + 2])
        axes.imshow(np.array(cells[f"{way}/0"]["picture"]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(way, fontsize=8)
        axes.set_title("trained, on a flat image" if not number else "", fontsize=8, loc="left")


_SHOWN = ("start", "trained", "miou")

STUDY = Study(
    settings=UpsamplingSettings(),
    trial=UpsamplingSettings(
        seeds=1,
        strides=(2,),
        kernels=(2, 3),
        ways=("transposed 3x3", "nearest + 3x3"),
        width=2,
        steps=2,
        examples=8,
        size=(32, 32),
    ),
    task="segmentation",
    claim="Transposed convolutions draw checkerboards; interpolation with a convolution after it draws none",
    paper="pictures of generators show checkerboards with transposed convolutions, less easily where the kernel is a"
    " multiple of the stride; enlarging to the nearest pixels or bilinearly before a convolution mends them, and to the"
    " nearest gave the better pictures (Odena, Dumoulin and Olah, Distill 2016, doi 10.23915/distill.00003).",
    meaning="A kernel that is a multiple of the stride avoids the checkerboard only while all weights are equal: with"
    " random weights every transposed convolution draws one, and training on labels removes most but not all of it, the"
    " more the larger the kernel. Interpolation with a convolution after it has none from the start.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(10.5, 6.6),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
