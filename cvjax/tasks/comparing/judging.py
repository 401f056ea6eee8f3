"""Judges a trained model's prediction of single images, to compare two models image by image."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from cvjax.data.dataset import Dataset
from cvjax.errors import ConfigError, DataError
from cvjax.models.detection.detector import display_threshold
from cvjax.tasks.classification.task import Classification
from cvjax.tasks.detection.metrics.rows import overlaps
from cvjax.tasks.detection.pictures import at_least, true_boxes
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.load import open_scored
from cvjax.tasks.loaded import Loaded
from cvjax.tasks.scale_crop import resize_pair
from cvjax.tasks.segmentation.scores.regions import image_iou_sums, image_miou
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.visual.boxes import Boxes, draw_boxes
from cvjax.visual.overlay import draw_overlay

_IOU = 0.5
"""Least overlap of a right detection."""
_RESAMPLES = 2000
Sample = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Judgment:
    """Says how good a prediction of one image is.

    Attributes:
      score: From 0 to 1. Classification: the probability of the true class; segmentation: the mean IoU over the classes
        in the image's truth or prediction, nan without a counted pixel; detection: F1 of the boxes with a score
        that is worth a picture, which are right at an IoU of 0.5, 1 where there is nothing to find and nothing found.
      right: Whether a classification is right; None for other tasks.
      words: The prediction in words.
    """

    score: float
    right: bool | None
    words: str


class Judge(Protocol):
    """Judges the predictions of one task."""

    def judge(self, prediction: Any, sample: Sample) -> Judgment:
        """Judges the prediction of a decoded example."""
        ...

    def draw(self, prediction: Any, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Draws the truth and the prediction over the image, uint8 [H, W, 3] each."""
        ...


