"""Typed configurations of a run. Every field is a flag: `--group.field value`."""

import dataclasses
import json
from typing import Any, Literal

from cvjax.training.distributed import ClusterConfig
from cvjax.training.optimizer import OptimizerConfig
from cvjax.training.parallel import Mode


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
class InputConfig:
    """How examples are read and varied.

    Attributes:
      train_split, eval_split: of the data set.
      manual_dir: folder with archives or an unpacked devkit that the data set is made from.
      void: labels in the masks that mean "ignored", beside 255.
      resize: height and width that images are brought to first; None leaves them as they are.
      crop: height and width of training crops; what an image lacks is filled with the mean, and not trained on.
      min_scale, max_scale, scale_step: of the random scale before the crop; step 0 draws from all between.
      flip: probability of mirroring.
      brightness, contrast, saturation: half-widths of the random factors around 1; 0 is off.
      workers: processes that decode; 0 decodes in threads of this process.
      on_bad_record: stop at a damaged record, or pass it over and count it.
    """

    train_split: str = "train"
    eval_split: str = "val"
    manual_dir: str | None = None
    void: tuple[int, ...] = ()
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] = (513, 513)
    min_scale: float = 0.5
    max_scale: float = 2.0
    scale_step: float = 0.25
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    workers: int = 0
    on_bad_record: Literal["error", "skip"] = "error"


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """How a split is scored. Every pixel counts at the image's native size.

    Attributes:
      batch_size: over all devices and hosts.
      pad_multiple: images are padded to sides that are multiples of it, and those alike share a batch: each shape
        compiles once. None pads all to one shape, as the papers' evaluation does.
      scales: the image at each of these, probabilities averaged.
      flip: add the mirrored image at each scale.
      window: height and width of a sliding window; None sees the image whole.
      overlap: fraction of a window shared with the next.
    """

    batch_size: int = 8
    pad_multiple: int | None = 64
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 1 / 3


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """A segmentation run.

    Attributes:
      model, input, optim, eval, cluster: see their classes.
      workdir: takes everything that the run writes.
      data: name of the data set; `auto` takes VOC where it is prepared or found, else the embedded scenes.
      data_dir: where prepared data sets lie; None is $CVJAX_DATA_DIR, else a folder in the user's cache.
      steps: length of the run, over which the learning rate decays.
      batch_size: over all devices and hosts.
      seed: the same seed gives the same run.
      resume: continue from the latest checkpoint in workdir, if there is one.
      parallel: `jit` over a mesh of all devices, or `pmap`.
      sync_batch_norm: statistics over all devices; False, with pmap, normalises per device.
      aux_weight: of the auxiliary head's loss, where the model has one.
      jaccard_weight: of the soft Jaccard loss beside the cross entropy; 0 is the papers' cross entropy alone.
      loss_stride: the loss looks at every n-th pixel of every n-th row.
      class_balance: power of median frequency balancing in the loss; 0 weighs all pixels alike, 1 all classes.
      init: weights of the backbone: a name that `cvjax.weights.load_pretrained` knows, or a file with a PyTorch state
        dict (.safetensors, .npz, or .pth with the torch extra).
      log_every, eval_every, checkpoint_every: in steps.
      keep: latest checkpoints that stay, beside the best.
    """

    model: ModelConfig
    workdir: str
    data: str = "auto"
    data_dir: str | None = None
    steps: int = 30_000
    batch_size: int = 16
    seed: int = 0
    resume: bool = False
    parallel: Mode = "jit"
    sync_batch_norm: bool = True
    aux_weight: float = 0.4
    jaccard_weight: float = 0.0
    loss_stride: int = 1
    class_balance: float = 0.0
    init: str | None = None
    log_every: int = 20
    eval_every: int = 1000
    checkpoint_every: int = 500
    keep: int = 2
    input: InputConfig = InputConfig()
    optim: OptimizerConfig = OptimizerConfig()
    eval: EvalConfig = EvalConfig()
    cluster: ClusterConfig = ClusterConfig()


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
