"""Do 1x1 convolutions before larger kernels save parameters and time without losing accuracy?

An inception block (Szegedy et al., 1409.4842) looks at its input with 1x1, 3x3 and 5x5 kernels and a pooling side by
side. In the naive form (figure 2a) the large kernels read all channels, and the pooling passes all of them on, so that
channels pile up from block to block. In the form of the paper (figure 2b) 1x1 convolutions reduce the channels first.
Narrowed GoogLeNets of fewer blocks, with BatchNorm and without auxiliary classifiers, are trained here for the same
number of steps: with reduction; without, at the same width; and without, at the width with as many multiply-adds as the
net with reduction.

    cvjax study bottleneck                          the embedded scenes
    cvjax study bottleneck --data FOLDER            CIFAR-10, or any labeled images
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.inspection import inspect_model
from experiments.studies._budget import StepClock, closest
from experiments.studies._recipes import SMALL_IMAGES
from experiments.studies._study import (
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
    from matplotlib.figure import Figure


_KINDS = ("with 1x1", "without, same width", "without, same multiply-adds")
_WIDTHS = 256  # widths are multiples of 1 / 256


@dataclass(frozen=True)
class BottleneckSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      kinds: Nets with and without reduction.
      width: Factor on the channels of GoogLeNet.
      stage_sizes: Number of inception blocks in each stage.
      side: Side in pixels to which images are brought; the net divides it by 32.
      steps: Number of training steps of each net.
      examples: Number of images that are scored.
    """

    kinds: tuple[str, ...] = _KINDS
    width: float = 0.25
    stage_sizes: tuple[int, int, int] = (2, 2, 1)
    side: int = 64
    steps: int = 200
    examples: int = 1000


def model_of(settings: BottleneckSettings, kind: str, classes: int = 10) -> ModelConfig:
    """Returns one of the nets."""
    reduced = ModelConfig(
        "googlenet", width=settings.width, aux=False, large_kernel=5, stage_sizes=settings.stage_sizes
    )
    if kind == "with 1x1":
        return reduced
    naive = reduced.replace(naive=True)
    if kind == "without, same width":
        return naive

    def macs(model: ModelConfig) -> int:
        return inspect_model(model.build(classes), image_size=settings.side).macs

    def narrowed(width: int) -> ModelConfig:
        return naive.replace(width=width / _WIDTHS)

    most = max(2, round(settings.width * _WIDTHS))
    return narrowed(closest(lambda width: macs(narrowed(width)), macs(reduced), 1, most))


def runs_of(settings: BottleneckSettings, kind: str) -> ShortRun:
    """Returns the runs of one net."""
    images = replace(SMALL_IMAGES.input, crop=(settings.side, settings.side))
    config = replace(SMALL_IMAGES, model=model_of(settings, kind), input=images, steps=settings.steps)
    return ShortRun(settings.on_data(config), examples=settings.examples)


def measure(settings: BottleneckSettings, lab: Lab) -> None:
    """Counts what each net costs, trains it with each seed, and notes its training loss and its accuracy."""
    for kind in settings.kinds:
        lab.measure_seeds(kind, settings.seeds, partial(runs_of, settings, kind), partial(_figures, settings))


def _figures(settings: BottleneckSettings, run: ShortRun, seed: int) -> dict[str, object]:
    found, clock = inspect_model(run.model, image_size=settings.side), StepClock()
    blocks = [layer for layer in found.at_depth(1) if layer.name.startswith("inception")]
    trained = run.train(seed, watch=clock)
    return {
        "top1": run.score(trained.variables)["top1"],
        "train_loss": trained.last_loss,
        "seconds_per_step": round(clock.seconds, 4),
        "params": found.params,
        "macs": found.macs,
        "blocks": [layer.name.removeprefix("inception") for layer in blocks],
        "block macs": [layer.macs for layer in blocks],
        "channels": [layer.output_shape[-1] for layer in blocks],
    }


