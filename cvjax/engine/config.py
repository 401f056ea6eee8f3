"""Configurations of a run that all tasks share. Every field is a flag: `--group.field value`."""

import dataclasses
import json
from typing import Any, Literal

from cvjax.engine.distributed import ClusterConfig
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.parallel import Mode


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
class DataConfig:
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
class EvalConfig:
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
    input: DataConfig = DataConfig()
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
