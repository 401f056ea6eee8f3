"""What does each proposal cost, from R-CNN to YOLO, and where does the time go?

R-CNN (1311.2524) sends every proposal through the whole net. SPPnet (1406.4729) and Fast R-CNN (1504.08083) compute the
convolutions once and leave a few layers to each proposal; then selective search takes most of the time. Faster R-CNN
(1506.01497) takes proposals from the net's own maps, and YOLO (1506.02640) needs none. All five are trained here alike,
from scratch and far too shortly, with the nets of their recipes' quick presets; R-CNN, Fast and Faster R-CNN have one
narrow VGG. R-CNN and SPPnet score with the net's own softmax, without support vector machines. Then one image is timed,
one net after the other in each round. Proposals of the training images are made once, and kept among the data.

    cvjax study proposals                      the embedded scenes
    cvjax study proposals --data FOLDER        any images with boxes
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.datasets.proposals.boxes import Mode, ProposalConfig, grid_boxes, propose
from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from cvjax.models.detection.detector import Proposals
from cvjax.models.detection.regions import select_detections
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize
from cvjax.runtime.compiler import compiled
from cvjax.tasks.detection.config import DetectionConfig
from experiments import fast_rcnn_voc, rcnn_voc, sppnet_voc, yolo_voc
from experiments._shared import NARROW_REGIONS
from experiments.studies._study import (
    LOOKS,
    Cells,
    Finding,
    Lab,
    Settings,
    Study,
    main,
    milliseconds,
    of_seeds,
    once,
    panel,
    spread,
    with_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIME = "time"
_RECIPES: dict[str, Any] = dict(
    zip(("R-CNN", "SPPnet", "Fast R-CNN", "YOLO"), (rcnn_voc, sppnet_voc, fast_rcnn_voc, yolo_voc))
)
_RECIPES["Faster R-CNN"] = fast_rcnn_voc  # on the same VGG, in the place of its recipe's ResNet
PARTS = ("selective search", "convolutions", "proposal network", "regions", "suppression")
_SHADES = tuple(zip(("#c9ccd1", *(LOOKS[number]["color"] for number in (0, 2, 1, 3))), ("//", "", "xx", "..", "--")))


@dataclass(frozen=True)
class ProposalSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      nets: Names of the nets.
      counts: Numbers of proposals of an image at which time is measured; the last is that of training.
      mode: Method that proposes boxes for the nets that find none, see `ProposalConfig`.
      steps: Number of training steps of each net.
      batch_size: Number of images in each step.
      size: Side of the images in pixels, for all nets.
      examples: Number of images that are scored.
      rounds: Number of rounds of timing, whose median counts.
    """

    nets: tuple[str, ...] = ("R-CNN", "SPPnet", "Fast R-CNN", "Faster R-CNN", "YOLO")
    counts: tuple[int, ...] = (10, 50, 300)
    mode: Mode = "fast"
    steps: int = 120
    batch_size: int = 8
    size: int = 128
    examples: int = 150
    rounds: int = 9


