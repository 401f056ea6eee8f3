"""Typed configurations of a run. Every field is a flag: `--group.field value`."""

import dataclasses
import json
from typing import Annotated, Any, Literal

from tyro.constructors import PrimitiveConstructorSpec

from cvjax.engine.distributed import ClusterConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.parallel import Mode
from cvjax.tasks.classification.transforms import Cut, Interpolation
from cvjax.tasks.segmentation.crf import CRF_SYNTAX, CRFConfig, format_crf, parse_crf
from cvjax.tasks.segmentation.loss import LossOptions
from cvjax.tasks.segmentation.task import MapScoring

CRFFlag = Annotated[
    CRFConfig | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar=CRF_SYNTAX,
        instance_from_str=lambda words: None if words[0] == "None" else parse_crf(words[0]),
        is_instance=lambda value: value is None or isinstance(value, CRFConfig),
        str_from_instance=lambda value: ["None" if value is None else format_crf(value)],
    ),
]
"""A dense CRF as one word of a command line: `v1`, `v2`, `off`, or its numbers separated by commas."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which model. An experiment adds a field for each option of the architectures that it is about.

    Attributes:
      name: one of `cvjax.list_models()`.
      dtype: of the computation; parameters are float32 in any case. bfloat16 is right on TPU and recent GPUs.
    """

    name: str
    dtype: Literal["float32", "bfloat16"] = "float32"

    def options(self) -> dict[str, Any]:
        """The fields as keyword arguments of `cvjax.create_model`; None leaves a choice to the architecture."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "name"}
        return {name: value for name, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class ReadingConfig:
    """How examples of any task are read and varied.

    Attributes:
      train_split, eval_split: of the data set; `val` is what the set holds out, also where it is called otherwise.
      manual_dir: folder with archives, an unpacked devkit, or images in folders that the data set is made from.
      crop: height and width of training crops.
      flip: probability of mirroring.
      brightness, contrast, saturation: half-widths of the random factors around 1; 0 is off.
      repeats: times that an image is drawn in an epoch, varied differently, in one batch; an epoch then sees so much
        fewer of them (repeated augmentation, 1902.05509).
      workers: processes that decode; 0 decodes in threads of this process.
      on_bad_record: stop at a damaged record, or pass it over and count it.
    """

    train_split: str = "train"
    eval_split: str = "val"
    manual_dir: str | None = None
    crop: tuple[int, int] = (224, 224)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    repeats: int = 1
    workers: int = 0
    on_bad_record: Literal["error", "skip"] = "error"


@dataclasses.dataclass(frozen=True)
class ScoringConfig:
    """How a split is scored.

    Attributes:
      batch_size: over all devices and hosts.
    """

    batch_size: int = 8


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run of any task.

    Attributes:
      model, optim, cluster: see their classes.
      input, eval: how examples are read, and how they are scored.
      workdir: takes everything that the run writes.
      data: name of the data set; `auto` takes the experiment's own where it is prepared or found, else the embedded
        scenes.
      data_dir: where prepared data sets lie; None is $CVJAX_DATA_DIR, else a folder in the user's cache.
      steps: length of the run, over which the learning rate decays; None is as `epochs` says.
      epochs: length in passes over the training split, where `steps` is None.
      batch_size: over all devices and hosts.
      seed: the same seed gives the same run.
      resume: continue from the latest checkpoint in workdir, if there is one.
      parallel: `jit` over a mesh of all devices, or `pmap`.
      sync_batch_norm: statistics over all devices; False, with pmap, normalises per device.
      aux_weight: of each auxiliary head's loss, where the model has some.
      init: weights of the backbone, or of the whole classifier: a name that `cvjax.weights.load_pretrained` knows, or a
        file with a PyTorch state dict (.safetensors, .npz, or .pth with the torch extra). Or darknet's .weights, for
        YOLO and its classifiers. Or the folder of another run or of one of its checkpoints, of which all layers are
        taken that fit (see `cvjax.weights.inherit`).
      log_every, eval_every, checkpoint_every: in steps.
      keep: latest checkpoints that stay, beside the best.
    """

    model: ModelConfig
    workdir: str
    data: str = "auto"
    data_dir: str | None = None
    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 16
    seed: int = 0
    resume: bool = False
    parallel: Mode = "jit"
    sync_batch_norm: bool = True
    aux_weight: float = 0.4
    init: str | None = None
    log_every: int = 20
    eval_every: int = 1000
    checkpoint_every: int = 500
    keep: int = 2
    input: ReadingConfig = ReadingConfig()
    optim: OptimizerConfig = OptimizerConfig()
    eval: ScoringConfig = ScoringConfig()
    cluster: ClusterConfig = ClusterConfig()


