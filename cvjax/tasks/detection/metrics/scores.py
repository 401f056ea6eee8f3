"""All scores of a detector: what it gathers of every batch, and the report at the end."""

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
    """What detections are scored by.

    Attributes:
      class_names: one name a class; there is no background.
      iou: least overlap of a right detection, in VOC's scores.
      coco: also COCO's scores, by pycocotools.
      similar: groups of classes that look alike, for the kinds of errors.
      sizes: name, and area from and below in square pixels, of the sizes that scores are broken down by.

    Raises:
      ConfigError: an overlap outside (0, 1], or two classes of one name.
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
        """The rows of a batch, to be joined with those of all others; see `flatten` of `detection_metrics.rows`."""
        return flatten(kept)

    def report(self, rows: Rows) -> dict[str, Any]:
        """Scores of a whole split from the joined rows of all its batches, whose order plays no part.

        Returns:
          `map` and `map_voc07`: means over the classes that have objects of the two average precisions of
            `detection_metrics.voc`, the area (VOC 2010 and later) and 11 points (VOC 2007); `recall`: likewise of
            the recall of all detections.
          `ap`, `ap_11`: float by class name; nan for a class without an object to be found. `objects`: how many
            there are to be found, int by class name.
          `map_small` and so on, `ap_by_size` {size: {class: float}}, `objects_by_size` {size: int}: `map`, `ap` and
            `objects` of the objects of a size.
          `errors`: {class: {kind: int}}, see `error_kinds`.
          `precision`: float64 [C, 101], the best precision at recalls of at least 0, 0.01, ... 1.
          With `coco` those of `coco_report`.

        Raises:
          ValueError: an image that was counted twice, or labels that are no class.
          ConfigError: pycocotools is wanted and missing.
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
    """The mean of those that are a number; nan if none is."""
    present = [value for value in values if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")
