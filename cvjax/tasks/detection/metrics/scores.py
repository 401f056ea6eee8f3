"""Computes all scores of a detector: the rows of every batch, and the report at the end."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvjax.errors import ConfigError
from cvjax.tasks.detection.metrics import voc
from cvjax.tasks.detection.metrics.coco import coco_report
from cvjax.tasks.detection.metrics.errors import KINDS, VOC_SIMILAR, error_kinds, similar_classes
from cvjax.tasks.detection.metrics.rows import Rows, flatten, tables

SIZES = (("small", 0.0, 32.0**2), ("medium", 32.0**2, 96.0**2), ("large", 96.0**2, float("inf")))
"""COCO's sizes of objects: name, and area from and below, in square pixels."""


@dataclasses.dataclass(frozen=True)
class DetectionScores:
    """Scores detections by VOC's rules, by sizes, by kinds of errors, and optionally by COCO's rules.

    Attributes:
      class_names: Names of the classes; there is no background.
      iou: Least IoU of a right detection, in VOC's scores.
      coco: Whether to compute COCO's scores too, by pycocotools.
      similar: Groups of classes that look alike, for the kinds of errors.
      sizes: Sizes by which scores are broken down: the name, the least area, and the area below which objects belong to
        it, in square pixels.

    Raises:
      ConfigError: The IoU is outside (0, 1], or two classes have the same name.
    """

    class_names: tuple[str, ...]
    iou: float = 0.5
    coco: bool = False
    similar: tuple[tuple[str, ...], ...] = VOC_SIMILAR
    sizes: tuple[tuple[str, float, float], ...] = SIZES

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ConfigError(f"the overlap of a right detection is {self.iou}; give one above 0 and up to 1, as 0.5")
        if len(set(self.class_names)) != len(self.class_names):
            raise ConfigError(f"class names must differ, as scores are keyed by them: {list(self.class_names)}")

    def rows(self, kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the rows of a batch, to be concatenated with those of all others; see `flatten`."""
        return flatten(kept)

    def report(self, rows: Rows) -> dict[str, Any]:
        """Computes the scores of a whole split from the concatenated rows of all batches, in any order.

        Returns:
          `map` and `map_voc07`: means over the classes with objects of the two average precisions of
            `cvjax.tasks.detection.metrics.voc`, the area (VOC 2010 and later) and 11 points (VOC 2007).
          `recall`: the same mean of the recall of all detections.
          `ap`, `ap_11`: float by class name; nan for a class without an object to find.
          `objects`: number of objects to find, int by class name.
          `map_small` and so on, `ap_by_size` {size: {class: float}}, `objects_by_size` {size: int}: `map`, `ap` and
            `objects` of the objects of a size.
          `errors`: {class: {kind: int}}, see `error_kinds`.
          `precision`: float64 [C, 101], the best precision at recalls of at least 0, 0.01, ... 1.
          `coco_ap` and so on: the scores of `coco_report`, if `coco` is True.

        Raises:
          ValueError: An image was counted twice, or a label is outside the classes.
          ConfigError: COCO's scores are asked for, and pycocotools is not installed.
        """
        detections, truth, images = tables(rows)
        names = self.class_names
        self._check(images, detections.label, truth.label)
        verdicts = voc.judge(detections, truth, len(names), iou=self.iou)
        curves = [voc.curve(verdicts, label) for label in range(len(names))]
        area, points = [[ap(curve) for curve in curves] for ap in (voc.area_under, voc.eleven_points)]
        kinds = error_kinds(verdicts, truth, similar_classes(names, self.similar))
        report = {
            "map": mean(area),
            "map_voc07": mean(points),
            "recall": mean([curve.last_recall for curve in curves]),
            "ap": dict(zip(names, area)),
            "ap_11": dict(zip(names, points)),
            "objects": dict(zip(names, verdicts.objects.tolist())),
            "ap_by_size": {},
            "objects_by_size": {},
            "errors": {name: dict(zip(KINDS, row)) for name, row in zip(names, kinds.tolist())},
            "precision": np.stack([voc.sampled(curve) for curve in curves]) if curves else np.zeros((0, 101)),
        }
        for size, low, high in self.sizes:
            part = voc.judge(detections, truth, len(names), iou=self.iou, area_range=(low, high))
            each = [voc.area_under(voc.curve(part, label)) for label in range(len(names))]
            report[f"map_{size}"] = mean(each)
            report["ap_by_size"][size] = dict(zip(names, each))
            report["objects_by_size"][size] = int(part.objects.sum())
        if self.coco:
            report |= coco_report(detections, truth, images, names)
        return report

    def _check(self, images: np.ndarray, *labels: np.ndarray) -> None:
        twice = images[1:][images[1:] == images[:-1]]
        if twice.size:
            raise ValueError(f"image {twice[0]} was evaluated twice; every index may come once")
        for values in labels:
            if values.size and not 0 <= values.min() <= values.max() < len(self.class_names):
                raise ValueError(
                    f"labels are {values.min()} to {values.max()}, and the classes 0 to {len(self.class_names) - 1}"
                )


def mean(values: list[float]) -> float:
    """Returns the mean of the values that are not nan; nan if there are none."""
    present = [value for value in values if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")
