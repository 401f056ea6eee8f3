"""Detections and objects of many images as flat tables, and the overlaps between the two.

Padded arrays of a batch lose their padding here; tables of batches are joined end to end. All boxes are those of
`cvjax.ops.detection.boxes`, half-open; the devkits' inclusive pixels overlap by the same shares.
"""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

Rows = Mapping[str, np.ndarray]
Table = TypeVar("Table", bound="Detections | Truth")

_DETECTIONS, _TRUTH = "detection", "truth"
_DTYPES = {
    "boxes": np.float64,
    "label": np.int64,
    "score": np.float64,
    "difficult": bool,
    "crowd": bool,
    "area": np.float64,
}
_PAIRS = 1 << 20
"""Pairs of a detection and an object that are compared at a time: some 100 MB."""


@dataclasses.dataclass(frozen=True)
class Detections:
    """A row a detection, ordered by image, those of an image in the order that the detector gave them.

    Attributes:
      image: int64 [D], any number that tells images apart.
      boxes: float64 [D, 4].
      label: int64 [D].
      score: float64 [D].
    """

    image: np.ndarray
    boxes: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def best_first(self) -> "Detections":
        """By falling score; of equal scores the earlier row first."""
        return _take(self, np.argsort(-self.score, kind="stable"))


@dataclasses.dataclass(frozen=True)
class Truth:
    """A row an object, ordered by image.

    Attributes:
      image: int64 [N].
      boxes: float64 [N, 4].
      label: int64 [N].
      difficult, crowd: bool [N].
      area: float64 [N], in square pixels.
    """

    image: np.ndarray
    boxes: np.ndarray
    label: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    @property
    def ignored(self) -> np.ndarray:
        """bool [N]: objects that need not be found, and may be."""
        return self.difficult | self.crowd


def flatten(kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows of one batch, without its padding.

    A detection whose score is not a number is dropped; one with a coordinate that is not finite becomes an empty box,
    which is wrong wherever it lies.

    Args:
      kept: of B images, in the frame of the truth: `index` [B], a different one for each image; `valid` bool [B];
        detections `boxes` [B, K, 4], `scores` [B, K], `classes` [B, K], `box_valid` bool [B, K]; objects
        `truth_boxes` [B, N, 4], `truth_labels` [B, N], `truth_valid` bool [B, N], and where there are such
        `truth_difficult`, `truth_crowd` bool [B, N] and `truth_areas` [B, N] (COCO's are those of outlines; else
        those of the boxes).

    Returns:
      Arrays of a row each, whose names and dtypes are the same for every batch; `np.concatenate` joins them.

    Raises:
      ValueError: an array's shape is not that of its neighbors.
    """
    index, valid = np.asarray(kept["index"]), np.asarray(kept["valid"], bool)
    scores = np.asarray(kept["scores"], np.float64)
    found = np.asarray(kept["box_valid"], bool) & valid[:, None] & ~np.isnan(scores)
    there = np.asarray(kept["truth_valid"], bool) & valid[:, None]
    absent = np.zeros(there.shape, bool)
    truth_boxes = np.asarray(kept["truth_boxes"], np.float64)
    tables = (
        (_DETECTIONS, found, {"boxes": kept["boxes"], "label": kept["classes"], "score": scores}),
        (
            _TRUTH,
            there,
            {
                "boxes": truth_boxes,
                "label": kept["truth_labels"],
                "difficult": kept.get("truth_difficult", absent),
                "crowd": kept.get("truth_crowd", absent),
                "area": kept.get("truth_areas", areas(truth_boxes)),
            },
        ),
    )
    rows = {"image": index[valid].astype(np.int64)}
    for table, mask, columns in tables:
        rows[f"{table}_image"] = np.broadcast_to(index[:, None], mask.shape)[mask].astype(np.int64)
        for name, values in columns.items():
            values = np.asarray(values)
            if values.shape[:2] != mask.shape:
                raise ValueError(f"{name} of the {table} is {list(values.shape)}, not {list(mask.shape)} and on")
            rows[f"{table}_{name}"] = values[mask].astype(_DTYPES[name])
    boxes = rows["detection_boxes"]
    boxes[~np.isfinite(boxes).all(-1)] = 0
    return rows


def tables(rows: Rows) -> tuple[Detections, Truth, np.ndarray]:
    """The detections, the objects, and the images, int64 [I], each ordered by image.

    So the order of the batches, and of hosts, plays no part.
    """
    made = []
    for cls, prefix in ((Detections, _DETECTIONS), (Truth, _TRUTH)):
        table = cls(**{field.name: rows[f"{prefix}_{field.name}"] for field in dataclasses.fields(cls)})
        made.append(_take(table, np.argsort(table.image, kind="stable")))
    return *made, np.sort(rows["image"])


def areas(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] -> [...]; 0 for empty boxes."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of [..., 4] and [..., 4], broadcast; 0 where both are empty."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = areas(np.concatenate([low, high], axis=-1))
    union = areas(a) + areas(b) - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def best_objects(
    detections: Detections, truth: Truth, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For every detection the object on its image that it overlaps most, the first of equals.

    Args:
      detections, truth: the truth ordered by image, the detections in any order.
      allowed: bool [C, C]; only objects whose label may stand for the detection's, `allowed[detection, object]`, are
        looked at. None: those of its own label alone.

    Returns:
      int64 [D], places in the truth, -1 where no object overlaps; and float64 [D], IoU, 0 there.
    """
    best, value = np.full(detections.image.size, -1), np.zeros(detections.image.size)
    own_label = allowed is None
    # Objects that can match lie side by side: those of an image, or of an image and a label.
    labels = int(max(detections.label.max(initial=0), truth.label.max(initial=0))) + 1
    keys = [table.image * labels + table.label if own_label else table.image for table in (truth, detections)]
    order = np.argsort(keys[0], kind="stable")
    first = np.searchsorted(keys[0][order], keys[1], side="left")
    count = np.searchsorted(keys[0][order], keys[1], side="right") - first
    begin = 0
    while begin < count.size:
        # As many detections as have about so many pairs, at least one.
        ends = np.cumsum(count[begin:])
        size = max(1, int(np.searchsorted(ends, _PAIRS, side="right")))
        some = slice(begin, begin + size)
        begin += size
        row = np.repeat(np.arange(some.start, some.start + count[some].size), count[some])
        step = np.arange(row.size) - np.repeat(np.cumsum(count[some]) - count[some], count[some])
        column = order[first[row] + step]
        iou = overlaps(detections.boxes[row], truth.boxes[column])
        if not own_label:
            iou[~allowed[detections.label[row], truth.label[column]]] = 0
        row, column, iou = (values[iou > 0] for values in (row, column, iou))
        ranked = np.lexsort((column, -iou, row))
        rows, firsts = np.unique(row[ranked], return_index=True)
        best[rows], value[rows] = column[ranked][firsts], iou[ranked][firsts]
    return best, value


def _take(table: Table, where: np.ndarray) -> Table:
    return type(table)(**{field.name: getattr(table, field.name)[where] for field in dataclasses.fields(table)})
