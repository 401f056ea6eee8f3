"""Searches the parameters of a dense CRF on a validation split, from coarse to fine, as for DeepLab v1 and v2.

The net runs once over each image, and its probabilities are kept. All parameters of the CRF except the smoothness
kernel's width and the number of iterations are arguments of one compiled program.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.errors import ConfigError
from cvjax.ops.crf.dense_crf import dense_crf
from cvjax.ops.crf.kernels import CRFKernels
from cvjax.runtime.compiler import compiled
from cvjax.tasks.confusion import confusion_matrix
from cvjax.tasks.segmentation.crf import inside, negative_log
from cvjax.tasks.segmentation.crf_config import CRFConfig
from cvjax.tasks.segmentation.scores.regions import segmentation_report
from cvjax.tasks.segmentation.task import Segmentation

Grid = Mapping[str, Sequence[float]]
"""Values to try, by field of `CRFConfig`."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Stores the net's result for one image, padded.

    Attributes:
      probabilities: Class probabilities, float16 [h, w, C].
      image: Image, uint8 [h, w, 3].
      mask: Ground truth, uint8 [h, w], with the ignored label in the padding.
      size: Height and width without padding, int32 [2].
    """

    probabilities: np.ndarray
    image: np.ndarray
    mask: np.ndarray
    size: np.ndarray


def keep_probabilities(
    task: Segmentation,
    model: nn.Module,
    variables: dict[str, Any],
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    multiple: int = 64,
) -> list[Kept]:
    """Computes the net's probabilities of images, as an evaluation does.

    Args:
      task: Task of a checkpoint; its evaluation's scales, flip and window are used.
      model: Module of the checkpoint.
      variables: Variables of the model.
      pairs: Image uint8 [H, W, 3] and mask uint8 [H, W] of each example.
      multiple: Divisor of the sides of padded images; images of a net without padding are not padded.
    """
    if hasattr(model, "margin"):
        multiple = 1
    variables = jax.device_put(variables)

    @compiled
    def probabilities(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return task.predict(model, variables, task.normalize(images)).astype(jnp.float16)

    fill = np.rint(np.asarray(task.mean)).astype(np.uint8)
    kept = []
    for image, mask in pairs:
        height, width = mask.shape
        padded = np.empty((*(-(-side // multiple) * multiple for side in (height, width)), 3), np.uint8)
        padded[:] = fill
        padded[:height, :width] = image
        labels = np.full(padded.shape[:2], task.ignore, np.uint8)
        labels[:height, :width] = mask
        size = np.array([height, width], np.int32)
        kept.append(Kept(np.asarray(probabilities(variables, padded[None]))[0], padded, labels, size))
    return kept


def make_scorer(kept: Sequence[Kept], task: Segmentation) -> Callable[[CRFConfig], dict[str, Any]]:
    """Returns a function from a CRF to the report of `segmentation_report` on the kept images."""

    @functools.partial(jax.jit, static_argnames=("smooth_sigma", "iterations"))
    def confusion(weights: jax.Array, smooth_sigma: float, iterations: int, item: tuple[jax.Array, ...]) -> jax.Array:
        probabilities, image, mask, size = (part[None] for part in item)
        smooth, *appearance = weights
        kernels = CRFKernels(smooth, smooth_sigma, *appearance)
        within = inside(size, mask.shape)
        unaries = negative_log(probabilities)
        marginals = dense_crf(unaries, image, kernels, iterations=iterations, valid=within)
        return confusion_matrix(mask, marginals.argmax(-1), task.num_classes, ignore=task.ignore)

    def score(crf: CRFConfig) -> dict[str, Any]:
        weights = np.array(
            [crf.smooth_weight, crf.appearance_weight, crf.appearance_sigma, crf.color_sigma], np.float32
        )
        total = np.zeros((task.num_classes,) * 2, np.int64)
        for item in kept:
            parts = (item.probabilities, item.image, item.mask, item.size)
            total += np.asarray(confusion(weights, crf.smooth_sigma, crf.iterations, parts))
        return segmentation_report(total, task.class_names, task.absent)

    return score


@dataclasses.dataclass(frozen=True)
class Tried:
    """Stores a CRF and its mean IoU."""

    crf: CRFConfig
    miou: float


def search(
    score: Callable[[CRFConfig], float],
    start: CRFConfig,
    grid: Grid,
    *,
    rounds: int = 2,
    tried: Callable[[Tried], None] = lambda _: None,
) -> list[Tried]:
    """Tries every combination of a grid, then those of ever finer grids around the best one.

    After each round an axis with more than one value is reduced to the best value and the midpoints between it and its
    neighbors. At an end of the axis the missing midpoint lies at the same distance beyond it, but always above 0.

    Args:
      score: Function from a CRF to its mean IoU.
      start: CRF with the values of the fields that are not in the grid.
      grid: Values of each field, above 0.
      rounds: Number of rounds, at least 1; the first is the grid itself.
      tried: Function that is called after every trial.

    Returns:
      All trials, the best first; of equal ones, the one tried first.

    Raises:
      ConfigError: An axis is empty, a value is not above 0, a CRF does not have a field, or there is no round.
    """
    fields = {field.name for field in dataclasses.fields(CRFConfig)} - {"iterations"}
    for name, values in grid.items():
        if name not in fields or not values or not all(0 < value < math.inf for value in values):
            raise ConfigError(
                f"the grid of {name} is {tuple(values)}; give numbers above 0 for {', '.join(sorted(fields))}"
            )
    if rounds < 1:
        raise ConfigError(f"rounds are {rounds}; give 1 or more")
    known: dict[CRFConfig, Tried] = {}
    axes = {name: sorted(set(map(float, values))) for name, values in grid.items()}
    for _ in range(rounds):
        for values in itertools.product(*axes.values()):
            crf = dataclasses.replace(start, **dict(zip(axes, values)))
            if crf not in known:
                known[crf] = Tried(crf, score(crf))
                tried(known[crf])
        best = _ranked(known)[0].crf
        axes = {name: _finer(values, getattr(best, name)) for name, values in axes.items()}
    return _ranked(known)


def most_trials(grid: Grid, rounds: int) -> int:
    """Returns the largest number of CRFs that `search` tries.

    From the second round on, an axis has three values, or one if it had one in the grid.
    """
    sizes = [len(set(values)) for values in grid.values()]
    return math.prod(sizes) + (rounds - 1) * (math.prod(3 if size > 1 else 1 for size in sizes) - 1)


def _ranked(known: Mapping[CRFConfig, Tried]) -> list[Tried]:
    # The mean IoU is nan without a counted pixel, and nan cannot be sorted.
    return sorted(known.values(), key=lambda trial: -np.nan_to_num(trial.miou, nan=-1.0))


def _finer(values: Sequence[float], best: float) -> list[float]:
    """Returns the best value of an axis and the midpoints to its neighbors, in ascending order."""
    if len(values) == 1:
        return list(values)
    place = values.index(best)
    below = best - values[place - 1] if place else values[1] - best
    above = values[place + 1] - best if place + 1 < len(values) else best - values[-2]
    return [max(best - below / 2, best / 2), best, best + above / 2]
