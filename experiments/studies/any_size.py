"""Can a classifier of small images, and a net without padding, be run on images of any size with the same result?

Sermanet et al. (1312.6229) and Long et al. (1411.4038) turn a classifier's dense layers into convolutions: on a larger
image it gives a map of scores, equal to those of all crops and much faster, since neighboring crops share most of the
work. Here a small classifier slides over mosaics of images it has not seen, and over all their crops. It is equal
where no layer pads: where layers pad, each crop has zeros at its border that the larger image does not have.

Ronneberger et al. (1505.04597) cut large images into tiles whose inputs overlap, and continue the image beyond its
border by mirroring. A small U-Net without padding is run on whole images, on overlapping tiles, with zeros in place of
the mirror image, and on tiles that are cut apart.

    cvjax study any_size                                 the embedded scenes
    cvjax study any_size --data FOLDER --masks FOLDER    labeled images, and images with masks
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.experiment import ModelConfig
from experiments.studies._pictures import picture_of
from experiments.studies._recipes import SMALL_IMAGES, SMALL_MASKS
from experiments.studies._sliding import SlidingNet, slide
from experiments.studies._study import (
    Cells,
    Finding,
    Lab,
    Settings,
    Study,
    main,
    of_seeds,
    once,
    panel,
    plot_line,
    spread,
    with_error,
)
from experiments.studies._tiles import DISTANCES, WAYS, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AnySizeSettings(Settings):
    """Says how the study is run.

    Attributes: those of `Settings`, and
      masks: Data set with masks for the tiles, a name or a path as `data`.
      steps: Number of training steps of the classifier and of the U-Net.
      width: Channels of the first layer of both.
      mosaics: Number of images on each side of the mosaics.
      repeats: Number of times that map and crops are timed, one after the other.
      tile: Side of a tile in pixels.
      scored: Number of images that the classifier is scored on; mosaics are made of some of them.
      examples: Number of images with masks that are segmented.
    """

    masks: str = "scenes"
    steps: int = 150
    width: int = 8
    mosaics: tuple[int, ...] = (2, 4, 6)
    repeats: int = 9
    tile: int = 32
    scored: int = 1000
    examples: int = 64


def classifier_of(settings: AnySizeSettings, padded: bool) -> ShortRun:
    """Returns the runs of a classifier."""
    config = settings.on_data(replace(SMALL_IMAGES, steps=settings.steps))
    config = replace(config, optim=replace(config.optim, learning_rate=0.02))  # there is no BatchNorm
    return ShortRun(config, partial(SlidingNet, width=settings.width, padded=padded), settings.scored)


def unet_of(settings: AnySizeSettings) -> ShortRun:
    """Returns the runs of the U-Net without padding."""
    config = replace(SMALL_MASKS, model=ModelConfig("unet_original", width=settings.width, depth=2, dropout=0.0))
    config = replace(config, input=replace(config.input, crop=(76, 76)))  # a size that fits, with 36 pixels of logits
    config = replace(replace(settings, data=settings.masks).on_data(config), steps=settings.steps)
    return ShortRun(config, examples=settings.examples)


def measure(settings: AnySizeSettings, lab: Lab) -> None:
    """Measures both kinds of classifiers, and the U-Net, with each seed."""
    for kind in ("unpadded", "padded"):
        runs = once(lambda kind=kind: classifier_of(settings, kind == "padded"))
        for seed in range(settings.seeds):
            lab.measure(
                f"{kind}/{seed}", lambda seed=seed, runs=runs: slide(runs(), seed, settings.mosaics, settings.repeats)
            )
    runs = once(lambda: unet_of(settings))
    for seed in range(settings.seeds):
        lab.measure(f"tiles/{seed}", lambda seed=seed, runs=runs: tile(runs(), seed, settings.tile))


def conclude(cells: Cells) -> Finding:
    """Returns the table of the maps and of the tiles, and what both come to."""
    rows = []
    for kind in ("unpadded", "padded"):
        for number, windows in enumerate(of_seeds(cells, kind, "windows")[0]):
            difference, agree, times, macs = (
                of_seeds(cells, kind, figure)[:, number]
                for figure in ("difference", "agree", "time_ratio", "macs_ratio")
            )
            name = f"map of {windows:.0f} windows, {kind}"
            rows.append([name, f"{difference.max():.1e}", with_error(agree, 100), with_error(times), with_error(macs)])
    for way, words in WAYS.items():
        apart = with_error(of_seeds(cells, "tiles", way)[:, 0], 1, 2)
        rows.append([f"tiles {words}", apart, with_error(of_seeds(cells, "tiles", f"same_{way}"), 100), "", ""])
    equal, other = (of_seeds(cells, kind, "difference").max() for kind in ("unpadded", "padded"))
    times = np.concatenate([of_seeds(cells, kind, "time_ratio")[:, -1] for kind in ("unpadded", "padded")])
    border = {way: of_seeds(cells, "tiles", way)[:, 0] for way in WAYS}
    gain, seams = border["zeros"] - border["mirror"], of_seeds(cells, "tiles", "apart")[:, -1]
    tiles = of_seeds(cells, "tiles", "difference").max()
    holds = equal < 1e-3 and times.mean() > 1 and tiles < 1e-3 < seams.min()
    verdict = (
        f"without padding the map differs from the crops by {equal:.0e} of the scores' deviation, with padding by up to"
        f" {other:.1f}, where {with_error(of_seeds(cells, 'padded', 'agree')[:, -1], 100)}% of the decisions are the"
        f" same; the largest map is {with_error(times)} times as fast as its crops. Overlapping tiles differ from the"
        f" whole image by {tiles:.0e}, tiles cut apart by {with_error(seams, 1, 2)} of the logits' deviation even far"
        f" from it. Within {DISTANCES[1]} pixels of the border a mirrored image is {with_error(border['mirror'], 1, 2)}"
        f" away from what real surroundings give, zeros {with_error(border['zeros'], 1, 2)}. The claim"
        f" {'holds' if holds else 'does not hold'} for nets without padding; that mirroring is better than zeros"
        f" {'shows' if gain.mean() > spread(gain) else 'does not show'} at this budget."
    )
    return Finding(
        ("what is compared", "difference", "same decision, %", "times faster", "fewer operations"), rows, verdict
    )


def draw(cells: Cells, figure: "Figure") -> None:
    """Draws a mosaic and its map of decisions, the gain in time, and the accuracy at the border."""
    (photo, decided), (gain, border) = figure.subplots(2, 2)
    cell = cells["unpadded/0"]
    photo.imshow(picture_of(cell["picture"]), interpolation="nearest")
    photo.set_title("an image larger than the classifier's 32 pixels", loc="left", fontsize=10)
    decided.imshow(np.array(cell["decided"]), cmap="cividis", interpolation="nearest")
    decided.set_title("its map: the class decided for each window", loc="left", fontsize=10)
    for axes, unit in ((photo, "pixels"), (decided, "windows, 4 pixels apart")):
        axes.set_xlabel(unit, fontsize=9, color="#50555c")
        axes.set_ylabel(unit, fontsize=9, color="#50555c")
        axes.tick_params(colors="#50555c", labelsize=8)
    for number, kind in enumerate(("unpadded", "padded")):
        plot_line(
            gain, of_seeds(cells, kind, "windows")[0], of_seeds(cells, kind, "time_ratio"), f"{kind}, time", number
        )
    macs = of_seeds(cells, "unpadded", "macs_ratio")
    plot_line(gain, of_seeds(cells, "unpadded", "windows")[0], macs, "multiply-adds", 3)
    gain.set_ylim(bottom=0)
    panel(gain, "one pass over the image against all crops", "windows in the image", "times faster (ratio)")
    places = range(len(DISTANCES))
    for number, (way, words) in enumerate(WAYS.items()):
        plot_line(border, places, of_seeds(cells, "tiles", way), words, number)
    border.set_xticks(places, [*(f"{near}-{far - 1}" for near, far in pairwise(DISTANCES)), f"{DISTANCES[-1]}+"])
    border.set_ylim(bottom=0)
    title, unit = "tiles of a U-Net, against real surroundings", "difference of logits (in their deviation)"
    panel(border, title, "distance from the image's border (pixels)", unit)


STUDY = Study(
    settings=AnySizeSettings(),
    trial=AnySizeSettings(seeds=1, steps=2, width=2, mosaics=(1, 2), repeats=1, scored=8, examples=8),
    task="classification",
    claim="Convolutional nets take images of any size: one pass equals all crops and is faster; overlapping tiles fit",
    paper="AlexNet as a convolution gives a 10x10 map of a 500x500 image in 22 ms, more than 5 times as fast as 100"
    " crops of 1.2 ms each (1411.4038, section 3.1); U-Net predicts the border of microscope images by mirroring them,"
    " and large images in overlapping tiles (1505.04597, figure 2).",
    meaning="A layer that slides gives the same answer wherever it is put, so work that crops share is done once. What"
    " breaks this is padding: a crop's zeros are no part of the larger image. U-Net does without, and mirrors where an"
    " image ends, which is nearer to what may lie there than zeros are.",
    measure=measure,
    conclude=conclude,
    draw=draw,
    size=(9.5, 8.4),
)

if __name__ == "__main__":
    main(STUDY, __doc__)
