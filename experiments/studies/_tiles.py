"""A net without padding on whole images, on tiles that overlap, and on tiles that are cut apart."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.engine.evaluate import whole_split
from cvjax.engine.short_run import ShortRun
from cvjax.errors import ConfigError
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.tasks.segmentation.tiles import overlap_tile_logits

DISTANCES = (0, 4, 8, 12, 16, 24)
"""Distances from the image's border, in pixels, at which bands begin; the last one has no end."""
WAYS = {"mirror": "overlapping, mirrored border", "zeros": "overlapping, zeros around", "apart": "cut apart, mirrored"}


_TILES = 3
"""Number of tiles along each side of the images that are segmented."""


def tile(run: ShortRun, seed: int, side: int) -> dict[str, Any]:
    """Trains a net without padding, and returns how it segments in tiles of a side in pixels.

    Returns:
      The accuracy of pixels in bands of distance from the border by way, that of all pixels, and the largest difference
      between overlapping tiles and the whole image, in deviations of the logits.
    """
    variables, ways, task = run.train(seed).variables, ways_of(run.model, side), run.scoring
    assert isinstance(task, Segmentation)
    images, masks = middles(run, task, _TILES * side)
    found = {way: np.asarray(values) for way, values in ways(variables, images).items()}
    bands = np.broadcast_to(bands_of(_TILES * side), masks.shape)
    counted = masks != task.ignore
    result: dict[str, Any] = {}
    for way in WAYS:
        right = found[way].argmax(-1) == masks
        here = [counted & (bands == number) for number in range(len(DISTANCES))]
        result[way] = [float(right[band].mean()) for band in here]
        result[f"all_{way}"] = float(right[counted].mean())
    difference = np.abs(found["whole"] - found["mirror"]).max() / found["whole"].std()
    return result | {"difference": float(difference)}


def ways_of(net: Any, side: int) -> Callable[[Mapping[str, Any], jax.Array], dict[str, jax.Array]]:
    """Returns a function from variables and images [B, H, W, 3] to the logits of the whole and of each of `WAYS`."""

    def ways(variables: Mapping[str, Any], images: jax.Array) -> dict[str, jax.Array]:
        logits = partial(net.apply, variables)
        batch, height, width, _ = images.shape
        fit = net.input_size((height, width))
        sides = [(net.margin, full - net.margin - have) for full, have in zip(fit, (height, width))]
        # In one piece with zeros around it, which is what overlapping tiles give.
        zeros = logits(jnp.pad(images, ((0, 0), *sides, (0, 0))))[:, :height, :width]
        cut = images.reshape(batch, height // side, side, width // side, side, -1).swapaxes(2, 3)
        apart = overlap_tile_logits(logits, cut.reshape(-1, side, side, images.shape[-1]), net)
        apart = apart.reshape(*cut.shape[:-1], -1).swapaxes(2, 3).reshape(batch, height, width, -1)
        return {
            "whole": overlap_tile_logits(logits, images, net),
            "mirror": overlap_tile_logits(logits, images, net, (side, side)),
            "zeros": zeros,
            "apart": apart,
        }

    return jax.jit(ways)


def middles(run: ShortRun, task: Segmentation, side: int) -> tuple[jax.Array, np.ndarray]:
    """Returns the middles of the scored images, normalized [B, side, side, 3], and of their masks [B, side, side].

    Images that are smaller than that are left out.

    Raises:
      ConfigError: All of them are.
    """
    images, masks = [], []
    for batch in whole_split(task, run.eval_set)():
        for image, mask in zip(batch["image"][batch["valid"]], batch["mask"][batch["valid"]]):
            top, left = ((have - side) // 2 for have in mask.shape)
            if min(top, left) >= 0:
                images.append(image[top : top + side, left : left + side])
                masks.append(mask[top : top + side, left : left + side])
    if not images:
        raise ConfigError(f"no image has {side}x{side} pixels; lower --tile, or give other --masks")
    return task.normalize(jnp.asarray(np.stack(images))), np.stack(masks)


def bands_of(side: int) -> np.ndarray:
    """Returns the number of the band of `DISTANCES` from the border that each pixel lies in, [side, side]."""
    near = np.minimum(np.arange(side), np.arange(side)[::-1])
    return np.searchsorted(DISTANCES, np.minimum(near[:, None], near), side="right") - 1