def conclude(cells: Cells) -> Finding:
    """Returns the table of all nets, and what the reduction saves and costs."""
    rows = []
    for kind in variants_of(cells):
        params, macs, channels = (of_seeds(cells, kind, name)[0] for name in ("params", "macs", "channels"))
        seconds = with_error(of_seeds(cells, kind, "seconds_per_step"), 1e3, 0)
        loss, top1 = (with_error(of_seeds(cells, kind, *what), *how) for what, how in _SCORES)
        rows.append([kind, f"{params / 1e3:.0f}", f"{macs / 1e6:.1f}", f"{channels[-1]:.0f}", seconds, loss, top1])
    params, macs, seconds = (
        of_seeds(cells, _KINDS[1], name).mean() / max(of_seeds(cells, _KINDS[0], name).mean(), 1e-9)
        for name in ("params", "macs", "seconds_per_step")
    )
    top1 = {kind: 100 * of_seeds(cells, kind, "top1") for kind in variants_of(cells)}
    leads = {kind: top1[_KINDS[0]] - top1[kind] for kind in _KINDS[1:] if kind in top1}
    words = [f"{with_error(lead)} points from the net {kind}" for kind, lead in leads.items()]
    lead = leads[_KINDS[1]]
    factors = {"parameters": params, "multiply-adds": macs, "time": seconds}
    saved = [name for name, factor in factors.items() if factor > 1.05]
    missed = [name for name in factors if name not in saved]
    holds = lead.mean() + spread(lead) >= 0 and saved
    says = f"holds for {' and '.join(saved)}" if holds else "does not show"
    says += f", not for {' and '.join(missed)}," if holds and missed else ""
    verdict = (
        f"without reduction the same width takes {params:.1f} times the parameters, {macs:.1f} times the multiply-adds"
        f" and {seconds:.1f} times the time of a step. The accuracy with reduction differs by {', by '.join(words)}:"
        f" that reduction saves at no less accuracy {says} at this budget."
    )
    heads = "1x1 reduction", "1e3 parameters", "1e6 multiply-adds", "channels at the end", "ms a step"
    return Finding((*heads, "training loss", "top-1 %"), rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws the channels and the multiply-adds of each block, and the accuracy over the time of a step."""
    panels = figure.subplots(1, 3)
    for number, kind in enumerate(variants_of(cells)):
        look = look_of(number) | {"markersize": 5}
        blocks, macs = cells[f"{kind}/0"]["blocks"], of_seeds(cells, kind, "block macs")[0]
        panels[0].plot(blocks, of_seeds(cells, kind, "channels")[0], label=kind, **look)
        panels[1].plot(blocks, macs / 1e6, label=kind, **look)
        top1, seconds = (scale * of_seeds(cells, kind, name) for name, scale in _ENDS)
        errors = {"xerr": [spread(seconds)], "yerr": [spread(top1)]}
        panels[2].errorbar([seconds.mean()], [top1.mean()], label=kind, capsize=4, **errors, **look)
    panels[2].set_xlim(left=0)
    panel(panels[0], "channels that a block puts out", "inception block", "channels")
    panel(panels[1], "multiply-adds of a block", "inception block", "multiply-adds (millions)", legend=False)
    panel(panels[2], "accuracy over time", "training step (ms)", "top-1 accuracy (%)", legend=False)


_SCORES = ((("train_loss",), (1, 2)), (("top1",), (100,)))
_ENDS = (("top1", 100), ("seconds_per_step", 1e3))

STUDY = Study(
    settings=BottleneckSettings(),
    trial=BottleneckSettings(
        seeds=1, kinds=_KINDS[:2], stage_sizes=(1, 1, 1), width=0.03, side=32, steps=2, examples=8
    ),
    task="classification",
    claim="1x1 convolutions before larger kernels save parameters and computation at no less accuracy",
    paper="the naive block's 5x5 kernels and its pooling lead to a blow-up of computation within a few blocks; with 1x1"
    " reduction GoogLeNet won ILSVRC 2014 with 12 times fewer parameters than AlexNet, and nets like it can be 2 to 3"
    " times as fast as others that perform alike (1409.4842, sections 1 and 4).",
    meaning="Large kernels are dear because each of their taps reads all channels; a 1x1 convolution makes the channels"
    " few before. Without it the channels of pooling pile up from block to block, and the cost with them.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(12.0, 4.8),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
