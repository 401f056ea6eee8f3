"""How many steps of a dense CRF sharpen a net's borders, and what do they cost?

A net with an output stride of 8 knows what is there, and not exactly where it ends. Krähenbühl and Koltun (1210.5644)
tie all pixels of an image to one another, by distance and color, and infer all labels in a few steps; DeepLab
(1412.7062) puts that behind such a net. Here a small DeepLab v1 and a U-Net, whose skips reach the image's own
resolution, are trained for the same number of steps. Kernels are searched on some images of the split that is scored,
for each net; others are scored after 0 to 20 steps: by mean IoU of all pixels, and of those near a border (trimap).

    cvjax study crf                                               the embedded scenes
    cvjax study crf --data FOLDER --void 11 --size 180 240        CamVid, or any images with masks
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.data.dataset import Dataset
from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.runtime.compiler import compiled
from cvjax.tasks.scale_crop import resize_pair
from cvjax.tasks.segmentation.crf import apply_crf, inside
from cvjax.tasks.segmentation.crf_config import CRFS, CRFConfig, format_crf, parse_crf
from cvjax.tasks.segmentation.crf_search import Kept, keep_probabilities, make_scorer, search
from cvjax.tasks.segmentation.task import Segmentation
from experiments.studies._masks import MaskSettings
from experiments.studies._study import (
    LOOKS,
    Cells,
    Finding,
    Lab,
    Study,
    main,
    milliseconds,
    of_seeds,
    once,
    panel,
    plot_line,
    spread,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COARSE, FINE, TIME = "stride 8", "U-Net", "time"
_REACHES = (1, 2, 4, 8, 16)  # pixels from a border
_NEAR = 1  # place of the band that the verdict and the middle panel are about: 2 pixels


@dataclass(frozen=True)
class CRFSettings(MaskSettings):
    """Says how the study is run.

    Attributes: those of `MaskSettings`, and
      iterations: Numbers of steps of mean field inference; the first is 0.
      batch_size: Number of images in each step.
      width: Channels of the first layers.
      nets: Names of the nets; the first is the coarse one.
      searched: Number of other images, on which the kernels are searched.
      sigmas: Widths in pixels of the kernel of positions and colors that are tried.
      colors: Widths in color that are tried.
      weights: Weights of that kernel that are tried.
      rounds: Number of rounds of timing, whose median counts.
    """

    iterations: tuple[int, ...] = (0, 1, 2, 5, 10, 20)
    steps: int = 240
    batch_size: int = 8
    width: int = 8
    nets: tuple[str, ...] = (COARSE, FINE)
    examples: int = 20
    searched: int = 6
    sigmas: tuple[float, ...] = (10.0, 40.0)
    colors: tuple[float, ...] = (4.0, 10.0)
    weights: tuple[float, ...] = (1.0, 4.0)
    rounds: int = 9


def nets_of(width: int) -> dict[str, ModelConfig]:
    """Returns both nets: DeepLab's with the scores of every eighth pixel, and a U-Net."""
    norm = {"momentum": 0.95}
    backbone = {"stage_sizes": (1, 1, 1, 1, 1), "widths": tuple(width * times for times in (1, 2, 4, 8, 8))}
    backbone |= {"batch_norm": True}
    coarse = ModelConfig(
        "deeplabv1_largefov_vgg16", aspp_rates=(4,), hidden=16 * width, dropout=0.0, backbone=backbone, norm=norm
    )
    return {COARSE: coarse, FINE: ModelConfig("unet", width=width, depth=3, norm=norm)}


