"""Scores detections on the host: VOC's and COCO's average precision, sizes of objects, kinds of errors.

`DetectionScores` computes them all: `rows` takes every batch as it comes, `report` scores at the end.
"""

from cvjax.tasks.detection.metrics.scores import DetectionScores

__all__ = ["DetectionScores"]