class _ClassJudge:
    def __init__(self, loaded: Loaded) -> None:
        self._names = loaded.task.class_names

    def judge(self, prediction: np.ndarray, sample: Sample) -> Judgment:
        label, guess = int(sample["label"]), int(np.argmax(prediction))
        words = f"{self._names[guess]} {prediction[guess]:.2f}"
        return Judgment(float(prediction[label]), guess == label, words)

    def draw(self, prediction: np.ndarray, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        del prediction
        return sample["image"], sample["image"]


class _MaskJudge:
    def __init__(self, loaded: Loaded) -> None:
        assert isinstance(loaded.task, Segmentation)
        self._task = loaded.task

    def judge(self, prediction: np.ndarray, sample: Sample) -> Judgment:
        score = image_iou(sample["mask"], prediction, self._task.num_classes, self._task.ignore)
        return Judgment(score, None, f"IoU {score:.2f}")

    def draw(self, prediction: np.ndarray, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        names = self._task.class_names
        return draw_overlay(sample["image"], sample["mask"], names), draw_overlay(sample["image"], prediction, names)


class _BoxJudge:
    def __init__(self, loaded: Loaded) -> None:
        self._names, self._least = loaded.task.class_names, display_threshold(loaded.model)

    def judge(self, prediction: Boxes, sample: Sample) -> Judgment:
        found = at_least(prediction, self._least)
        right, wrong, missed = count_boxes(found, true_boxes(sample["boxes"]))
        total = 2 * right + wrong + missed
        score = 2 * right / total if total else 1.0
        return Judgment(score, None, f"{right} right, {wrong} wrong, {missed} missed")

    def draw(self, prediction: Boxes, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        image, found = sample["image"], at_least(prediction, self._least)
        return draw_boxes(image, true_boxes(sample["boxes"]), self._names), draw_boxes(image, found, self._names)


_JUDGES: Mapping[str, type[_ClassJudge] | type[_MaskJudge] | type[_BoxJudge]] = {
    Classification.name: _ClassJudge,
    Segmentation.name: _MaskJudge,
    Detection.name: _BoxJudge,
}


class Contestant:
    """Predicts and judges the images of a split with one trained model.

    Args:
      loaded: The model.
      split: Name of the split; None is the run's own evaluation split.

    Raises:
      ConfigError: The task's predictions need more than a photograph.
      DataError: The split is not there, or has a class that the model lacks.
    """

    def __init__(self, loaded: Loaded, split: str | None = None) -> None:
        if loaded.task.name not in _JUDGES:
            raise ConfigError(
                f"{loaded.place} is of the task {loaded.task.name}, which predicts no single images; leave --images out"
            )
        self.task, self.dataset = open_scored(loaded.task, split)
        self._loaded = dataclasses.replace(loaded, task=self.task)
        self._judge: Judge = _JUDGES[loaded.task.name](self._loaded)
        self._decode = self.task.decoder()

    def judge(self, index: int) -> Judgment:
        """Judges the prediction of an image of the split."""
        return self._judge.judge(*self._predicted(index))

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws the truth and the prediction of an image of the split, uint8 [H, W, 3] each."""
        return self._judge.draw(*self._predicted(index))

    def _predicted(self, index: int) -> tuple[Any, Sample]:
        sample = dict(self._decode(self.dataset[index]))
        resize = getattr(self.task.config.input, "resize", None) if "mask" in sample else None
        if resize is not None:
            sample["image"], sample["mask"] = resize_pair(sample["image"], sample["mask"], resize)
        return self._loaded.predict(sample["image"]), sample


def shared_examples(first: Dataset, second: Dataset, count: int) -> Iterator[tuple[tuple[int, int], str]]:
    """Yields the positions in two data sets of an image that both hold, and its id in the first.

    The images are spread evenly over the first set. In the second they may have another order and other ids, as the
    same photographs have in another format.

    Args:
      first, second: Splits that two models are scored on.
      count: Number of examples; fewer if the split is smaller.

    Raises:
      DataError: The two hold other images.
    """
    way_out = "compare runs of the same data image by image, or give --images 0"
    if len(first) != len(second):
        raise DataError(
            f"{first.name} {first.split} has {len(first)} examples and {second.name} {second.split} {len(second)};"
            f" {way_out}"
        )
    places: dict[str, int] = {}
    for index in np.unique(np.linspace(0, len(first) - 1, count).round().astype(int)).tolist():
        record = first[index]
        digest, other = _digest(record), index
        if _digest(second[index]) != digest:
            places = places or {_digest(second[place]): place for place in range(len(second))}
            other = places.get(digest, -1)
        if other < 0:
            raise DataError(f"{record['id']} of {first.name} {first.split} is no image of the second run's; {way_out}")
        yield (index, other), str(record["id"])


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(record["image"]).hexdigest()


def image_iou(mask: np.ndarray, prediction: np.ndarray, num_classes: int, ignore: int) -> float:
    """Computes the mean IoU of one image, over the classes in its truth or prediction; nan without a counted pixel.

    Args:
      mask: True labels [H, W]; `ignore` does not count.
      prediction: Labels [H, W].
      num_classes: Number of classes.
      ignore: Label of the pixels that do not count.
    """
    counted = mask != ignore
    truth, guess = mask[counted].astype(np.int64), prediction[counted].astype(np.int64)
    confusion = np.bincount(truth * num_classes + guess, minlength=num_classes**2).reshape(num_classes, num_classes)
    return image_miou(jax.device_get(image_iou_sums(jnp.asarray(confusion[None]))))


def count_boxes(found: Boxes, truth: Boxes) -> tuple[int, int, int]:
    """Counts right and wrong detections and missed objects of one image, by VOC's rule at an IoU of 0.5.

    Objects that are `faint` need not be found, and detections of them count neither way.

    Args:
      found: Detections, best first.
      truth: Objects.
    """
    ignored = np.zeros(len(truth.labels), bool) if truth.faint is None else np.asarray(truth.faint, bool)
    taken, wrong = np.zeros(len(truth.labels), bool), 0
    shared = overlaps(np.asarray(found.boxes, float)[:, None], np.asarray(truth.boxes, float)[None])
    for row, label in zip(shared, found.labels):
        row = np.where(truth.labels == label, row, -1.0)
        best = int(row.argmax()) if len(row) else -1
        if best < 0 or row[best] < _IOU:
            wrong += 1
        elif not ignored[best]:
            wrong += int(taken[best])
            taken[best] = True
    return int(taken.sum()), wrong, int((~taken & ~ignored).sum())


def paired_statistics(first: Sequence[Judgment], second: Sequence[Judgment]) -> dict[str, float | int]:
    """Computes what the judgments of two models on the same images say of them.

    Returns:
      `images`; `mean_difference` of the scores, first less second, with `low` and `high`, the ends of its 95% interval
      by a bootstrap over images (Efron's percentiles); of classifications also `both_right`, `only_first`,
      `only_second`, `both_wrong`, and `mcnemar_p`: how likely chance alone is to split the images that one run alone
      has right as unevenly (McNemar's exact test). Images without a score are left out of the means.
    """
    gaps = np.array([a.score - b.score for a, b in zip(first, second, strict=True)])
    gaps = gaps[~np.isnan(gaps)]
    found: dict[str, float | int] = {"images": len(first)}
    if gaps.size:
        draws = np.random.default_rng(0).integers(0, gaps.size, (_RESAMPLES, gaps.size))
        low, high = np.percentile(gaps[draws].mean(1), [2.5, 97.5])
        found |= {"mean_difference": float(gaps.mean()), "low": float(low), "high": float(high)}
    if first and first[0].right is not None:
        pairs = [(bool(a.right), bool(b.right)) for a, b in zip(first, second)]
        only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
        apart = only_first + only_second
        found |= {
            "both_right": pairs.count((True, True)),
            "only_first": only_first,
            "only_second": only_second,
            "both_wrong": pairs.count((False, False)),
            "mcnemar_p": float(stats.binomtest(only_first, apart).pvalue) if apart else 1.0,
        }
    return found