class _Net:
    """Trains one net once a seed, and keeps its probabilities of the images that are searched and scored."""

    def __init__(self, settings: CRFSettings, model: ModelConfig) -> None:
        config = settings.config(model=model, batch_size=settings.batch_size)
        self.settings = settings
        self.run = ShortRun(config, examples=settings.examples + settings.searched)
        scoring: Any = self.run.scoring
        self.task: Segmentation = scoring.reconfigured(eval=replace(config.eval, boundary=True, trimap=_REACHES))
        self.kept, self._sums = functools.cache(self._kept), functools.cache(self._make_sums)

    def _kept(self, seed: int) -> tuple[list[Kept], list[Kept]]:
        variables = self.run.train(seed).variables
        pairs = [self._pair(self.run.eval_set, index) for index in range(len(self.run.eval_set))]
        kept = keep_probabilities(self.task, self.run.model, variables, pairs, 1)
        searched = set(np.linspace(0, len(kept) - 1, self.settings.searched).round().astype(int).tolist())
        return [kept[i] for i in sorted(searched)], [item for i, item in enumerate(kept) if i not in searched]

    def _pair(self, source: Dataset, index: int) -> tuple[np.ndarray, np.ndarray]:
        pair = self.task.decoder()(source[index])
        return resize_pair(pair["image"], pair["mask"], self.settings.size)

    def kernels(self) -> dict[str, Any]:
        """Searches the kernels with the first seed's net."""
        kept, settings = self.kept(0)[0], self.settings
        score = make_scorer(kept, self.task)
        grid = {
            "appearance_sigma": settings.sigmas,
            "color_sigma": settings.colors,
            "appearance_weight": settings.weights,
        }
        best = search(lambda crf: score(crf)["miou"], replace(CRFS["v2"], iterations=5), grid, rounds=1)[0]
        return {"crf": format_crf(best.crf), "miou": best.miou, "without": score(CRFS["off"])["miou"]}

    def _make_sums(self, crf: CRFConfig) -> tuple[list[Segmentation], Callable[..., list[dict[str, jax.Array]]]]:
        """Returns a task for each number of steps, and a program that counts all of them on an image."""
        tasks = [self.task.reconfigured(eval=replace(self.task.config.eval, crf=each)) for each in self._crfs(crf)]
        return tasks, compiled(lambda probabilities, batch: [task.update(probabilities, batch) for task in tasks])

    def figures(self, crf: CRFConfig, seed: int) -> dict[str, Any]:
        """Scores one seed's net after each number of steps."""
        tasks, sums = self._sums(crf)
        count = {"valid": np.ones(1, bool), "skipped": np.zeros(1, bool)}
        found = []
        for item in self.kept(seed)[1]:
            batch = count | {"image": item.image[None], "mask": item.mask[None], "size": item.size[None]}
            found.append(jax.device_get(sums(item.probabilities[None].astype(np.float32), batch)))
        totals = [jax.tree.map(lambda *parts: np.sum(parts, axis=0), *rows) for rows in zip(*found)]
        reports = [task.compute(total) for task, total in zip(tasks, totals)]
        return {
            "iterations": self.settings.iterations,
            "miou": [report["miou"] for report in reports],
            "boundary_iou": [report["boundary_iou"] for report in reports],
            "trimap": [[report[f"trimap_miou_{reach}"] for reach in _REACHES] for report in reports],
        }

    def times(self, crf: CRFConfig) -> dict[str, Any]:
        """Times the net and each CRF on one image, one after the other in each round."""
        item, variables = self.kept(0)[1][0], jax.device_put(self.run.start(0))
        image, within = item.image[None], inside(jnp.asarray(item.size[None]), (1, *item.mask.shape))
        predict = compiled(
            lambda images, variables: self.task.predict(self.run.model, variables, self.task.normalize(images))
        )
        calls: dict[str, Callable[[], Any]] = {"0": functools.partial(predict, image, variables)}
        for each in self._crfs(crf)[1:]:
            infer = compiled(lambda p, image, within, crf=each: apply_crf(p, image, crf, within))
            unary = item.probabilities[None].astype(np.float32)
            calls[str(each.iterations)] = functools.partial(infer, unary, image, within)
        net, *steps = milliseconds(calls, self.settings.rounds).values()
        return {"iterations": self.settings.iterations, "net_ms": net, "crf_ms": [0.0, *steps], "size": item.mask.shape}

    def _crfs(self, crf: CRFConfig) -> list[CRFConfig]:
        return [replace(crf, iterations=number) for number in self.settings.iterations]


def measure(settings: CRFSettings, lab: Lab) -> None:
    """Searches the kernels of each net, scores it with each seed and number of steps, and times one image."""
    for name in settings.nets:
        net = once(lambda name=name: _Net(settings, nets_of(settings.width)[name]))
        crf = parse_crf(lab.measure(f"kernels of {name}", lambda net=net: net().kernels())["crf"])
        for seed in range(settings.seeds):
            lab.measure(f"{name}/{seed}", lambda net=net, crf=crf, seed=seed: net().figures(crf, seed))
        if name == COARSE:
            lab.measure(TIME, lambda net=net, crf=crf: net().times(crf))


def _gains(cells: Cells, net: str, figure: str) -> np.ndarray:
    """Returns what each number of steps gains against none in points, float64 [seeds, iterations]."""
    values = 100 * of_seeds(cells, net, figure)
    values = values[..., _NEAR] if figure == "trimap" else values
    return values - values[:, :1]


def _nets(cells: Cells) -> list[str]:
    return [net for net in (COARSE, FINE) if f"{net}/0" in cells]


