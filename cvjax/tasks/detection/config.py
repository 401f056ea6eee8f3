"""Configurations of detection runs, and how images with boxes come to the size that a detector sees."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

from cvjax.data.annotations import OnBadBoxes
from cvjax.data.dataset import Source
from cvjax.data.order import Planned
from cvjax.datasets.proposals.boxes import Mode, ProposalConfig
from cvjax.datasets.proposals.files import ProposalSet, attach, prepare_proposals
from cvjax.engine.config import DataConfig, EvalConfig, RunConfig
from cvjax.engine.run import fill_colour
from cvjax.tasks.detection.task import Detection
from cvjax.tasks.detection.transforms import BoxEvalTransform, BoxTrainTransform, MultiScale, plan_boxes


@dataclasses.dataclass(frozen=True)
class DetectionData(DataConfig):
    """How images with boxes are read and varied.

    Attributes: those of `DataConfig`, `crop` being height and width of what the net sees, and
      sizes: in place of `crop`, several of which each batch takes one at random (multi-scale training); empty is off.
      short_side, long_side: length that the image's shorter side is brought to, and that its longer side may not
        exceed; None fills `crop`.
      keep_aspect: False stretches images to `crop` (YOLO).
      boxes: of an image in a batch; of more objects, as many at random.
      proposals: of an image in a batch, in training and evaluation, for detectors that find none of their own; 0 for
        those that do. What is missing on disk is made before the run.
      proposal_mode: how they are made, see `cvjax.datasets.proposals.boxes`.
      proposals_from: folder of sets DATASET/SPLIT to take instead, see `cvjax.datasets.proposals.files`.
      exposure, hsv_saturation: largest factor by which brightness and saturation go up or down in the colours of HSV,
        as YOLO has it; 1 is off.
      on_bad_boxes: stop at a box that is empty, inverted or outside its image, or leave it out and count it.
      random_crop: probability of cutting a random piece before all else.
      min_area, max_aspect: of that piece, relative to the image's.
      min_scale, max_scale: how many times larger objects come out.
      shift: the centre moves by up to this fraction of the sides.
      keep_boxes: a box of which a smaller fraction is left is dropped.
    """

    crop: tuple[int, int] = (512, 512)
    sizes: tuple[tuple[int, int], ...] = ()
    short_side: int | None = None
    long_side: int | None = None
    keep_aspect: bool = True
    boxes: int = 64
    proposals: int = 0
    proposal_mode: Mode = "fast"
    proposals_from: str | None = None
    exposure: float = 1.0
    hsv_saturation: float = 1.0
    on_bad_boxes: OnBadBoxes = "error"
    random_crop: float = 0.0
    min_area: float = 0.3
    max_aspect: float = 2.0
    min_scale: float = 1.0
    max_scale: float = 1.0
    shift: float = 0.0
    keep_boxes: float = 0.25


@dataclasses.dataclass(frozen=True)
class DetectionEval(EvalConfig):
    """How a split with boxes is scored, each image whole.

    Attributes: those of `EvalConfig`, and
      crop, short_side, long_side: see `DetectionData`; None are those of training.
      boxes: the most that an image may have.
      pad_multiple: with a short side, images are padded to sides that are multiples of it, and those alike share a
        batch: each shape compiles once. None pads all to one shape.
      score_threshold, nms_threshold, max_detections: of the detector, see `POSTPROCESSING`; None are its own.
      metric: average precision that chooses the best checkpoint: `map` is the area, `map_11` that of 11 points.
      coco: also COCO's scores; needs the extra `coco`.
    """

    crop: tuple[int, int] | None = None
    short_side: int | None = None
    long_side: int | None = None
    boxes: int = 100
    pad_multiple: int | None = 32
    score_threshold: float | None = None
    nms_threshold: float | None = None
    max_detections: int | None = None
    metric: Literal["map", "map_11"] = "map"
    coco: bool = False


@dataclasses.dataclass(frozen=True)
class DetectionConfig(RunConfig):
    """A detection run. Attributes: those of `RunConfig`."""

    input: DetectionData = DetectionData()
    eval: DetectionEval = DetectionEval()


def train_transform(reading: DetectionData, task: Detection) -> BoxTrainTransform | MultiScale:
    """The configured crop, scale, shift and mirroring.

    Raises:
      ConfigError: a value outside its range.
    """
    transform = BoxTrainTransform(
        size=reading.crop,
        max_boxes=reading.boxes,
        max_proposals=reading.proposals,
        short_side=reading.short_side,
        long_side=reading.long_side,
        keep_aspect=reading.keep_aspect,
        fill=fill_colour(task),
        crop=reading.random_crop,
        min_area=reading.min_area,
        max_aspect=reading.max_aspect,
        min_scale=reading.min_scale,
        max_scale=reading.max_scale,
        shift=reading.shift,
        flip=reading.flip,
        keep=reading.keep_boxes,
    )
    return MultiScale(transform, reading.sizes) if reading.sizes else transform


def eval_transform(task: Detection, scoring: DetectionEval, reading: DetectionData) -> BoxEvalTransform:
    """What brings whole images to the configured size.

    Raises:
      ConfigError: a value outside its range.
    """
    return BoxEvalTransform(
        size=scoring.crop or reading.crop,
        max_boxes=scoring.boxes,
        max_proposals=reading.proposals,
        short_side=scoring.short_side or reading.short_side,
        long_side=scoring.long_side or reading.long_side,
        keep_aspect=reading.keep_aspect,
        fill=fill_colour(task),
    )


def plan(
    source: Source, task: Detection, scoring: DetectionEval, reading: DetectionData
) -> tuple[BoxEvalTransform, Sequence[Planned]]:
    """Padding, and batches of images alike in size."""
    transform = eval_transform(task, scoring, reading)
    return transform, plan_boxes(source, transform, scoring.batch_size, scoring.pad_multiple)


def proposal_config(reading: DetectionData) -> ProposalConfig:
    """How the configured proposals are made."""
    return ProposalConfig(mode=reading.proposal_mode, limit=reading.proposals)


def with_proposals(source: Source, reading: DetectionData, data_dir: str | None) -> Source:
    """The source, with proposals in its records where the configuration asks for some; they are made if need be.

    Raises:
      ConfigError: the mode's package is missing.
      DataError: an image cannot be read.
    """
    if not reading.proposals:
        return source
    if reading.proposals_from:
        return attach(source, ProposalSet(pathlib.Path(reading.proposals_from) / source.name / source.split))
    return attach(source, prepare_proposals(source, proposal_config(reading), data_dir))
