"""YOLO's grid (Redmon et al., 1506.02640, section 2): how boxes are written in it, what each cell learns, its loss.

The cell that an object's center lies in answers for it. A cell writes a box as (x, y, r, s): where the center lies in
the cell, 0 to 1, and the square roots of width and height as fractions of the grid's reference size, so that a small
deviation counts more in a small box. All functions are for one image; `jax.vmap` makes them for a batch.
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
    """Square cells over an image, from its upper left corner.

    Attributes:
      rows, columns: numbers of cells.
      cell: side of a cell, in pixels.
      height, width: of a box whose roots are 1, in pixels; the image's, in the paper.
    """

    rows: int
    columns: int
    cell: int
    height: int
    width: int


class Predictions(NamedTuple):
    """What the net says of R rows and C columns of cells, with B boxes each.

    Attributes:
      boxes: [R, C, B, 4], see above.
      confidence: [R, C, B], of an object times its overlap with the box.
      classes: [R, C, K], probabilities of classes if there is an object.
    """

    boxes: jax.Array
    confidence: jax.Array
    classes: jax.Array


class Targets(NamedTuple):
    """What each cell is to learn.

    Attributes:
      boxes: float32 [R, C, 4], see above; zeros without an object.
      labels: int32 [R, C]; 0 without an object.
      occupied: bool [R, C], whether the center of an object lies here.
      ignored: bool [R, C], cells without, in which the center of an ignored one lies: they learn nothing.
    """

    boxes: jax.Array
    labels: jax.Array
    occupied: jax.Array
    ignored: jax.Array


def encode(truth: Truth, size: jax.Array, grid: Grid) -> Targets:
    """Objects of one image as what the cells learn.

    A cell learns one object, the first in the order given; darknet shuffles them, and so does the model. Objects
    without area and those with the center outside of the image do not exist.

    Args:
      truth: without the batch axis: boxes [N, 4] and the others [N].
      size: [2], height and width of the image's real part, in pixels; no more than the grid covers.
      grid: the cells.
    """
    chex.assert_shape(truth.boxes, (None, 4))
    # One more row stands for "none", so that every cell has a row to read.
    boxes = jnp.pad(truth.boxes.astype(jnp.float32), ((0, 1), (0, 0)))
    labels = jnp.pad(truth.labels.astype(jnp.int32), (0, 1))
    none = truth.boxes.shape[0]
    x, y, width, height = jnp.moveaxis(box_ops.convert(boxes[:none], "xyxy", "cxcywh"), -1, 0)
    filled = (width > 0) & (height > 0) & jnp.isfinite(width + height)
    exists = truth.valid & filled & (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    # Conversion of what is not finite or far away is undefined, so it is taken out before.
    column, row = (jnp.where(exists, center, 0) // grid.cell for center in (x, y))
    place = (row * grid.columns + column).astype(jnp.int32)

    def first(wanted: jax.Array) -> jax.Array:
        """[R * C], the first of the wanted objects in each cell, or `none`."""
        rank = jnp.where(exists & wanted, jnp.arange(none), none).astype(jnp.int32)
        return jnp.full(grid.rows * grid.columns, none, jnp.int32).at[place].min(rank, mode="drop")

    shape = grid.rows, grid.columns
    chosen = first(~truth.ignore).reshape(shape)
    occupied, ignored = chosen < none, first(truth.ignore).reshape(shape) < none
    x, y, width, height = jnp.moveaxis(box_ops.convert(boxes[chosen], "xyxy", "cxcywh"), -1, 0)
    coded = (
        x / grid.cell - jnp.arange(grid.columns),
        y / grid.cell - jnp.arange(grid.rows)[:, None],
        jnp.sqrt(width / grid.width),
        jnp.sqrt(height / grid.height),
    )
    coded = jnp.where(occupied[..., None], jnp.stack(coded, axis=-1), 0)
    return Targets(coded, labels[chosen], occupied, ignored & ~occupied)


def decode(coded: jax.Array, grid: Grid) -> jax.Array:
    """Boxes as cells write them, [R, C, B, 4], as (x1, y1, x2, y2) in pixels, [R, C, B, 4]."""
    return box_ops.convert(_centered(coded, grid), "cxcywh", "xyxy")


def losses(
    predictions: Predictions, targets: Targets, grid: Grid, coord_weight: float = 5.0, no_object_weight: float = 0.5
) -> dict[str, jax.Array]:
    """The sums of squares that YOLO minimizes (equation 3), of one image.

    In a cell with an object one of its boxes is responsible: the one that overlaps the object most or, if none does,
    the one that deviates least from it (darknet's rule; the paper is silent). It learns place, size and, as confidence,
    its IoU with the object as it is now; the cell learns the class. All other boxes learn a confidence of 0. Darknet's
    gradients are half of these, as it leaves out the 2 of the squares.

    Args:
      predictions: of the net, float32.
      targets: of `encode`.
      grid: the cells.
      coord_weight, no_object_weight: the paper's two lambdas.

    Returns:
      `coordinates`, `sizes`, `objectness`, `no_object` and `classes`, float32 [], weighed.
    """
    occupied = targets.occupied[..., None]
    wanted = targets.boxes[:, :, None]
    overlap, deviation = _compare(lax.stop_gradient(predictions.boxes), wanted, grid)
    fitness = jnp.where(jnp.any(overlap > 0, axis=-1, keepdims=True), overlap, -deviation)
    responsible = occupied & (jnp.argmax(fitness, axis=-1)[..., None] == jnp.arange(fitness.shape[-1]))
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
    """(center x, center y, width, height) in pixels, [R, C, B, 4]."""
    columns = jnp.arange(grid.columns)[:, None]
    rows = jnp.arange(grid.rows)[:, None, None]
    x, y, r, s = jnp.moveaxis(coded, -1, 0)
    centered = (
        (x + columns) * grid.cell,
        (y + rows) * grid.cell,
        jnp.square(r) * grid.width,
        jnp.square(s) * grid.height,
    )
    return jnp.stack(centered, axis=-1)


def _compare(coded: jax.Array, wanted: jax.Array, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """IoU of boxes [R, C, B, 4] with those of their cells [R, C, 1, 4], and their squared distance; both [R, C, B]."""
    ours, theirs = _centered(coded, grid), _centered(wanted, grid)
    unit = jnp.asarray([grid.width, grid.height, grid.width, grid.height], jnp.float32)
    overlap = box_ops.iou(*(box_ops.convert(boxes, "cxcywh", "xyxy") for boxes in (ours, theirs)))
    return overlap, jnp.sum(jnp.square((ours - theirs) / unit), axis=-1)
