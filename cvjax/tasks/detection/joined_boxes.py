"""Joins the boxes that a detector finds in tiles of an image, at several scales, or in its mirror image."""

from collections.abc import Sequence

import jax
import numpy as np

from cvjax.ops.detection.nms import nms
from cvjax.visual.boxes import Boxes

_INSIDE = 0.5
"""Share of a cut box that must lie in a whole one of its class, for it to be a part of the same object."""
_LEAST_ROWS = 256


def join_boxes(found: Sequence[Boxes], cut: Sequence[np.ndarray], iou: float) -> Boxes:
    """Joins boxes of several pieces of an image.

    A box that a tile's border may have cut is left out where a neighbor has the whole object: a box of its class that
    no border cut, and that holds at least half of it. A cut box stays if there is none, since part of an object is
    better than nothing. Of the rest, the better of two boxes of a class stays, where they overlap too much (NMS).

    Args:
      found: Boxes of each piece with scores, all in pixels of the image.
      cut: Which of them a border may have cut, bool [N] each.
      iou: IoU above which a better box of its class removes a box.

    Returns:
      The boxes that stay, best first.
    """
    scores = np.concatenate([boxes.scores for boxes in found if boxes.scores is not None])
    corners = np.concatenate([boxes.boxes for boxes in found])
    labels = np.concatenate([boxes.labels for boxes in found])
    was_cut = np.concatenate(cut)
    stays = np.ones(len(labels), bool)
    for label in np.unique(labels[was_cut]):
        parts, whole = (np.flatnonzero((labels == label) & kind) for kind in (was_cut, ~was_cut))
        if whole.size:
            stays[parts] = _share_inside(corners[parts], corners[whole]).max(axis=1) < _INSIDE
    corners, labels, scores = corners[stays], labels[stays], scores[stays]
    kept = _suppressed(corners, labels, scores, iou)
    return Boxes(corners[kept], labels[kept], scores[kept])


def _share_inside(parts: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns which share of each box's area lies in each other box, [N, M]."""
    low = np.maximum(parts[:, None, :2], whole[None, :, :2])
    high = np.minimum(parts[:, None, 2:], whole[None, :, 2:])
    area = np.prod(parts[:, 2:] - parts[:, :2], axis=1)
    return np.prod(np.maximum(high - low, 0), axis=2) / np.maximum(area, 1e-6)[:, None]


def _suppressed(corners: np.ndarray, labels: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Returns the places of the boxes that stay, best first."""
    # Few lengths, so that few programs are compiled.
    rows = _LEAST_ROWS
    while rows < len(labels):
        rows *= 2
    empty = rows - len(labels)
    kept = _nms(
        np.pad(corners.astype(np.float32), ((0, empty), (0, 0))),
        np.pad(scores.astype(np.float32), (0, empty), constant_values=-np.inf),
        classes=np.pad(labels.astype(np.int32), (0, empty)),
        iou_threshold=iou,
        max_output=rows,
    )
    return np.asarray(kept.indices)[np.asarray(kept.valid)]


_nms = jax.jit(nms, static_argnames=("max_output",))
