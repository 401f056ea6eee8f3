"""Defines the configurations of detection runs."""

import dataclasses
from typing import ClassVar, Literal

from cvjax.engine.config import EvalConfig, RunConfig
from cvjax.models.config import ModelConfig
from cvjax.tasks.detection.staged.svm import SVMConfig
from cvjax.tasks.detection.transforms import DetectionData


@dataclasses.dataclass(frozen=True)
class DetectionEval(EvalConfig):
    """Configures how a split with boxes is scored, on whole images.

    Attributes: those of `EvalConfig`, and
      crop: Height and width of the model's input, in pixels; None takes those of training.
      short_side: Length in pixels to which the image's shorter side is resized; None takes that of training.
      long_side: Largest length of the image's longer side, in pixels; None takes that of training.
      boxes: Largest number of boxes that an image may have.
      pad_multiple: Divisor of the sides of padded images, if there is a short side. Images of one padded size share a
        batch, and each size compiles once. None pads all images to one size.
      score_threshold: Score that a detection must exceed; None takes the detector's own.
      nms_threshold: IoU of two detections of a class above which the one with the lower score is dropped; None takes
        the detector's own.
      max_detections: Largest number of detections per image; None takes the detector's own.
      metric: Average precision that chooses the best checkpoint. `map` is the area under the curve (VOC 2010 and
        later), `map_voc07` is the mean over 11 points (VOC 2007).
      coco: Whether to report COCO's scores too, by pycocotools; needs the extra `coco`.
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
    """Configures a detection run.

    Attributes: those of `RunConfig`, and
      four_steps: Whether to train Faster R-CNN by the four steps of its paper, see `cvjax.tasks.detection.alternating`.
    """

    task: ClassVar[str] = "cvjax.tasks.detection.task:Detection"
    runner: ClassVar[str] = "cvjax.tasks.detection.alternating:train"

    model: ModelConfig = ModelConfig("fasterrcnn_resnet50_fpn")
    four_steps: bool = False

    input: DetectionData = DetectionData()
    eval: DetectionEval = DetectionEval()


@dataclasses.dataclass(frozen=True)
class StagedDetectionConfig(DetectionConfig):
    """Configures a run in stages: fine-tuning, SVMs, and box regression; see `cvjax.tasks.detection.staged.run`.

    Attributes: those of `DetectionConfig`, for fine-tuning, and
      svm: Options of the SVMs.
      penalty: Penalty of the ridge regression.
      near: IoU with an object above which a proposal trains the box regression.
      images: Largest number of images for the SVMs and the regression, evenly spread over the split; None takes all.
      most_pairs: Largest number of pairs per class for the regression; a random subset is kept beyond it.
    """

    runner: ClassVar[str] = "cvjax.tasks.detection.staged.run:train"

    svm: SVMConfig = SVMConfig()
    penalty: float = 1000.0
    near: float = 0.6
    images: int | None = None
    most_pairs: int = 20_000
