"""Average precision as the Pascal VOC development kit computes it (Everingham et al., IJCV 2010).

Detections of a class are taken by falling score. One is right if its IoU with the object of its class that it overlaps
most is at least 0.5 and no better one has taken that object; otherwise it is wrong, as are all further ones of the same
object. If that object is difficult, the detection counts neither way.
"""

import dataclasses

import numpy as np

from cvjax.tasks.detection.metrics.rows import Detections, Truth, areas, best_objects

RIGHT, WRONG, NEITHER = 1, 0, -1


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """What became of the detections of all classes, best first.

    Attributes:
      detections: by falling score.
      verdict: int8 [D]: RIGHT, WRONG, or NEITHER.
      objects: int64 [C], those of each class that are to be found.
      taken: bool [N], objects that a detection took, in the order of the truth.
    """

    detections: Detections
    verdict: np.ndarray
    objects: np.ndarray
    taken: np.ndarray


@dataclasses.dataclass(frozen=True)
class Curve:
    """Precision and recall of one class after each detection that counts.

    Attributes:
      right, wrong: int64 [n], how many so far.
      score: float64 [n], of that detection, falling.
      objects: to be found.
    """

    right: np.ndarray
    wrong: np.ndarray
    score: np.ndarray
    objects: int

    @property
    def precision(self) -> np.ndarray:
        """float64 [n]."""
        return self.right / np.maximum(self.right + self.wrong, 1)

    @property
    def recall(self) -> np.ndarray:
        """float64 [n]; nan without an object to be found."""
        return self.right / self.objects if self.objects else np.full(self.right.shape, np.nan)

    @property
    def last_recall(self) -> float:
        """Recall of all detections together."""
        return float(np.append(0, self.right)[-1] / self.objects) if self.objects else float("nan")


def judge(
    detections: Detections,
    truth: Truth,
    num_classes: int,
    *,
    iou: float = 0.5,
    area_range: tuple[float, float] | None = None,
) -> Verdicts:
    """Tells right from wrong detections, for all classes at once.

    Args:
      detections, truth: labels in [0, num_classes); ordered by image.
      num_classes: C.
      iou: least IoU of a right one.
      area_range: [from, to) in square pixels: objects outside count neither way, as difficult ones do, and neither do
        wrong detections outside that overlap no object enough. None: all count.
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
    """Precision and recall of a class."""
    mine = (verdicts.detections.label == label) & (verdicts.verdict != NEITHER)
    right = verdicts.verdict[mine] == RIGHT
    objects = int(verdicts.objects[label])
    return Curve(np.cumsum(right), np.cumsum(~right), verdicts.detections.score[mine], objects)


def area_under(curve: Curve) -> float:
    """Average precision of VOC 2010 and later: the area under the precision that falls nowhere short of later ones.

    nan without an object to be found; 0 without a detection.
    """
    if not curve.objects:
        return float("nan")
    steps = np.diff(curve.right, prepend=0)
    return float((_envelope(curve) * steps).sum() / curve.objects)


def eleven_points(curve: Curve) -> float:
    """Average precision of VOC 2007: the mean of the best precision at recalls of at least 0, 0.1, ... 1.

    Recalls are compared in whole numbers, so that 3 objects of 10 are a recall of 0.3. nan without an object to be
    found; 0 without a detection.
    """
    return float(sampled(curve, 10).mean())


def sampled(curve: Curve, parts: int = 100) -> np.ndarray:
    """The best precision at recalls of at least 0, 1 / parts, ... 1: float64 [parts + 1].

    0 beyond the last recall that is reached; all nan without an object to be found.
    """
    if not curve.objects:
        return np.full(parts + 1, np.nan)
    place = np.searchsorted(curve.right * parts, np.arange(parts + 1) * curve.objects)
    return np.append(_envelope(curve), 0)[place]


def _envelope(curve: Curve) -> np.ndarray:
    """The best precision from each detection on."""
    return np.maximum.accumulate(curve.precision[::-1])[::-1]