def config_of(settings: ProposalSettings, name: str) -> DetectionConfig:
    """Returns the run of a net: its recipe's net and optimizer, and the same images, steps and proposals for all."""
    config, most = _RECIPES[name].PRESETS["quick"], settings.counts[-1]
    model = config.model.replace(scorer="softmax") if name in ("R-CNN", "SPPnet") else config.model
    if name == "SPPnet":
        model = model.replace(scales=(192,))
    if name == "Faster R-CNN":
        model = ModelConfig(
            "faster_rcnn_vgg16",
            rpn_channels=64,
            anchor_sizes=(12.0, 24.0, 48.0, 96.0),
            rpn_pre_nms_top_n=(600, 600),
            rpn_post_nms_top_n=(most, most),
            rpn_batch_size_per_image=64,
            rpn_min_size=4.0,
            rois_per_image=32,
            dropout=0.2,
            backbone=NARROW_REGIONS,
            norm={"momentum": 0.95},
        )
    if name == "YOLO":
        model = model.replace(grid=(-(-settings.size // 16),) * 2)
    given = most if name in ("R-CNN", "SPPnet", "Fast R-CNN") else 0
    side = (settings.size, settings.size)
    data = replace(config.input, crop=side, proposals=given, proposal_mode=settings.mode)
    scoring = replace(config.eval, batch_size=8)
    run = replace(config, model=model, steps=settings.steps, batch_size=settings.batch_size, input=data, eval=scoring)
    return settings.on_data(run)


def measure(settings: ProposalSettings, lab: Lab) -> None:
    """Trains and scores each net with each seed, and times all on one image."""
    runs = {name: once(partial(_runs, settings, name)) for name in settings.nets}
    for name, run in runs.items():
        lab.measure_seeds(name, settings.seeds, run, _scores)
    lab.measure(TIME, lambda: _times(settings, {name: run() for name, run in runs.items()}))


def _runs(settings: ProposalSettings, name: str) -> ShortRun:
    return ShortRun(config_of(settings, name), examples=settings.examples)


def _scores(run: ShortRun, seed: int) -> dict[str, float]:
    report = run.score(run.train(seed).variables)
    return {"map": report["map"]}


def _times(settings: ProposalSettings, runs: Mapping[str, ShortRun]) -> dict[str, Any]:
    """Times whole nets by number of proposals, and their parts, in milliseconds of one image."""
    first: Any = next(iter(runs.values()))
    side, most = settings.size, settings.counts[-1]
    image = first.task.decoder()(first.eval_set[0])["image"]
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(1, side, side, 3)), jnp.float32)
    sizes, boxes = jnp.full((1, 2), side), {count: _boxes(side, count) for count in settings.counts}
    programs: dict[str, Callable[[], Any]] = {"suppression": _suppression(boxes[most], first.task.num_classes, sizes)}
    if settings.mode != "grid":
        programs["search"] = partial(propose, image, ProposalConfig(settings.mode))
    for name, run in runs.items():
        variables, net = jax.device_put(run.start(0)), run.model
        for count in settings.counts if name != "YOLO" else (most,):
            given = (noise, sizes, boxes[count]) if getattr(net, "needs_proposals", False) else (noise, sizes)
            if name == "Faster R-CNN":
                net = net.clone(rpn_post_nms_top_n=(count, count))
            programs[f"{name} {count}"] = partial(compiled(net.apply), variables, *given)
        if name != "R-CNN":
            programs[f"{name} convolutions"] = partial(compiled(partial(_convolutions, net)), variables, noise)
        method = {"Faster R-CNN": "propose", "YOLO": "predict"}.get(name)
        if method is not None:
            programs[f"{name} {method}"] = partial(compiled(partial(net.apply, method=method)), variables, noise)
    taken = milliseconds(programs, settings.rounds)
    whole = {
        name: [taken.get(f"{name} {count}", taken[f"{name} {most}"]) for count in settings.counts] for name in runs
    }
    return {
        "counts": settings.counts,
        "search_ms": taken.get("search", 0.0),
        "whole_ms": whole,
        "parts_ms": {name: _parts(name, whole[name][-1], taken) for name in runs},
    }


def _parts(name: str, whole: float, taken: Mapping[str, float]) -> list[float]:
    """Divides a net's time among `PARTS`; the regions' is what the other parts leave."""
    convolutions = taken.get(f"{name} convolutions", 0.0)
    if name == "YOLO":  # its last layers read no regions, and count as convolutions
        return [0.0, taken["YOLO predict"], 0.0, 0.0, max(0.0, whole - taken["YOLO predict"])]
    network = max(0.0, taken[f"{name} propose"] - convolutions) if name == "Faster R-CNN" else 0.0
    search = 0.0 if name == "Faster R-CNN" else taken.get("search", 0.0)
    rest = max(0.0, whole - convolutions - network - taken["suppression"])
    return [search, convolutions, network, rest, taken["suppression"]]


def _convolutions(net: Any, variables: Any, images: jax.Array) -> list[jax.Array]:
    """Returns the maps that all regions of an image share, of every scale of it."""
    short = min(images.shape[1:3])
    frames = [pair(round(side * scale / short) for side in images.shape[1:3]) for scale in getattr(net, "scales", ())]
    scaled = [resize(images, frame) for frame in frames] or [images]
    return [list(net.apply(variables, each, method="features").values())[-1] for each in scaled]


def _boxes(side: int, count: int) -> Proposals:
    rows = grid_boxes((side, side), ProposalConfig("grid", limit=count))
    return Proposals(jnp.asarray(np.resize(rows, (1, count, 4))), jnp.ones((1, count), bool))


def _suppression(proposals: Proposals, classes: int, sizes: jax.Array) -> Callable[[], Any]:
    """Returns the call that selects detections of a net that is not trained, whose scores are nearly equal."""
    count = proposals.valid.shape[1]
    boxes = jnp.broadcast_to(proposals.boxes[:, :, None], (1, count, classes, 4))
    scores = nn.softmax(jnp.asarray(np.random.default_rng(0).normal(size=(1, count, classes)), jnp.float32))
    select = partial(select_detections, nms_threshold=0.3, score_threshold=0.05, max_detections=100)
    return partial(compiled(select), boxes, scores, proposals.valid, sizes)


def _nets(cells: Cells) -> list[str]:
    return list(cells[TIME]["whole_ms"])


def _totals(cells: Cells) -> dict[str, float]:
    """Returns the time of an image with the most proposals, selective search included, in milliseconds."""
    return {name: sum(parts) for name, parts in cells[TIME]["parts_ms"].items()}


def _each(cells: Cells, name: str) -> float:
    """Returns what one more proposal takes, in milliseconds."""
    counts, taken = cells[TIME]["counts"], cells[TIME]["whole_ms"][name]
    return (taken[-1] - taken[0]) / (counts[-1] - counts[0])


def conclude(cells: Cells) -> Finding:
    """Returns times and accuracy, and how far the claim holds."""
    counts, search, totals, nets = cells[TIME]["counts"], cells[TIME]["search_ms"], _totals(cells), _nets(cells)
    rows = [
        [
            name,
            *(f"{value:.1f}" for value in cells[TIME]["whole_ms"][name]),
            "-" if name == "YOLO" else f"{_each(cells, name):.3f}",
            f"{totals[name]:.0f}",
            f"{totals[name] / min(totals.values()):.1f}",
            with_error(of_seeds(cells, name, "map"), 100),
        ]
        for name in nets
    ]
    words = [f"{name} {_each(cells, name):.2f}" for name in nets if name != "YOLO"]
    share = {name: search / totals[name] for name in nets if name not in ("YOLO", "Faster R-CNN")}
    shared = [_each(cells, name) for name in nets if name in ("SPPnet", "Fast R-CNN", "Faster R-CNN")]
    first = _each(cells, "R-CNN") if "R-CNN" in nets else 0.0
    spent = share.get("Fast R-CNN", 0.0)
    holds = first > 2 * max(shared, default=0.0) and spent > 0.5
    verdict = (
        f"one more proposal takes, in ms: {', '.join(words)}. Selective search takes {search:.0f} ms,"
        f" {100 * spent:.0f}% of Fast R-CNN's image. In all an image takes"
        f" {', '.join(f'{total:.0f} ms ({name})' for name, total in totals.items())}."
        f" The claim {'holds' if holds else 'does not show'} here."
    )
    heads = [f"ms, {count} boxes" for count in counts]
    columns = ("net", *heads, "ms a box", f"ms in all, {counts[-1]} boxes", "times the least", "mAP %")
    return Finding(columns, rows, verdict)


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws time over the number of proposals, where it goes, and accuracy over time."""
    lines, bars, scores = figure.subplots(1, 3, width_ratios=(1, 1.2, 1))
    nets, totals, counts = _nets(cells), _totals(cells), cells[TIME]["counts"]
    for look, name in zip(LOOKS, nets):
        lines.plot(counts, cells[TIME]["whole_ms"][name], label=name, markersize=5, **look)
        values = 100 * of_seeds(cells, name, "map")
        style = {key: look[key] for key in ("color", "marker")}
        scores.errorbar(totals[name], values.mean(), yerr=spread(values), label=name, capsize=3, linestyle="", **style)
    for axes in (lines, scores):
        axes.set_xscale("log")
    lines.set_yscale("log")
    lines.set_xticks(counts, [str(count) for count in counts])
    lines.minorticks_off()
    left = np.zeros(len(nets))
    for place, (part, (color, hatch)) in enumerate(zip(PARTS, _SHADES)):
        shares = np.array([100 * cells[TIME]["parts_ms"][name][place] / totals[name] for name in nets])
        bars.barh(nets, shares, left=left, label=part, color=color, hatch=hatch, edgecolor="white", linewidth=0.6)
        left += shares
    for row, name in enumerate(nets):
        bars.text(101, row, f"{totals[name]:.0f} ms", va="center", fontsize=8)
    bars.set_xlim(0, 118)
    bars.set_ylim(len(nets) + 0.9, -0.6)
    panel(lines, "net alone", "proposals of an image", "time an image (ms)")
    panel(bars, f"all of an image, {counts[-1]} proposals", "share of the time (%)", "net", legend=False)
    bars.grid(visible=False)
    bars.legend(frameon=False, fontsize=7.5, ncols=2, loc="lower left")
    panel(scores, "accuracy after the same few steps", "time an image (ms)", "mean average precision (%)", legend=False)


STUDY = Study(
    settings=ProposalSettings(),
    trial=ProposalSettings(nets=("YOLO",), counts=(4, 8), mode="grid", steps=1, size=32, examples=8, rounds=1, seeds=1),
    task="detection",
    claim="R-CNN pays a whole net for each proposal; once convolutions are shared, finding proposals takes the time",
    paper="with VGG-16 on a GPU an image takes 47 s in R-CNN and 0.32 s in Fast R-CNN (1504.08083, table 4), the latter"
    " without selective search, whose 1.5 s a proposal network brings to 0.01 (1506.01497, table 5); YOLO sees 45"
    " images a second (1506.02640, abstract).",
    meaning="Each of these nets removed what took most of the time in the one before: the convolutions of every window,"
    " then the search for proposals, then the regions themselves. Reading regions is not free either: on a CPU the"
    " pooling of each region takes more than all convolutions of a small net.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(13.0, 4.8),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
