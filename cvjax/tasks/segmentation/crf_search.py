"""A search for a dense CRF's parameters on a validation split, coarse to fine, as DeepLab v1 and v2 did it.

The net runs once over each image and its probabilities are kept; of the CRF, all but the smoothness kernel's width are
arguments of one compiled program.
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
from cvjax.ops.dense_crf import CRFKernels, dense_crf
from cvjax.runtime.compiler import compiler_options
from cvjax.tasks.confusion import confusion_matrix
from cvjax.tasks.segmentation.crf import CRFConfig, inside, negative_log
from cvjax.tasks.segmentation.metrics import segmentation_report
from cvjax.tasks.segmentation.task import Segmentation

Grid = Mapping[str, Sequence[float]]
"""Values to try, by field of `CRFConfig`."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """What the net made of one image, padded.

    Attributes:
      probabilities: float16 [h, w, C].
      image: uint8 [h, w, 3].
      mask: uint8 [h, w], 255 in the padding.
      size: int32 [2], height and width of what is not padding.
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
    """Runs the net over images, as an evaluation does.

    Args:
      task: Task of a checkpoint; its evaluation's scales, flip and window are used.
      model: Module of the checkpoint.
      variables: Its variables.
      pairs: Image uint8 [H, W, 3] and mask uint8 [H, W] of each.
      multiple: images are padded to sides that are multiples of it; those of an unpadded net are not.
    """
    if hasattr(model, "margin"):
        multiple = 1
    variables = jax.device_put(variables)

    @functools.partial(jax.jit, compiler_options=compiler_options(jax.devices()[0].platform))
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
    """A function from a CRF to the report of `segmentation_report` on what was kept."""

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
        return segmentation_report(total, task.class_names)

    return score


@dataclasses.dataclass(frozen=True)
class Tried:
    """A CRF and its mean IoU."""

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

    After each round an axis with more than one value becomes the best value and the middles between it and its
    neighbors; at an end of the axis, as far beyond it, but never to 0.

    Args:
      score: mean IoU of a CRF.
      start: gives the fields that the grid leaves alone.
      grid: values of each field, above 0.
      rounds: at least 1; 1 is the grid alone.
      tried: called after every trial.

    Returns:
      All trials, the best first; of equal ones, the one tried first.

    Raises:
      ConfigError: an empty axis, a value that is not above 0, a field that a CRF does not have, or no round.
    """
    fields = {field.name for field in dataclasses.fields(CRFConfig)} - {"iterations"}
    for name, values in grid.items():
        if name not in fields or not values or min(values) <= 0:
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
    """The most CRFs that `search` tries: from the second round on, an axis has three values or one."""
    sizes = [len(set(values)) for values in grid.values()]
    return math.prod(sizes) + (rounds - 1) * (math.prod(3 if size > 1 else 1 for size in sizes) - 1)


def _ranked(known: Mapping[CRFConfig, Tried]) -> list[Tried]:
    # A mean IoU of nothing is nan, which no order knows.
    return sorted(known.values(), key=lambda trial: -np.nan_to_num(trial.miou, nan=-1.0))


def _finer(values: Sequence[float], best: float) -> list[float]:
    """The best value of an axis and the middles to its neighbors, in rising order."""
    if len(values) == 1:
        return list(values)
    place = values.index(best)
    below = best - values[place - 1] if place else values[1] - best
    above = values[place + 1] - best if place + 1 < len(values) else best - values[-2]
    return [max(best - below / 2, best / 2), best, best + above / 2]
