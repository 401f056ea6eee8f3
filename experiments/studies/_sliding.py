"""A classifier that slides over images of any size, against the same classifier on all crops."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cvjax.engine.short_run import ShortRun
from cvjax.inspection import inspect_model
from cvjax.models.blocks.dense_head import DenseHead
from cvjax.nn import TorchConv, he_normal, max_pool
from experiments.studies._inputs import scored_inputs
from experiments.studies._pictures import picture_text

_WINDOW, _STRIDE = 32, 4


class SlidingNet(nn.Module):
    """Classifies windows of 32 pixels at distances of 4, by three convolutions and dense layers that slide.

    Attributes:
      num_classes: Number of classes.
      width: Channels of the first convolutions.
      padded: Whether convolutions pad with zeros.
    """

    num_classes: int
    width: int
    padded: bool

    @nn.compact
    def scores(self, images: jax.Array) -> jax.Array:
        """Returns scores [B, H', W', num_classes] of images [B, H, W, 3]."""
        conv = partial(TorchConv, kernel_size=3, padding=None if self.padded else "VALID")
        x = nn.relu(conv(self.width)(images))
        x = max_pool(nn.relu(conv(self.width)(x)), 2, 2)
        x = max_pool(nn.relu(conv(2 * self.width)(x)), 2, 2)
        window = 8 if self.padded else 6
        return DenseHead(self.num_classes, window, hidden=64, dropout=0.0, kernel_init=he_normal("fan_in"))(x)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns the scores of the first window, all that an image of 32 pixels has, [B, num_classes]."""
        return self.scores(images)[:, 0, 0]


def slide(run: ShortRun, seed: int, sides: Sequence[int], repeats: int) -> dict[str, Any]:
    """Trains a classifier, and returns how its maps compare with its scores of all crops, a figure a mosaic."""
    variables = run.train(seed).variables
    batches = [(images[batch["valid"]], batch["image"][batch["valid"]]) for images, batch in scored_inputs(run)]
    images, photos = (np.concatenate(part) for part in zip(*batches))
    found: dict[str, list[float]] = {"windows": [], "difference": [], "agree": [], "time_ratio": [], "macs_ratio": []}
    model: Any = run.model
    scores = jax.jit(lambda images: model.apply(variables, images, method="scores"))
    one = inspect_model(model, image_size=_WINDOW).macs
    picture, decided = "", []
    for side in sides:
        large = mosaic(images, side)[None]
        windows = np.lib.stride_tricks.sliding_window_view(large[0], (_WINDOW, _WINDOW), axis=(0, 1))
        grid = windows[::_STRIDE, ::_STRIDE].transpose(0, 1, 3, 4, 2)
        crops = jax.device_put(np.ascontiguousarray(grid.reshape(-1, _WINDOW, _WINDOW, 3)))
        wholes = jax.device_put(large)
        whole, apart = np.asarray(scores(wholes))[0], np.asarray(scores(crops))[:, 0, 0].reshape(*grid.shape[:2], -1)
        difference = np.abs(whole - apart)
        timed = [(seconds(partial(scores, wholes)), seconds(partial(scores, crops))) for _ in range(repeats)]
        found["windows"].append(len(crops))
        found["difference"].append(float(difference.max() / apart.std()))
        found["agree"].append(float((whole.argmax(-1) == apart.argmax(-1)).mean()))
        found["time_ratio"].append(statistics.median(second / first for first, second in timed))
        found["macs_ratio"].append(len(crops) * one / inspect_model(model, image_size=large.shape[1]).macs)
        if seed == 0 and side == sorted(sides)[len(sides) // 2]:
            picture, decided = picture_text(mosaic(photos, side)), whole.argmax(-1).tolist()
    return {"top1": run.score(variables)["top1"], **found, "picture": picture, "decided": decided}


def mosaic(images: np.ndarray, side: int) -> np.ndarray:
    """Returns images [side * H, side * W, 3] side by side, spread evenly over all."""
    spread = np.linspace(0, len(images) - 1, side**2).round().astype(int)
    rows = images[spread].reshape(side, side, *images.shape[1:])
    return rows.transpose(0, 2, 1, 3, 4).reshape(side * images.shape[1], side * images.shape[2], 3)


def seconds(work: Callable[[], Any]) -> float:
    """Returns the seconds of some work, which has run before."""
    begun = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begun
