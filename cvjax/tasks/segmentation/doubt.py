"""Finds masks, and regions of masks, that a trained net finds unlikely.

A mask's score is the mean probability of its labels over the pixels that are labeled. A region is a connected set of
pixels with one label and one other prediction; its score is their mean margin, the probability of the label less that
of the prediction, the normalized margin of confident learning (1911.00068) for pixels. It is flagged where its mean
probability of the prediction reaches that class's threshold: the class's mean probability over all pixels that are
labeled with it. Regions below a share of the image are left out: along every border a net differs from its labels by a
pixel or two.
"""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset, image_sizes
from cvjax.data.decode import IGNORE
from cvjax.tasks.doubts import Doubt, predicted, ranked

if TYPE_CHECKING:
    from cvjax.tasks.segmentation.task import Segmentation

LEAST = 0.002
"""Share of an image that a region has at least."""
_THIN = 3
"""Width in pixels of regions that count as a border; they are left out whatever their area."""


def mask_doubts(task: "Segmentation", model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[Doubt]:
    """Returns every mask with labeled pixels, and every region that is large enough, the least likely of each first."""

    def rows(probabilities: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        mask = batch["mask"]
        given = jnp.take_along_axis(probabilities, jnp.minimum(mask, task.num_classes - 1)[..., None].astype(int), -1)
        guess = jnp.argmax(probabilities, -1).astype(jnp.uint8)
        return {
            "given": given[..., 0],
            "likeliest": probabilities.max(-1),
            "guess": guess,
            "mask": mask,
            "index": batch["index"],
        }

    sizes, names = image_sizes(dataset), task.class_names
    doubts: list[Doubt] = []
    sure: list[tuple[int, Region]] = []
    totals, sums = np.zeros((2, IGNORE + 1))
    for part in predicted(task, model, variables, dataset, rows):
        columns = (part[name] for name in ("given", "likeliest", "guess", "mask", "index"))
        for given, likeliest, guess, mask, index in zip(*columns, strict=True):
            labeled = mask != IGNORE
            if not labeled.any():
                continue
            totals += np.bincount(mask.ravel(), minlength=IGNORE + 1)
            sums += np.bincount(mask.ravel(), weights=given.ravel().astype(np.float64), minlength=IGNORE + 1)
            mean = float(given[labeled].mean(dtype=np.float64))
            right = (guess == mask)[labeled].mean()
            what = f"mean probability of the labels {mean:.0%}, {right:.0%} of pixels predicted as labeled"
            doubts.append(Doubt("mask", int(index), mean, what))
            # Images are padded to their batch's size, or brought to one size; boxes are of the original.
            size = sizes[int(index)]
            scale = np.divide(size, task.config.input.resize) if size and task.config.input.resize else np.ones(2)
            total = float(np.prod(size)) if size else float(mask.size)
            for region in regions(mask, guess, given, likeliest, total / scale.prod() * LEAST):
                x1, y1, x2, y2 = (float(value) for value in region.box * np.tile(scale[::-1], 2))
                label, other, share = names[region.label], names[region.guess], region.pixels * scale.prod() / total
                score = region.given - region.likeliest
                what = f"{share:.1%} of the image: labeled {label}, predicted {other}, margin {score:.2f}"
                doubts.append(Doubt("region", int(index), score, what, label, other, False, (x1, y1, x2, y2)))
                sure.append((len(doubts) - 1, region))
    thresholds = sums / np.maximum(totals, 1)
    for number, region in sure:
        flagged = totals[region.guess] > 0 and region.likeliest >= thresholds[region.guess]
        doubts[number] = dataclasses.replace(doubts[number], flagged=bool(flagged))
    return ranked(doubts)


class Region(NamedTuple):
    """Holds a connected set of pixels with one label and one other prediction.

    Attributes:
      label, guess: Label and prediction.
      pixels: Number of the pixels.
      given, likeliest: Mean probabilities of the label and of the prediction.
      box: Box around them, x1, y1, x2, y2.
    """

    label: int
    guess: int
    pixels: int
    given: float
    likeliest: float
    box: np.ndarray


def regions(
    mask: np.ndarray, guess: np.ndarray, given: np.ndarray, likeliest: np.ndarray, least: float
) -> Iterator[Region]:
    """Yields the regions of an image.

    Args:
      mask: Labels, uint8 [H, W]; 255 is ignored.
      guess: Predictions, uint8 [H, W].
      given, likeliest: Probabilities of the label and of the prediction, float [H, W].
      least: Number of pixels that a region has at least.
    """
    pairs = np.where((mask != IGNORE) & (mask != guess), mask.astype(np.int32) * 256 + guess, -1)
    for pair in np.unique(pairs[pairs >= 0]).tolist():
        here = (pairs == pair).astype(np.uint8)
        count, numbers, figures, _ = cv2.connectedComponentsWithStats(here, connectivity=4)
        core = cv2.erode(here, np.ones((_THIN, _THIN), np.uint8), borderValue=0)
        thick = np.bincount(numbers[core > 0], minlength=count) > 0
        sums = [
            np.bincount(numbers.ravel(), weights=chances.ravel().astype(np.float64), minlength=count)
            for chances in (given, likeliest)
        ]
        for number in range(1, count):
            left, top, width, height, pixels = figures[number].tolist()
            if pixels >= least and thick[number]:
                box = np.array([left, top, left + width, top + height], np.float64)
                own, other = (float(total[number] / pixels) for total in sums)
                yield Region(pair // 256, pair % 256, pixels, own, other, box)
