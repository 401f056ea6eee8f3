"""Finds boxes that a trained detector doubts, and confident detections where there is no box.

A detection supports a box of its class that it overlaps with an IoU of at least 0.5; the box's score is that of its
best support, or 0. Boxes below the score from which detections are shown are in doubt. ObjectLab (2309.00832) tells
kinds of mistakes apart in the same way. The class is swapped where a shown detection of another class overlaps the box
so; the box is badly located where a shown detection of its class overlaps it less; the score is then the support less
that of the detection. Otherwise nothing supports the box. A shown detection that overlaps no box by 0.5, and explains
no badly located one, was overlooked.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from flax import linen as nn

from cvjax.data.box_rows import restore_boxes
from cvjax.data.dataset import Dataset
from cvjax.models.detection.detector import display_threshold
from cvjax.tasks.detection.metrics.rows import overlaps
from cvjax.tasks.doubts import Doubt, Kind, predicted, ranked

if TYPE_CHECKING:
    from cvjax.tasks.detection.task import Detection

SUPPORT = 0.5
"""IoU from which a detection and a box are of one object."""
_BESIDE = 0.1
"""IoU from which a detection of the same class may be what a box was meant to be."""


class Scene(NamedTuple):
    """Holds what is labeled and what is detected in one image, in pixels of the original.

    Attributes:
      boxes, labels: Labeled boxes, float [N, 4], and their classes, int [N].
      spared: Boxes that need not be found, bool [N]: difficult ones and crowds.
      found, classes, scores: Detections, float [M, 4], their classes, int [M], and scores, float [M].
    """

    boxes: np.ndarray
    labels: np.ndarray
    spared: np.ndarray
    found: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def box_doubts(task: "Detection", model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> list[Doubt]:
    """Returns the boxes in doubt and the detections without a box, the most doubtful of each kind first."""
    shown, names = display_threshold(model), task.class_names
    doubts = []
    for part in predicted(task, model, variables, dataset, task.gather):
        for index, scene in _scenes(part):
            for kind, score, number, detection in judge(scene, shown):
                given = None if number is None else names[scene.labels[number]]
                other = None if detection is None else names[scene.classes[detection]]
                box = None if number is None else _corners(scene.boxes[number])
                found = None if detection is None else _corners(scene.found[detection])
                what = "no box" if given is None else f"labeled {given}"
                if other is None:
                    what += f", best support {score:.2f}"
                else:
                    what += f", detected {other} {scene.scores[detection]:.2f}"
                sure = None if detection is None else float(scene.scores[detection])
                doubts.append(Doubt(kind, index, score, what, given, other, True, box, found, sure))
    return ranked(doubts)


def judge(scene: Scene, shown: float) -> Iterator[tuple[Kind, float, int | None, int | None]]:
    """Yields kind, score, number of the box and number of the detection of each doubt in an image.

    Args:
      scene: Boxes and detections.
      shown: Score from which detections are shown.
    """
    shared = overlaps(scene.boxes[:, None], scene.found)
    same = scene.labels[:, None] == scene.classes
    confident = scene.scores >= shown
    explained = np.zeros(len(scene.found), bool)
    for number in np.flatnonzero(~scene.spared).tolist():
        over, mine = shared[number] >= SUPPORT, same[number]
        support = float(scene.scores[over & mine].max(initial=0.0))
        if support >= shown:
            continue
        others = np.flatnonzero(over & ~mine & confident)
        beside = np.flatnonzero(mine & confident & ~over & (shared[number] >= _BESIDE))
        if len(others):
            best = int(others[scene.scores[others].argmax()])
            yield "swapped", support - float(scene.scores[best]), number, best
        elif len(beside):
            best = int(beside[shared[number][beside].argmax()])
            explained[best] = True
            yield "badly located", support - float(scene.scores[best]), number, best
        else:
            yield "unsupported", support, number, None
    covered = (shared >= SUPPORT).any(axis=0) | _inside(scene)
    for detection in np.flatnonzero(confident & ~covered & ~explained).tolist():
        yield "overlooked", -float(scene.scores[detection]), None, detection


def _inside(scene: Scene) -> np.ndarray:
    """Returns which detections lie mostly in a box that need not be found, such as a crowd, bool [M]."""
    spared = scene.boxes[scene.spared]
    corner = np.maximum(spared[:, None, :2], scene.found[:, :2])
    far = np.minimum(spared[:, None, 2:], scene.found[:, 2:])
    areas = np.prod(scene.found[:, 2:] - scene.found[:, :2], axis=1)
    shared = np.prod(np.maximum(far - corner, 0), axis=2)
    return (shared >= SUPPORT * np.maximum(areas, 1e-9)).any(axis=0)


def _scenes(rows: dict[str, np.ndarray]) -> Iterator[tuple[int, Scene]]:
    """Yields index and scene of each row that `Detection.gather` returned."""
    place = rows["scale"], rows["original_size"]
    found, boxes = restore_boxes(rows["boxes"], *place), restore_boxes(rows["truth_boxes"], *place)
    for row, index in enumerate(rows["index"].tolist()):
        here, there = rows["truth_valid"][row], rows["box_valid"][row]
        spared = rows["truth_difficult"][row] | rows["truth_crowd"][row]
        labeled = boxes[row][here], rows["truth_labels"][row][here], spared[here]
        yield index, Scene(*labeled, found[row][there], rows["classes"][row][there], rows["scores"][row][there])


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(value), 2) for value in box)
    return x1, y1, x2, y2
