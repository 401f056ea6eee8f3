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
_TILES = 2
"""Number of tiles along each side of the images that are segmented."""


def tile(run: ShortRun, seed: int, side: int) -> dict[str, Any]:
    """Trains a net without padding, and returns how it segments in tiles of a side in pixels.

    The images are cut from larger ones, so the net can be shown their real surroundings too: this is what all ways are
    compared with.

    Returns:
      By way: the root mean square difference of the logits, in their deviation, in bands of distance from the border;
      the share of pixels with the same decision; the accuracy of pixels. And the largest difference between overlapping
      tiles and the whole image, both mirrored.
    """
    variables, task, net = run.train(seed).variables, run.scoring, run.model
    assert isinstance(task, Segmentation)
    images, masks = middles(run, task, net, _TILES * side)
    found = {way: np.asarray(values) for way, values in ways_of(net, side)(variables, images).items()}
    real, bands, counted = found["real"], bands_of(_TILES * side), masks != task.ignore
    deviation = real.std(axis=(0, 1, 2)).mean()
    accuracy = float((real.argmax(-1) == masks)[counted].mean())
    result: dict[str, Any] = {"images": len(masks), "right_real": accuracy, "deviation": float(deviation)}
    for way in WAYS:
        squares = ((found[way] - real) ** 2).mean(axis=(0, -1))
        result[way] = [float(squares[bands == number].mean() ** 0.5 / deviation) for number in range(len(DISTANCES))]
        result[f"same_{way}"] = float((found[way].argmax(-1) == real.argmax(-1)).mean())
        result[f"right_{way}"] = float((found[way].argmax(-1) == masks)[counted].mean())
    return result | {"difference": float(np.abs(found["whole"] - found["mirror"]).max() / deviation)}


def ways_of(net: Any, side: int) -> Callable[[Mapping[str, Any], jax.Array], dict[str, jax.Array]]:
    """Returns a function from variables, and images with their surroundings, to the logits of the images.

    The images are [B, H, W, 3]. `real` of the result sees them as they are; `whole` and `WAYS` see their middle.
    """

    def ways(variables: Mapping[str, Any], images: jax.Array) -> dict[str, jax.Array]:
        logits, around = partial(net.apply, variables), net.margin
        inner = images[:, around:-around, around:-around]
        batch, height, width, _ = inner.shape
        cut = inner.reshape(batch, height // side, side, width // side, side, -1).swapaxes(2, 3)
        apart = overlap_tile_logits(logits, cut.reshape(-1, side, side, inner.shape[-1]), net)
        apart = apart.reshape(*cut.shape[:-1], -1).swapaxes(2, 3).reshape(batch, height, width, -1)
        return {
            "real": logits(images),
            "whole": overlap_tile_logits(logits, inner, net),
            "mirror": overlap_tile_logits(logits, inner, net, (side, side)),
            # In one piece with zeros around it, which is what overlapping tiles give.
            "zeros": logits(jnp.pad(inner, ((0, 0), (around, around), (around, around), (0, 0)))),
            "apart": apart,
        }

    return jax.jit(ways)


def middles(run: ShortRun, task: Segmentation, net: Any, side: int) -> tuple[jax.Array, np.ndarray]:
    """Returns the middles of the scored images with their surroundings, and their masks [B, side, side].

    The images are normalized, and larger than their masks by the net's margin on every side. Images that are smaller
    than that are left out.

    Raises:
      ConfigError: All of them are, or the side does not fit the net.
    """
    images, masks, full = [], [], side + 2 * net.margin
    if net.input_size((side, side)) != (full, full):
        raise ConfigError(f"tiles of {side // _TILES} pixels do not fit the net; give --tile a multiple of {net.step}")
    for batch in whole_split(task, run.eval_set)():
        for image, mask in zip(batch["image"][batch["valid"]], batch["mask"][batch["valid"]]):
            top, left = ((have - full) // 2 for have in mask.shape)
            if min(top, left) >= 0:
                images.append(image[top : top + full, left : left + full])
                inner = mask[top + net.margin :, left + net.margin :]
                masks.append(inner[:side, :side])
    if not images:
        raise ConfigError(f"no image has {full}x{full} pixels; lower --tile, or give other --masks")
    return task.normalize(jnp.asarray(np.stack(images))), np.stack(masks)


def bands_of(side: int) -> np.ndarray:
    """Returns the number of the band of `DISTANCES` from the border that each pixel lies in, [side, side]."""
    near = np.minimum(np.arange(side), np.arange(side)[::-1])
    return np.searchsorted(DISTANCES, np.minimum(near[:, None], near), side="right") - 1
