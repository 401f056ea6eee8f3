"""Suppresses boxes that overlap better ones, with static shapes: exact greedy suppression, and Soft-NMS.

Greedy suppression looks sequential, one box after another. But once boxes are sorted by score, a tile of boxes depends
only on itself and on the boxes that earlier tiles kept. Within a tile the greedy answer is the one fixed point of the
rule "kept, unless a kept box before it overlaps", which a few sweeps find. So all work is on whole tiles, nothing is
compared with a box that was removed, and the work ends once as many boxes are kept as are asked for.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int32, Integer, Real

from cvjax.ops.detection.boxes import iou, pairwise_iou
from cvjax.shapes import Array

_TILE = 256


class Kept(NamedTuple):
    """Holds the boxes that suppression leaves, best first, in arrays of a fixed length.

    Attributes:
      indices: int32 [K], places in the input; zero in the rows that are padding.
      scores: [K], scores of the boxes (decayed ones from `soft_nms`); zero in the padding.
      valid: bool [K], False in the padding, which fills the end.
    """

    indices: Int32[jax.Array, " kept"]
    scores: Float[jax.Array, " kept"]
    valid: Bool[jax.Array, " kept"]


class _Settled(NamedTuple):
    """Holds what greedy suppression has decided: the place of the next tile, and the boxes kept so far, padded."""

    start: jax.Array
    found: jax.Array
    boxes: jax.Array
    classes: jax.Array
    places: jax.Array


def nms(
    boxes: Real[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    iou_threshold: float,
    max_output: int,
    classes: Integer[Array, " n"] | None = None,
    score_threshold: float = -jnp.inf,
) -> Kept:
    """Suppresses boxes greedily and exactly: the best box first, each removes those that overlap it too much.

    Boxes of one score stay in the order of the input. Use `jax.vmap` for a batch of images.

    Args:
      boxes: Boxes [N, 4], see `cvjax.ops.detection.boxes`.
      scores: Scores [N]. Mark padding with -inf; NaN counts as padding too.
      iou_threshold: A box is removed by a better one if their IoU is above this number, not if it is equal.
      max_output: Number K of rows of the result.
      classes: int [N]; boxes remove only others of their class. None means that all are of one class.
      score_threshold: Only boxes with a score above this number take part.

    Returns:
      The kept boxes. No gradients flow to the boxes; gradients to the scores are those of the kept ones.

    Raises:
      AssertionError: Shapes do not fit together.
      ValueError: `max_output` is below 1.
    """
    classes = _checked("nms", boxes, scores, classes, max_output)
    count = scores.shape[0]
    if count == 0:
        return _nothing(scores, max_output)
    size = min(_TILE, count)
    padding = (0, -count % size)
    # Boxes that take no part come last, so that the first of them ends the work.
    ranked = jnp.where(scores > score_threshold, scores, -jnp.inf)
    order = jnp.argsort(ranked, stable=True, descending=True)
    alive = jnp.pad(ranked[order] > -jnp.inf, padding)
    ordered = lax.stop_gradient(jnp.pad(boxes[order], (padding, (0, 0))))
    kinds = jnp.pad(classes[order], padding)
    end = alive.size
    room = size * (-(-max_output // size) + 1)  # the last tile may keep more than there is room for in the result
    earlier = jnp.arange(size)[:, None] < jnp.arange(size)[None]

    def settle(state: _Settled) -> _Settled:
        """Removes from the next tile what kept boxes overlap, decides it, and appends what it keeps."""
        tile, kind, left = (lax.dynamic_slice_in_dim(x, state.start, size) for x in (ordered, kinds, alive))

        def removed_by(block: jax.Array, left: jax.Array) -> jax.Array:
            boxes, classes = (lax.dynamic_slice_in_dim(x, block * size, size) for x in (state.boxes, state.classes))
            removes = (pairwise_iou(boxes, tile) > iou_threshold) & (classes[:, None] == kind[None])
            there = block * size + jnp.arange(size) < state.found
            return left & ~jnp.any(removes & there[:, None], axis=0)

        left = lax.fori_loop(0, (state.found + size - 1) // size, removed_by, left)
        removes = (pairwise_iou(tile, tile) > iou_threshold) & (kind[:, None] == kind[None]) & earlier
        kept = _fixed_point(left, removes)
        rows = jnp.where(kept, state.found + jnp.cumsum(kept) - 1, room)
        return _Settled(
            state.start + size,
            state.found + kept.sum(),
            state.boxes.at[rows].set(tile, mode="drop"),
            state.classes.at[rows].set(kind, mode="drop"),
            state.places.at[rows].set(state.start + jnp.arange(size), mode="drop"),
        )

    def goes_on(state: _Settled) -> jax.Array:
        return (state.found < max_output) & (state.start < end) & alive[jnp.minimum(state.start, end - 1)]

    zero = jnp.zeros((), jnp.int32)
    empty = jnp.zeros((room, 4), ordered.dtype), jnp.zeros(room, kinds.dtype), jnp.zeros(room, jnp.int32)
    settled = lax.while_loop(goes_on, settle, _Settled(zero, zero, *empty))
    valid = jnp.arange(max_output) < settled.found
    indices = jnp.where(valid, order[settled.places[:max_output]], 0).astype(jnp.int32)
    return Kept(indices, jnp.where(valid, scores[indices], 0), valid)


def soft_nms(
    boxes: Real[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    max_output: int,
    method: str = "gaussian",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    classes: Integer[Array, " n"] | None = None,
    score_threshold: float = 0.001,
) -> Kept:
    """Applies Soft-NMS (Bodla et al., 1704.04503): overlapping boxes lose score instead of being removed.

    The best box is taken, and the scores of the others are multiplied by a factor that falls with their IoU with it.
    This is repeated `max_output` times. Boxes of one score are taken in the order of the input. Use `jax.vmap` for a
    batch of images.

    Args:
      boxes: Boxes [N, 4], see `cvjax.ops.detection.boxes`.
      scores: Scores [N], not negative. Mark padding with -inf; NaN counts as padding too.
      max_output: Number K of rows of the result.
      method: "gaussian", a factor of exp(-iou**2 / sigma), or "linear", a factor of 1 - iou where the IoU is above
        `iou_threshold`.
      iou_threshold: Threshold of the linear method.
      sigma: Width of the Gaussian method.
      classes: int [N]; only boxes of one class lower each other's score. None means that all are of one class.
      score_threshold: A box whose score has fallen to this number or below is dropped.

    Returns:
      The kept boxes, with the scores that they had when they were taken.

    Raises:
      AssertionError: Shapes do not fit together.
      ValueError: The method is unknown, or `max_output` is below 1.
    """
    classes = _checked("soft_nms", boxes, scores, classes, max_output)
    if method not in ("linear", "gaussian"):
        raise ValueError(f"soft_nms knows the methods 'linear' and 'gaussian', not {method!r}")
    if scores.shape[0] == 0:
        return _nothing(scores, max_output)
    boxes = lax.stop_gradient(jnp.asarray(boxes))

    def take_best(left: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        best = jnp.argmax(left)
        overlap = iou(boxes[best][None], boxes)
        if method == "linear":
            factor = jnp.where(overlap > iou_threshold, 1 - overlap, 1)
        else:
            factor = jnp.exp(-jnp.square(overlap) / sigma)
        factor = jnp.where(classes == classes[best], factor, 1).astype(left.dtype)
        return (left * factor).at[best].set(0), (best, left[best])

    # A score of zero marks boxes that are out, since it stays zero under every factor.
    floor = max(score_threshold, 0.0)
    left = jnp.where(scores > floor, scores, 0)
    _, (indices, taken) = lax.scan(take_best, left, length=max_output)
    valid = taken > floor
    return Kept(jnp.where(valid, indices, 0).astype(jnp.int32), jnp.where(valid, taken, 0), valid)


def _checked(name: str, boxes: jax.Array, scores: jax.Array, classes: jax.Array | None, max_output: int) -> jax.Array:
    """Makes the checks that both functions share, and returns the classes, all zero if None were given."""
    chex.assert_rank(scores, 1)
    chex.assert_shape(boxes, (*scores.shape, 4))
    if max_output < 1:
        raise ValueError(f"{name}: max_output must be at least 1, got {max_output}")
    if classes is None:
        return jnp.zeros(scores.shape, jnp.int32)
    chex.assert_equal_shape((scores, classes))
    return classes


def _nothing(scores: jax.Array, max_output: int) -> Kept:
    empty = jnp.zeros(max_output, jnp.int32)
    return Kept(empty, empty.astype(scores.dtype), empty > 0)


def _fixed_point(alive: jax.Array, removes: jax.Array) -> jax.Array:
    """Returns the greedy choice within a tile, bool [T].

    After n sweeps the first n boxes are settled, so the loop ends with the exact answer. In practice it ends after a
    few sweeps.

    Args:
      alive: bool [T], boxes that no earlier tile removed.
      removes: bool [T, T], whether a row's box would remove a column's; True only above the diagonal.
    """

    def sweep(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = state
        return alive & ~jnp.any(removes & kept[:, None], axis=0), kept

    # The loop starts from two arrays that differ, so that it makes at least one sweep.
    return lax.while_loop(lambda state: jnp.any(state[0] != state[1]), sweep, (alive, ~alive))[0]
