"""Computes COCO's average precision and recall (Lin et al., 1405.0312) with pycocotools, the benchmark's code."""

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cvjax.errors import ConfigError
from cvjax.tasks.detection.metrics.rows import Detections, Truth, areas

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

STATS = (
    *("coco_ap", "coco_ap50", "coco_ap75", "coco_ap_small", "coco_ap_medium", "coco_ap_large"),
    *("coco_ar1", "coco_ar10", "coco_ar100", "coco_ar_small", "coco_ar_medium", "coco_ar_large"),
)
"""pycocotools' twelve numbers in its order; precision and recall are means over IoU of 0.5, 0.55 ... 0.95, and recall
with 1, 10 or (also by size) 100 detections an image."""


def coco_report(detections: Detections, truth: Truth, images: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Computes COCO's twelve scores, and the average precision by class.

    Detections that match a crowd do not count, however many they are. Such a match needs the share of the detection's
    area that lies in the crowd to reach the IoU threshold. COCO has no difficult objects: the first detection that
    matches one does not count either, as pycocotools treats objects outside the current range of sizes.

    Args:
      detections, truth: Tables with labels in [0, C); `truth.area` decides the size of an object.
      images: Numbers of all images, also of those without boxes, int64 [I].
      class_names: Names of the C classes.

    Returns:
      `STATS` as floats, and `coco_ap_by_class`, a float by class name; nan where there are no objects to find.

    Raises:
      ConfigError: pycocotools is not installed.
    """
    evaluation = evaluate(detections, truth, images, len(class_names))
    # [IoU, recall, class, size, detections an image]: all sizes, 100 detections; -1 where there is nothing to find.
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    by_class = {name: _mean(precision[:, :, label]) for label, name in enumerate(class_names)}
    stats = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    return {**dict(zip(STATS, map(float, stats))), "coco_ap_by_class": by_class}


def evaluate(detections: Detections, truth: Truth, images: np.ndarray, num_classes: int) -> "COCOeval":
    """Runs pycocotools' evaluation, accumulated and summarized; arguments and errors are as for `coco_report`."""
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError("COCO's scores need pycocotools; pip install 'cvjax[coco]', or leave them out") from error

    class Evaluation(COCOeval):
        _gts: dict[Any, list[dict[str, Any]]]

        def _prepare(self) -> None:
            # pycocotools itself ignores crowds only. Its types lack the two private names.
            super()._prepare()  # pyright: ignore[reportAttributeAccessIssue]
            for objects in self._gts.values():
                for item in objects:
                    item["ignore"] = item["iscrowd"] or item["difficult"]

    with contextlib.redirect_stdout(io.StringIO()):
        none = np.zeros_like(detections.image)
        found = _dataset(images, num_classes, detections, score=detections.score, iscrowd=none)
        flags = {"iscrowd": truth.crowd.astype(int), "difficult": truth.difficult.astype(int)}
        objects = _dataset(images, num_classes, truth, area=truth.area, **flags)
        evaluation = Evaluation(objects, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _dataset(images: np.ndarray, num_classes: int, table: Detections | Truth, **columns: np.ndarray) -> "COCO":
    """Converts a table to the form that pycocotools reads.

    Ids start at 1, since pycocotools takes an object's id 0 for no object.
    """
    from pycocotools.coco import COCO

    sides = np.maximum(table.boxes[:, 2:] - table.boxes[:, :2], 0)
    columns = {
        "id": np.arange(1, table.image.size + 1),
        "image_id": table.image,
        "category_id": table.label,
        "bbox": np.concatenate([table.boxes[:, :2], sides], axis=1),
        "area": areas(table.boxes),
        **columns,
    }
    lists = [values.tolist() for values in columns.values()]
    made = COCO()
    # The library's types want entries that only its pictures read.
    made.dataset = {  # pyright: ignore[reportAttributeAccessIssue]
        "images": [{"id": image} for image in images.tolist()],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": [dict(zip(columns, row)) for row in zip(*lists)],
    }
    made.createIndex()
    return made


def _mean(values: np.ndarray) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else float("nan")
