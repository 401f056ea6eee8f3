"""How well boxes were found: VOC's and COCO's average precision, sizes, kinds of errors. NumPy, on the host.

`DetectionScores` gathers them all: `rows` of every batch as it comes, `report` at the end.
"""

from cvjax.tasks.detection.metrics.scores import DetectionScores

__all__ = ["DetectionScores"]
