"""YOLO's grid (Redmon et al., 1506.02640, section 2): the form of boxes, the targets of each cell, and the loss.

The cell in which the center of an object lies is responsible for it. A cell writes a box as (x, y, r, s). Here (x, y)
is the place of the center in the cell, 0 to 1. The numbers r and s are the square roots of width and height as
fractions of the grid's reference size, so that a small deviation counts more in a small box. All functions are for one
image; `jax.vmap` makes them for a batch.
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from cvjax.models.detection.detector import Truth
from cvjax.ops.detection import boxes as box_ops


@dataclasses.dataclass(frozen=True)
class Grid:
    """Describes square cells over an image, from its upper left corner.

    Attributes:
      rows, columns: Numbers of cells.
      cell: Side of a cell in pixels.
      height, width: Size in pixels of a box whose roots are 1; in the paper it is the image's size.
    """

    rows: int
    columns: int
    cell: int
    height: int
    width: int


class Predictions(NamedTuple):
    """Holds the net's predictions for R rows and C columns of cells, with B boxes each.

    Attributes:
      boxes: Boxes as cells write them, [R, C, B, 4].
      confidence: Confidence [R, C, B]: the probability of an object times its overlap with the box.
      classes: Probabilities of the K classes if there is an object, [R, C, K].
    """

    boxes: jax.Array
    confidence: jax.Array
    classes: jax.Array


class Targets(NamedTuple):
    """Holds the targets of each cell.

    Attributes:
      boxes: Boxes as cells write them, float32 [R, C, 4]; zeros without an object.
      labels: Labels, int32 [R, C]; 0 without an object.
      occupied: Whether the center of an object lies in the cell, bool [R, C].
      ignored: Whether a cell without an object has the center of an ignored one, bool [R, C]. Such cells learn nothing.
    """

    boxes: jax.Array
    labels: jax.Array
    occupied: jax.Array
    ignored: jax.Array


def encode(truth: Truth, size: jax.Array, grid: Grid) -> Targets:
    """Turns the objects of one image into the targets of the cells.

    A cell learns one object, the first in the order given. Darknet shuffles the objects, and so does the model. Objects
    without area, and objects with the center outside of the image, are left out.

    Args:
      truth: Objects without the batch axis: boxes [N, 4] and the others [N].
      size: Height and width in pixels of the image's real part, [2]; no more than the grid covers.
      grid: Cells.
    """
    chex.assert_shape(truth.boxes, (None, 4))
    # One more row stands for "none", so that every cell has a row to read.
    boxes = jnp.pad(truth.boxes.astype(jnp.float32), ((0, 1), (0, 0)))
    labels = jnp.pad(truth.labels.astype(jnp.int32), (0, 1))
    none = truth.boxes.shape[0]
    x, y, width, height = jnp.moveaxis(box_ops.convert(boxes[:none], "xyxy", "cxcywh"), -1, 0)
    bottom, right = size[0].astype(jnp.float32), size[1].astype(jnp.float32)
    filled = (width > 0) & (height > 0) & jnp.isfinite(width + height)
    exists = truth.valid & filled & (x >= 0) & (x < right) & (y >= 0) & (y < bottom)
    # Conversion of what is not finite or far away is undefined, so it is taken out before.
    column, row = (jnp.where(exists, center, 0) // grid.cell for center in (x, y))
    place = (row * grid.columns + column).astype(jnp.int32)

    def first(wanted: jax.Array) -> jax.Array:
        """Returns the first of the wanted objects in each cell, [R * C], or `none`."""
        rank = jnp.where(exists & wanted, jnp.arange(none), none).astype(jnp.int32)
        return jnp.full(grid.rows * grid.columns, none, jnp.int32).at[place].min(rank, mode="drop")

    shape = grid.rows, grid.columns
    chosen = first(~truth.ignore).reshape(shape)
    occupied, ignored = chosen < none, first(truth.ignore).reshape(shape) < none
    x, y, width, height = jnp.moveaxis(box_ops.convert(boxes[chosen], "xyxy", "cxcywh"), -1, 0)
    coded = (
        x / grid.cell - jnp.arange(grid.columns).astype(jnp.float32)[None],
        y / grid.cell - jnp.arange(grid.rows).astype(jnp.float32)[:, None],
        jnp.sqrt(width / grid.width),
        jnp.sqrt(height / grid.height),
    )
    coded = jnp.where(occupied[..., None], jnp.stack(coded, axis=-1), 0)
    return Targets(coded, labels[chosen], occupied, ignored & ~occupied)


def decode(coded: jax.Array, grid: Grid) -> jax.Array:
    """Turns boxes as cells write them, [R, C, B, 4], into (x1, y1, x2, y2) in pixels, [R, C, B, 4]."""
    return box_ops.convert(_centered(coded, grid), "cxcywh", "xyxy")


def losses(
    predictions: Predictions, targets: Targets, grid: Grid, coord_weight: float = 5.0, no_object_weight: float = 0.5
) -> dict[str, jax.Array]:
    """Computes the sums of squares that YOLO minimizes (equation 3), for one image.

    In a cell with an object, one of its boxes is responsible for it. This is the box that overlaps the object most. If
    none overlaps it, it is the box that deviates least from it (darknet's rule; the paper says nothing). The
    responsible box learns place and size. As confidence it learns the IoU that it has with the object now. The cell
    learns the class. All other boxes learn a confidence of 0. Darknet's gradients are half of these, as it leaves out
    the 2 of the squares.

    Args:
      predictions: Predictions of the net, float32.
      targets: Targets from `encode`.
      grid: Cells.
      coord_weight, no_object_weight: The paper's two lambdas.

    Returns:
      Weighed losses `coordinates`, `sizes`, `objectness`, `no_object` and `classes`, float32 [].
    """
    occupied = targets.occupied[..., None]
    wanted = targets.boxes[:, :, None]
    overlap, deviation = _compare(lax.stop_gradient(predictions.boxes), wanted, grid)
    fitness = jnp.where(jnp.any(overlap > 0, axis=-1, keepdims=True), overlap, -deviation)
    responsible = occupied & (jnp.argmax(fitness, axis=-1)[..., None] == jnp.arange(fitness.shape[-1])[None, None])
    background = ~responsible & ~targets.ignored[..., None]

    deviations = jnp.square(predictions.boxes - wanted)
    one_hot = jax.nn.one_hot(targets.labels, predictions.classes.shape[-1])
    squares = {
        "coordinates": (coord_weight, responsible, deviations[..., :2].sum(-1)),
        "sizes": (coord_weight, responsible, deviations[..., 2:].sum(-1)),
        "objectness": (1.0, responsible, jnp.square(predictions.confidence - overlap)),
        "no_object": (no_object_weight, background, jnp.square(predictions.confidence)),
        "classes": (1.0, occupied, jnp.square(predictions.classes - one_hot)),
    }
    return {name: weight * jnp.sum(jnp.where(where, square, 0)) for name, (weight, where, square) in squares.items()}


def _centered(coded: jax.Array, grid: Grid) -> jax.Array:
    """Turns boxes as cells write them into (center x, center y, width, height) in pixels, [R, C, B, 4]."""
    columns = jnp.arange(grid.columns).astype(jnp.float32)[None, :, None]
    rows = jnp.arange(grid.rows).astype(jnp.float32)[:, None, None]
    x, y, r, s = jnp.moveaxis(coded, -1, 0)
    centered = (
        (x + columns) * grid.cell,
        (y + rows) * grid.cell,
        jnp.square(r) * grid.width,
        jnp.square(s) * grid.height,
    )
    return jnp.stack(centered, axis=-1)


def _compare(coded: jax.Array, wanted: jax.Array, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """Compares boxes [R, C, B, 4] with those of their cells [R, C, 1, 4]: IoU and squared distance, both [R, C, B]."""
    ours, theirs = _centered(coded, grid), _centered(wanted, grid)
    unit = jnp.asarray([grid.width, grid.height, grid.width, grid.height], jnp.float32)
    overlap = box_ops.iou(*(box_ops.convert(boxes, "cxcywh", "xyxy") for boxes in (ours, theirs)))
    return overlap, jnp.sum(jnp.square((ours - theirs) / unit[None, None, None]), axis=-1)
