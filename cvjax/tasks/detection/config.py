"""Configurations of detection runs."""

import dataclasses
from typing import ClassVar, Literal

from cvjax.engine.config import EvalConfig, RunConfig
from cvjax.models.config import ModelConfig
from cvjax.tasks.detection.staged.svm import SVMConfig
from cvjax.tasks.detection.transforms import DetectionData


@dataclasses.dataclass(frozen=True)
class DetectionEval(EvalConfig):
    """How a split with boxes is scored, each image whole.

    Attributes: those of `EvalConfig`, and
      crop: Height and width of what the net sees, in pixels; None is that of training.
      short_side: Length that the image's shorter side is brought to; None is that of training.
      long_side: Largest length of the image's longer side; None is that of training.
      boxes: Largest number of boxes that an image may have.
      pad_multiple: With a short side, images are padded to sides that are multiples of this, and those of one size
        share a batch: each size compiles once. None pads all to one size.
      score_threshold: Score that a detection must exceed; None is the detector's own.
      nms_threshold: IoU above which the worse of two detections of a class is dropped; None is the detector's own.
      max_detections: Largest number of detections of an image; None is the detector's own.
      metric: Average precision that chooses the best checkpoint: `map` is the area under the curve (VOC 2010 and
        later), `map_voc07` that of 11 points (VOC 2007).
      coco: Also report COCO's scores, by pycocotools; needs the extra `coco`.
    """

    crop: tuple[int, int] | None = None
    short_side: int | None = None
    long_side: int | None = None
    boxes: int = 100
    pad_multiple: int | None = 32
    score_threshold: float | None = None
    nms_threshold: float | None = None
    max_detections: int | None = None
    metric: Literal["map", "map_voc07"] = "map"
    coco: bool = False


@dataclasses.dataclass(frozen=True)
class DetectionConfig(RunConfig):
    """A detection run.

    Attributes: those of `RunConfig`, and
      four_steps: Train Faster R-CNN by the four steps of its paper, see `cvjax.tasks.detection.alternating`.
    """

    task: ClassVar[str] = "cvjax.tasks.detection.task:Detection"
    runner: ClassVar[str] = "cvjax.tasks.detection.alternating:train"

    model: ModelConfig = ModelConfig("fasterrcnn_resnet50_fpn")
    four_steps: bool = False

    input: DetectionData = DetectionData()
    eval: DetectionEval = DetectionEval()


@dataclasses.dataclass(frozen=True)
class StagedDetectionConfig(DetectionConfig):
    """A run in stages: fine-tuning, support vector machines, box regression; see `cvjax.tasks.detection.staged.run`.

    Attributes: those of `DetectionConfig`, for fine-tuning, and
      svm: How the support vector machines learn.
      penalty: Penalty of the ridge regression.
      near: IoU with an object from which a proposal learns to move onto it.
      images: Largest number of images that both learn from, evenly spread over the split; None takes all.
      most_pairs: Largest number of pairs of a class for the regression; a random subset is kept beyond it.
    """

    runner: ClassVar[str] = "cvjax.tasks.detection.staged.run:train"

    svm: SVMConfig = SVMConfig()
    penalty: float = 1000.0
    near: float = 0.6
    images: int | None = None
    most_pairs: int = 20_000
