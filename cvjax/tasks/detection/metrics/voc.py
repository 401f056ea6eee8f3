"""Computes average precision as the Pascal VOC development kit does (Everingham et al., IJCV 2010).

Detections of a class are taken in order of descending score. Each is compared with the object of its class that it
overlaps most. It is right if the IoU is at least 0.5 and no better detection has taken that object. Otherwise it is
wrong, as are all further detections of the same object. If the object is difficult, the detection counts neither way.
"""

import dataclasses

import numpy as np

from cvjax.tasks.detection.metrics.rows import Detections, Truth, areas, best_objects

RIGHT, WRONG, NEITHER = 1, 0, -1


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """Holds the verdicts on the detections of all classes, best first.

    Attributes:
      detections: Detections in order of descending score.
      verdict: RIGHT, WRONG, or NEITHER, int8 [D].
      objects: Number of objects of each class to find, int64 [C].
      taken: Whether a detection took the object, bool [N], in the order of the ground truth.
    """

    detections: Detections
    verdict: np.ndarray
    objects: np.ndarray
    taken: np.ndarray


@dataclasses.dataclass(frozen=True)
class Curve:
    """Holds precision and recall of one class after each detection that counts.

    Attributes:
      right, wrong: Numbers of right and wrong detections so far, int64 [n].
      score: Scores of the detections, descending, float64 [n].
      objects: Number of objects to find.
    """

    right: np.ndarray
    wrong: np.ndarray
    score: np.ndarray
    objects: int

    @property
    def precision(self) -> np.ndarray:
        """Returns the precision after each detection, float64 [n]."""
        return self.right / np.maximum(self.right + self.wrong, 1)

    @property
    def recall(self) -> np.ndarray:
        """Returns the recall after each detection, float64 [n]; nan without an object to find."""
        return self.right / self.objects if self.objects else np.full(self.right.shape, np.nan)

    @property
    def last_recall(self) -> float:
        """Returns the recall of all detections together; nan without an object to find."""
        return float(np.append(0, self.right)[-1] / self.objects) if self.objects else float("nan")


def judge(
    detections: Detections,
    truth: Truth,
    num_classes: int,
    *,
    iou: float = 0.5,
    area_range: tuple[float, float] | None = None,
) -> Verdicts:
    """Separates right from wrong detections, for all classes at once.

    Args:
      detections, truth: Tables ordered by image, with labels in [0, num_classes).
      num_classes: Number of classes, C.
      iou: Least IoU of a right detection.
      area_range: Range [from, to) of areas in square pixels. Objects outside count neither way, as difficult ones do.
        Detections outside that match no object count neither way too. None takes all.
    """
    ranked = detections.best_first()
    ignored = truth.ignored
    if area_range is not None:
        ignored = ignored | (truth.area < area_range[0]) | (truth.area >= area_range[1])
    best, overlap = best_objects(ranked, truth)
    found = np.flatnonzero(overlap >= iou)
    found = found[best[found] >= 0]
    verdict = np.full(best.shape, WRONG, np.int8)
    if area_range is not None:
        size = areas(ranked.boxes)
        verdict[(size < area_range[0]) | (size >= area_range[1])] = NEITHER
    verdict[found] = np.where(ignored[best[found]], NEITHER, WRONG)
    counted = found[~ignored[best[found]]]
    objects, firsts = np.unique(best[counted], return_index=True)
    verdict[counted[firsts]] = RIGHT
    taken = np.zeros(ignored.shape, bool)
    taken[objects] = True
    return Verdicts(ranked, verdict, np.bincount(truth.label[~ignored], minlength=num_classes), taken)


def curve(verdicts: Verdicts, label: int) -> Curve:
    """Computes the precision and recall of a class."""
    mine = (verdicts.detections.label == label) & (verdicts.verdict != NEITHER)
    right = verdicts.verdict[mine] == RIGHT
    objects = int(verdicts.objects[label])
    return Curve(np.cumsum(right), np.cumsum(~right), verdicts.detections.score[mine], objects)


def area_under(curve: Curve) -> float:
    """Computes average precision as in VOC 2010 and later: the area under the envelope of the precision.

    The envelope is the best precision at that recall or a higher one. The result is nan without an object to find, and
    0 without a detection.
    """
    if not curve.objects:
        return float("nan")
    steps = np.diff(curve.right, prepend=0)
    return float((_envelope(curve) * steps).sum() / curve.objects)


def eleven_points(curve: Curve) -> float:
    """Computes average precision as in VOC 2007: the mean of the best precision at recalls of at least 0, 0.1, ... 1.

    Recalls are compared in whole numbers, so that 3 objects of 10 are a recall of 0.3. The result is nan without an
    object to find, and 0 without a detection.
    """
    return float(sampled(curve, 10).mean())


def sampled(curve: Curve, parts: int = 100) -> np.ndarray:
    """Samples the best precision at recalls of at least 0, 1 / parts, ... 1, float64 [parts + 1].

    It is 0 beyond the last recall that is reached, and all nan without an object to find.
    """
    if not curve.objects:
        return np.full(parts + 1, np.nan)
    place = np.searchsorted(curve.right * parts, np.arange(parts + 1) * curve.objects)
    return np.append(_envelope(curve), 0)[place]


def _envelope(curve: Curve) -> np.ndarray:
    """Returns the best precision from each detection on."""
    return np.maximum.accumulate(curve.precision[::-1])[::-1]
