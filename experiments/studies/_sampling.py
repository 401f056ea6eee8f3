"""Where the taps of deformable convolutions read, and in which objects that is."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

_TAPS = 3

Reader = Callable[[Mapping[str, Any], jax.Array], jax.Array]


class Layer(NamedTuple):
    """Describes a deformable 3x3 convolution.

    Attributes:
      name: Name of the block that holds it.
      stride: Pixels of the image from one of its outputs to the next.
      dilation: Distance of its taps without offsets, in pixels of its map.
    """

    name: str
    stride: int
    dilation: int


class Sizes(NamedTuple):
    """Holds the connected parts of a mask.

    Attributes:
      parts: Number of the part that each pixel lies in, int32 [H, W]; 0 where nothing counts.
      areas: Pixels of each part, int64 [parts + 1].
      background: Whether each part is background, bool [parts + 1].
    """

    parts: np.ndarray
    areas: np.ndarray
    background: np.ndarray


def make_reader(net: nn.Module, layer: Layer) -> Reader:
    """Returns a function from variables and images [B, H, W, 3] to the offsets of a layer [B, H', W', 18]."""

    @jax.jit
    def read(variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        def is_offset(module: nn.Module, method: str) -> bool:
            return method == "__call__" and module.name == "offset"

        _, state = net.apply(dict(variables), images, capture_intermediates=is_offset, mutable=["intermediates"])
        found: dict[Any, Any] = flatten_dict(dict(state["intermediates"]))
        (values,) = (
            value for path, value in found.items() if layer.name in path and path[-2:] == ("offset", "__call__")
        )
        return values[0]

    return read


def points_of(offsets: np.ndarray, layer: Layer) -> np.ndarray:
    """Returns where the taps read, (row, column) in pixels of the image.

    Args:
      offsets: Offsets [H', W', 18], in the order of `cvjax.nn.DeformConv`; zeros give the plain grid.
      layer: Layer that they come from.

    Returns:
      float64 [H', W', 3, 3, 2].
    """
    height, width = offsets.shape[:2]
    taps = layer.dilation * (np.arange(_TAPS) - _TAPS // 2)
    rows = np.arange(height)[:, None, None, None] + taps[:, None]
    columns = np.arange(width)[:, None, None] + taps
    grid = np.stack(np.broadcast_arrays(rows, columns), axis=-1)
    return layer.stride * (grid + offsets.reshape(height, width, _TAPS, _TAPS, 2))


def distances_of(points: np.ndarray) -> np.ndarray:
    """Returns the mean distance of neighboring taps [...] of points [..., 3, 3, 2]: the effective dilation."""
    down = np.linalg.norm(np.diff(points, axis=-3), axis=-1).mean(axis=(-2, -1))
    across = np.linalg.norm(np.diff(points, axis=-2), axis=-1).mean(axis=(-2, -1))
    return (down + across) / 2


def inside_of(points: np.ndarray, parts: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Returns the share of taps [...] of points [..., 3, 3, 2] that read in the part `own` [...] of `parts` [H, W]."""
    places = np.floor(points + 0.5).astype(np.int64)
    beyond = ((places < 0) | (places >= parts.shape)).any(-1)
    rows, columns = (places[..., axis].clip(0, parts.shape[axis] - 1) for axis in (0, 1))
    return ((parts[rows, columns] == own[..., None, None]) & ~beyond).mean(axis=(-2, -1))


def parts_of(mask: np.ndarray, void: int, background: int | None) -> Sizes:
    """Returns the connected parts of the classes in a mask [H, W], void pixels left out."""
    parts, areas, flags = np.zeros(mask.shape, np.int32), [0], [False]
    for label in np.setdiff1d(np.unique(mask), [void]):
        count, found = cv2.connectedComponents((mask == label).astype(np.uint8), connectivity=8)
        parts[found > 0] = found[found > 0] + len(areas) - 1
        areas += np.bincount(found.ravel(), minlength=count)[1:].tolist()
        flags += [label == background] * (count - 1)
    return Sizes(parts, np.array(areas), np.array(flags))
