"""Stores detections and objects of many images as flat tables, and computes the overlaps between the two.

Padded arrays of a batch lose their padding here. The tables of batches are concatenated. All boxes are those of
`cvjax.ops.detection.boxes`, half-open. The inclusive pixels of the benchmarks' own code give the same overlaps.
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
    """Holds a table with a row per detection, ordered by image; the detections of an image keep the detector's order.

    Attributes:
      image: Number that identifies the image, int64 [D].
      boxes: Boxes, float64 [D, 4].
      label: Classes, int64 [D].
      score: Scores, float64 [D].
    """

    image: np.ndarray
    boxes: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def best_first(self) -> "Detections":
        """Returns the table in order of descending score; of equal scores the earlier row comes first."""
        return _take(self, np.argsort(-self.score, kind="stable"))


@dataclasses.dataclass(frozen=True)
class Truth:
    """Holds a table with a row per object, ordered by image.

    Attributes:
      image: Number that identifies the image, int64 [N].
      boxes: Boxes, float64 [N, 4].
      label: Classes, int64 [N].
      difficult, crowd: Flags of the objects, bool [N].
      area: Areas in square pixels, float64 [N].
    """

    image: np.ndarray
    boxes: np.ndarray
    label: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    @property
    def ignored(self) -> np.ndarray:
        """Returns which objects need not be found, bool [N]; finding them is no error."""
        return self.difficult | self.crowd


def flatten(kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the rows of one batch, without its padding.

    A detection whose score is nan is dropped. A detection with a coordinate that is not finite becomes an empty box,
    which is always wrong.

    Args:
      kept: Arrays of B images, all boxes in the frame of the ground truth. `index` [B], different for each image;
        `valid` bool [B]; detections `boxes` [B, K, 4], `scores` [B, K], `classes` [B, K], `box_valid` bool [B, K];
        objects `truth_boxes` [B, N, 4], `truth_labels` [B, N], `truth_valid` bool [B, N]. Optional are
        `truth_difficult`, `truth_crowd` bool [B, N] and `truth_areas` [B, N] (COCO's are those of outlines; the default
        are those of the boxes).

    Returns:
      Arrays with one row per image, detection or object. Their names and dtypes are the same for every batch, so that
      `np.concatenate` joins them.

    Raises:
      ValueError: The shape of an array does not match that of the others.
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
    """Returns the detections, the objects, and the images, int64 [I], each ordered by image.

    So the order of batches and of hosts makes no difference.
    """
    made = []
    for cls, prefix in ((Detections, _DETECTIONS), (Truth, _TRUTH)):
        table = cls(**{field.name: rows[f"{prefix}_{field.name}"] for field in dataclasses.fields(cls)})
        made.append(_take(table, np.argsort(table.image, kind="stable")))
    return *made, np.sort(rows["image"])


def areas(boxes: np.ndarray) -> np.ndarray:
    """Computes the areas [...] of boxes [..., 4]; 0 for empty boxes."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Computes the IoU of boxes [..., 4] and [..., 4], broadcast; 0 where both are empty."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = areas(np.concatenate([low, high], axis=-1))
    union = areas(a) + areas(b) - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def best_objects(
    detections: Detections, truth: Truth, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds for every detection the object of its image with the largest overlap, the first of equals.

    Args:
      detections, truth: Tables; the ground truth is ordered by image, the detections are in any order.
      allowed: Pairs of labels that may match, `allowed[detection, object]`, bool [C, C]. None allows only the same
        label.

    Returns:
      Positions in the ground truth, int64 [D], -1 where no object overlaps; and their IoU, float64 [D], 0 there.
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
