"""Makes anchors: the boxes that a region proposal network starts from (Faster R-CNN, 1506.01497).

Anchors depend on shapes alone, so NumPy computes them while a program is traced, and they are constants in the program.
Their order is that of a head's outputs [H, W, A] read row by row: y, x, then ratios, then sizes.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Real

from cvjax.shapes import Array

Pair = tuple[int, int]

RATIOS = (0.5, 1.0, 2.0)
"""Ratios of height to width: those of the papers and of torchvision."""
PYRAMID_SIZES = ((32,), (64,), (128,), (256,), (512,))
"""Sizes on each level of a feature pyramid (1612.03144), as in torchvision's `fasterrcnn_resnet50_fpn`."""
PAPER_SIZES = (128, 256, 512)
"""Sizes of Faster R-CNN's anchors on its one map, of a stride of 16."""


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float] = RATIOS) -> Float32[np.ndarray, "anchors 4"]:
    """Returns the anchors of one place of a map, centered on the origin, rounded as torchvision rounds.

    An anchor of size s and ratio r has the area s * s and is s * sqrt(r) high. Its corners are then rounded to whole
    pixels, halves to even.

    Args:
      sizes: Square roots of the areas, in pixels.
      ratios: Ratios of height to width.

    Returns:
      float32 [ratios * sizes, 4], see `cvjax.ops.detection.boxes`.

    Raises:
      ValueError: A size or ratio is not positive, or there are none.
    """
    sides, high = _checked(sizes, ratios)
    high = np.sqrt(high)  # in float32 all along, as the rounding can turn on the last bit
    widths, heights = (factor[:, None] * sides for factor in (1 / high, high))
    corners = np.stack([-widths, -heights, widths, heights], axis=-1).reshape(-1, 4) / np.float32(2)
    return np.round(corners)


def paper_cell_anchors(
    sizes: Sequence[float] = PAPER_SIZES, ratios: Sequence[float] = RATIOS, stride: int = 16, rounded: bool = True
) -> Float32[np.ndarray, "anchors 4"]:
    """Returns the anchors of one place of a map, as Faster R-CNN's own code has them.

    The sides of a square of the stride's size are brought to each ratio and rounded, then scaled up to the sizes. The
    anchors are centered on the middle of the place's stride x stride pixels. So a 1:2 anchor of size 128 is 184 x 96.

    Args:
      sizes, ratios: As for `cell_anchors`.
      stride: Stride of the map that the anchors are for, in pixels.
      rounded: Whether the sides of the square are rounded. False gives a 1:2 anchor of size 128 181 x 90.5 pixels.

    Returns:
      float32 [ratios * sizes, 4].

    Raises:
      ValueError: A size or ratio is not positive, or there are none.
    """
    sides, high = _checked(sizes, ratios)
    width = np.sqrt(stride * stride / high.astype(np.float64))
    if rounded:
        width = np.round(width)
    height = np.round(width * high) if rounded else width * high
    halves = np.stack([width, height], axis=-1)[:, None] * (sides[:, None].astype(np.float64) / stride) / 2
    return (stride / 2 + np.concatenate([-halves, halves], axis=-1)).reshape(-1, 4).astype(np.float32)


def map_anchors(
    cell: Real[np.ndarray, "anchors 4"], shape: Pair, stride: int | Pair
) -> Float32[np.ndarray, "places 4"]:
    """Repeats a place's anchors over a map.

    Args:
      cell: Anchors of the place in the upper left corner, [A, 4].
      shape: Height and width of the map.
      stride: Pixels of the image from one place to the next; one number, or (down, right).

    Returns:
      float32 [H * W * A, 4] in pixels of the image; those at the border reach beyond it.

    Raises:
      ValueError: A shape or stride is not positive.
    """
    down, right = (stride, stride) if isinstance(stride, int) else stride
    if min(*shape, down, right) < 1:
        raise ValueError(f"map_anchors needs a map and a stride of at least 1, not {shape} and {stride}")
    y, x = np.meshgrid(np.arange(shape[0]) * down, np.arange(shape[1]) * right, indexing="ij")
    places = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (places + np.asarray(cell)).reshape(-1, 4).astype(np.float32)


def pyramid_anchors(
    image_size: Pair,
    shapes: Sequence[Pair],
    sizes: Sequence[Sequence[float]] = PYRAMID_SIZES,
    ratios: Sequence[float] = RATIOS,
) -> list[Float32[np.ndarray, "_ 4"]]:
    """Returns the anchors of every level of a pyramid, as torchvision lays them out.

    A level's stride is the image's side divided by the map's, rounded down, along each axis. So it is not always a
    power of two on images whose sides the stride does not divide.

    Args:
      image_size: Height and width of the images that go into the net, with their padding.
      shapes: Height and width of each level's map, from fine to coarse.
      sizes: Sizes of the anchors of each level.
      ratios: Ratios of height to width, on all levels.

    Returns:
      float32 [H_l * W_l * A_l, 4] for each level; `np.concatenate` makes them one.

    Raises:
      ValueError: The numbers of maps and of rows of sizes differ, or a map is larger than the image.
    """
    if len(shapes) != len(sizes):
        raise ValueError(f"pyramid_anchors: {len(shapes)} maps need as many rows of sizes, not {len(sizes)}")
    levels = []
    for shape, level_sizes in zip(shapes, sizes):
        stride = image_size[0] // shape[0], image_size[1] // shape[1]
        levels.append(map_anchors(cell_anchors(level_sizes, ratios), shape, stride))
    return levels


def inside(
    anchors: Real[Array, "*rows 4"], size: tuple[jax.Array | int, jax.Array | int], margin: float = 0.0
) -> Bool[jax.Array, "..."]:
    """Tells which anchors do not reach beyond their image; the paper trains on those alone.

    Args:
      anchors: Anchors [..., 4].
      size: Height and width of the image without padding; numbers, or arrays that broadcast against [...].
      margin: Pixels that anchors may reach beyond the image.

    Returns:
      bool [...].
    """
    anchors = jnp.asarray(anchors)
    height, width = (jnp.asarray(side, anchors.dtype) for side in size)
    low = jnp.minimum(anchors[..., 0], anchors[..., 1]) >= -margin
    return low & (anchors[..., 2] <= width + margin) & (anchors[..., 3] <= height + margin)


def _checked(sizes: Sequence[float], ratios: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if not sizes or not ratios or min(*sizes, *ratios) <= 0:
        raise ValueError(f"anchors need positive sizes and ratios, not {tuple(sizes)} and {tuple(ratios)}")
    return np.asarray(sizes, np.float32), np.asarray(ratios, np.float32)