def conclude(cells: Cells) -> Finding:
    """Returns the scores and the time of each number of steps, and what they gain."""
    times, nets, rows = cells[TIME], _nets(cells), []
    for net in nets:
        scores = {name: of_seeds(cells, net, name) for name in ("miou", "boundary_iou", "trimap")}
        for i, number in enumerate(times["iterations"]):
            shown = [scores["miou"][:, i], scores["trimap"][:, i, _NEAR], scores["boundary_iou"][:, i]]
            taken = f"{times['crf_ms'][i]:.0f}"
            rows.append(
                [
                    f"{net}, {number} step{'' if number == 1 else 's'}",
                    *(with_error(values, 100) for values in shown),
                    taken,
                ]
            )
    last = int(np.abs(np.array(times["iterations"]) - 10).argmin())  # ten steps, or what is nearest
    number, reach, words = times["iterations"][last], _REACHES[_NEAR], []
    for net in nets:
        near, region = (_gains(cells, net, name)[:, last] for name in ("trimap", "miou"))
        words.append(f"{net}: {with_error(near)} within {reach} px of a border, {with_error(region)} over all pixels")
    gains = _gains(cells, COARSE, "trimap")
    gain, more = gains[:, last], gains[:, -1] - gains[:, last]
    better = gain.mean() > spread(gain) and gain.mean() > _gains(cells, COARSE, "miou")[:, last].mean()
    holds = better and abs(more.mean()) < gain.mean() / 4
    verdict = (
        f"{number} steps change the mean IoU by points: {'; '.join(words)}. {times['iterations'][-1]} steps change the"
        f" first by another {with_error(more)}. {number} steps take {times['crf_ms'][last]:.0f} ms an image, the net"
        f" {times['net_ms']:.0f}. The claim {'holds' if holds else 'does not show'} here."
    )
    columns = ("net", "mIoU %", f"mIoU % within {_REACHES[_NEAR]} px of borders", "boundary IoU %", "ms an image")
    return Finding(columns, rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws accuracy over the distance from borders, gains over steps, and time over steps."""
    bands, gains, clock = figure.subplots(1, 3)
    iterations = cells[TIME]["iterations"]
    chosen = [i for i, number in enumerate(iterations) if number in (0, 1, 10)] or [0, len(iterations) - 1]
    for number, i in enumerate(chosen):
        label = f"{iterations[i]} step{'' if iterations[i] == 1 else 's'}"
        plot_line(bands, _REACHES, 100 * of_seeds(cells, COARSE, "trimap")[:, i], label, number)
    bands.set_xscale("log", base=2)
    bands.set_xticks(_REACHES, [str(reach) for reach in _REACHES])
    panel(bands, "net with output stride 8", "distance from a border, up to (pixels)", "mean IoU of these pixels (%)")
    kinds = [(net, name) for net in _nets(cells) for name in ("trimap", "miou")]
    for number, (net, name) in enumerate(kinds):
        where = f"within {_REACHES[_NEAR]} px" if name == "trimap" else "all pixels"
        plot_line(gains, iterations, _gains(cells, net, name), f"{net}, {where}", number)
    gains.set_ylim(top=gains.get_ylim()[1] * 1.45)  # room for the legend
    gains.set_xticks(iterations)
    clock.set_xticks(iterations)
    gains.axhline(0, color="#999999", linewidth=0.8)
    panel(gains, "what the CRF adds", "steps of mean field inference", "gain in mean IoU (points)")
    clock.plot(iterations, cells[TIME]["crf_ms"], label="CRF", **LOOKS[0])
    clock.axhline(cells[TIME]["net_ms"], label="net alone", color=LOOKS[1]["color"], linestyle="--")
    height, width = cells[TIME]["size"]
    panel(clock, f"time, {height} x {width} pixels", "steps of mean field inference", "time an image (ms)")
    clock.set_ylim(bottom=0)


STUDY = Study(
    settings=CRFSettings(),
    trial=CRFSettings(
        seeds=2,
        iterations=(0, 2),
        steps=2,
        width=2,
        nets=(COARSE,),
        size=(32, 32),
        examples=2,
        searched=1,
        sigmas=(10.0,),
        colors=(4.0,),
        weights=(1.0,),
        rounds=1,
    ),
    task="segmentation",
    claim="Ten steps of a dense CRF sharpen the borders of a coarse net; more steps add little",
    paper="mean field inference settles within about ten steps, in 0.2 s an image (1210.5644); behind DeepLab-LargeFOV"
    " ten steps raise the mean IoU on PASCAL VOC 2012 val from 62.25% to 67.64% (1412.7062, table 1).",
    meaning="The colors of an image tell where things end. The net with coarse scores gains most, above all at borders;"
    " one with skips to the image's own resolution gains less. Most comes with the first few steps, but even one takes"
    " several times as long as a small net: later nets learned to do without.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(12.0, 4.8),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