@dataclasses.dataclass(frozen=True)
class InputConfig(ReadingConfig):
    """How images with masks are read and varied. What a crop reaches beyond its image is not trained on.

    The crop of a net without padding is what it sees: the mask is so much smaller as its logits are, and the
    surroundings that an image lacks are its mirror image.

    Attributes: those of `ReadingConfig`, and
      void: labels in the masks that mean "ignored", beside 255.
      resize: height and width that images are brought to first; None leaves them as they are.
      min_scale, max_scale, scale_step: of the random scale before the crop; step 0 draws from all between.
      mask_values: what a folder's masks hold for the classes, in their order, such as 0 255; empty for class numbers.
      flip_vertical: probability of mirroring top and bottom.
      rotate: turn by random multiples of 90 degrees; crops are then square.
      elastic: deviation of the random displacements on a grid of 3x3 nodes, in pixels; 10 in U-Net, 0 is off.
      border_weight: of pixels between two cells that touch, in the loss, beside their class's; 10 in U-Net, 0 is off.
      border_sigma: how fast that falls with the distances to both, in pixels.
      cells: the class whose connected components are these cells.
    """

    crop: tuple[int, int] = (513, 513)
    void: tuple[int, ...] = ()
    resize: tuple[int, int] | None = None
    min_scale: float = 0.5
    max_scale: float = 2.0
    scale_step: float = 0.25
    mask_values: tuple[int, ...] = ()
    flip_vertical: float = 0.0
    rotate: bool = False
    elastic: float = 0.0
    border_weight: float = 0.0
    border_sigma: float = 5.0
    cells: int = 1


@dataclasses.dataclass(frozen=True)
class EvalConfig(MapScoring, ScoringConfig):
    """How a split with masks is scored. Every pixel counts at the image's native size.

    Attributes: those of `ScoringConfig` and of `MapScoring`, and
      pad_multiple: images are padded to sides that are multiples of it, and those alike share a batch: each shape
        compiles once. None pads all to one shape, as the papers' evaluation does. Images of a net without padding are
        not padded.
      scales: the image at each of these, probabilities averaged.
      flip: add the mirrored image at each scale.
      window: height and width of a sliding window, or of the logits of a tile of a net without padding; None sees the
        image whole.
      overlap: fraction of a window shared with the next.
      em_thresholds: of the probability of `input.cells`, at which pixel, Rand and warping error are counted, each
        reported at its best (see `cvjax.tasks.segmentation.membranes`); empty counts none.
    """

    pad_multiple: int | None = 64
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3
    crf: CRFFlag = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.crf, dict):  # as a checkpoint has it
            object.__setattr__(self, "crf", CRFConfig(**self.crf))


@dataclasses.dataclass(frozen=True)
class SegmentationConfig(LossOptions, RunConfig):
    """A segmentation run.

    Attributes: those of `RunConfig` and of `LossOptions`, and
      loss_stride: the loss looks at every n-th pixel of every n-th row.
      normalize_loss: divide the loss by the pixels that it sums over; False leaves the sum over an image (FCN).
      class_balance: power of median frequency balancing in the loss; 0 weighs all pixels alike, 1 all classes.
    """

    steps: int | None = 30_000
    loss_stride: int = 1
    normalize_loss: bool = True
    class_balance: float = 0.0
    input: InputConfig = InputConfig()
    eval: EvalConfig = EvalConfig()


@dataclasses.dataclass(frozen=True)
class ClassificationInput(ReadingConfig):
    """How labelled images are read and varied.

    Attributes: those of `ReadingConfig`, and
      cut: `resized` cuts pieces of random area and shape and resizes them; `padded` cuts pieces of the crop's size
        from the image with a border.
      min_area: smallest piece as a fraction of the image; `resized` alone.
      max_aspect: most that a piece is wider than high, or higher than wide; `resized` alone.
      padding: width of the border in pixels; `padded` alone.
      interpolation: for enlarging, and for the resizing before an evaluation's crop.
      policy: RandAugment, TrivialAugment, or AutoAugment as found for ImageNet.
      num_ops, magnitude: of RandAugment; the magnitude from 0 to 30.
      erase: probability of erasing a rectangle.
      pca_noise: standard deviation of AlexNet's colour noise; 0.1 in the paper.
    """

    cut: Cut = "resized"
    min_area: float = 0.08
    max_aspect: float = 4 / 3
    padding: int = 4
    interpolation: Interpolation = "bilinear"
    policy: Literal["rand", "trivial", "auto"] | None = None
    num_ops: int = 2
    magnitude: int = 9
    erase: float = 0.0
    pca_noise: float = 0.0


@dataclasses.dataclass(frozen=True)
class ClassificationEval(ScoringConfig):
    """How a split with labels is scored: on the middle of each image, or on ten crops of it.

    Attributes: those of `ScoringConfig`, and
      crop: height and width of what the net sees; None is the training crop's.
      resize: length that the image's shorter side is brought to before; None is the crop's longer side.
      crops: `centre`, or `ten`: the corners and the middle of the square of `resize` pixels, each also mirrored, their
        probabilities averaged (AlexNet).
    """

    batch_size: int = 64
    crop: tuple[int, int] | None = None
    resize: int | None = None
    crops: Literal["centre", "ten"] = "centre"


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(RunConfig):
    """A classification run.

    Attributes: those of `RunConfig`, and
      label_smoothing: share of the target that is spread evenly over all classes.
      mixup, cutmix: parameter of the Beta distribution that neighbours are mixed by; 0 is off. With both, each pair
        takes one of them.
    """

    aux_weight: float = 0.3
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    input: ClassificationInput = ClassificationInput()
    eval: ClassificationEval = ClassificationEval()


def as_json(value: Any) -> Any:
    """A configuration as JSON holds it: dataclasses as objects, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.loads(json.dumps(value, default=str))


def from_json(value: Any) -> Any:
    """Lists back to tuples, all the way down: Flax modules want their fields hashable."""
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if isinstance(value, dict):
        return {k: from_json(v) for k, v in value.items()}
    return value
