"""This module has the parts of a run's configuration that all tasks share.

Every field is a flag: `--group.field value`.
"""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cvjax.data.config import DataConfig
from cvjax.engine.distributed import ClusterConfig
from cvjax.engine.modes import Mode
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.trackers import TrackerName

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Says how a split is scored.

    Attributes:
      batch_size: Number of examples a batch, over all devices and hosts.
    """

    batch_size: int = 8


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """Says what a run learns from a model that is trained already, its teacher.

    Attributes:
      teacher: Work folder of the teacher's run, a file of weights, or a name of published ones; None learns from labels
        alone.
      weight: Share of the teacher in the loss; the rest is that of the labels.
      temperature: Divisor of both nets' logits before they are compared (1503.02531).
      features: Layers of which the maps are to attend to the same places (attention transfer, 1612.03928): names as
        `cvjax inspect` lists them, such as backbone/stage4_2, or STUDENT=TEACHER where the two differ.
      feature_weight: Factor of each layer's loss, the squared distance of the normalized maps of attention.
    """

    teacher: str | None = None
    weight: float = 0.5
    temperature: float = 4.0
    features: tuple[str, ...] = ()
    feature_weight: float = 10.0


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Configures a run of any task.

    Attributes:
      model: Architecture and its options.
      workdir: Folder for everything that the run writes.
      data: Name of the dataset, or the path of a file or folder of one's own; `auto` takes the experiment's own where
        it is prepared or found, otherwise the embedded scenes.
      data_dir: Folder of prepared datasets; None is $CVJAX_DATA_DIR, otherwise a folder in the user's cache.
      steps: Length of the run, over which the learning rate decays; None follows from `epochs`.
      epochs: Length in passes over the training split, where `steps` is None.
      hours: Length in hours of the run's own time, in the place of `steps` and `epochs`; the learning rate then follows
        the share of that time that is used up.
      progress_from: `metrics.jsonl` of an earlier run with `hours`, whose share of the time at each step is taken in
        the place of the clock's, so that the run takes the same steps.
      batch_size: Number of examples a step, over all devices and hosts.
      find_batch_size: Take the largest batch that fits into the devices' memory in the place of `batch_size`; the
        learning rate stays as it is.
      seed: Seed of parameters, order of examples, augmentation and dropout; the same seed gives the same run.
      resume: Continue from the latest checkpoint in workdir, if there is one.
      parallel: Way to spread a step over devices: `jit` splits the batch over a mesh of all of them, `pmap` does so
        with a program for each; `fsdp` splits parameters, averages and the optimizer's memory as well, `spatial`
        the height of the images.
      spatial: Number of devices that share each image, with `parallel` spatial; None takes those of one host.
      sync_batch_norm: Take BatchNorm's statistics over all devices; False, with pmap, takes those of each device.
      aux_weight: Weight of each auxiliary head's loss, where the model has some.
      init: Weights of a warm start, for the backbone or the whole classifier: a name that
        `cvjax.weights.load_pretrained` knows; a file with a PyTorch state dict (.safetensors, .npz, .pth and what else
        PyTorch's are called; one of several in it as FILE::KEY); darknet's .weights, for YOLO and its classifiers; or
        the folder of another run or of one of its checkpoints, from which all layers that fit are taken (see
        `cvjax.weights.warm_start`).
      log_every: Number of steps between lines of the log; 0 shows none.
      eval_every: Number of steps between evaluations; the end of a run evaluates in any case, and 0 leaves it at that.
      patience: Number of evaluations without a better score after which the run ends; the best checkpoint is then what
        is reported. None goes on to the end.
      min_delta: Least gain of the score that counts as better, with `patience`.
      checkpoint_every: Number of steps between checkpoints; the end of a run saves in any case, and 0 leaves it at
        that.
      keep: Number of latest checkpoints that stay, beside the best.
      stall_minutes: Minutes for which a run may do nothing new before it ends and says what it waited for; 0 waits
        forever, and None is 30 in a run of several processes and 0 in others.
      trackers: Programs that take the figures of the run beside metrics.jsonl: `tensorboard`, `wandb`, `mlflow`,
        `trackio`.
      project: Name under which trackers gather runs.
      profile_steps: Steps `FIRST:LAST` that a profiler watches, both included, into `profile/` of the work folder.
      input: How examples are read and varied.
      optim: How parameters are updated.
      eval: How a split is scored.
      distill: What the run learns from a trained model beside the labels.
      cluster: Processes that make up the run.
    """

    task: ClassVar[str] = ""  # "module:Class" of the task, so that a configuration imports no task
    runner: ClassVar[str] = "cvjax.engine.run:train"  # "module:function" that runs such a configuration
    distiller: ClassVar[str] = "cvjax.tasks.distilling:open_teacher"  # that opens the teacher, of a task and its model

    model: Any = None
    workdir: str = ""
    data: str = "auto"
    data_dir: str | None = None
    steps: int | None = None
    epochs: float | None = None
    hours: float | None = None
    progress_from: str | None = None
    batch_size: int = 16
    find_batch_size: bool = False
    seed: int = 0
    resume: bool = False
    parallel: Mode = "jit"
    spatial: int | None = None
    sync_batch_norm: bool = True
    aux_weight: float = 0.4
    init: str | None = None
    log_every: int = 20
    eval_every: int = 1000
    patience: int | None = None
    min_delta: float = 0.0
    checkpoint_every: int = 500
    keep: int = 2
    stall_minutes: float | None = None
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    project: str = "cvjax"
    profile_steps: str | None = None
    input: DataConfig = DataConfig()
    optim: OptimizerConfig = OptimizerConfig()
    eval: EvalConfig = EvalConfig()
    distill: DistillConfig = DistillConfig()
    cluster: ClusterConfig = ClusterConfig()


def resolve(place: str) -> Any:
    """Imports the object that "module:name" names: the task or the runner of a configuration."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def as_json(value: Any) -> Any:
    """Returns a configuration as JSON holds it: dataclasses as objects, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.loads(json.dumps(value, default=str))


def by_flag(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of a configuration that `as_json` made by their flags, such as {"optim.learning-rate": 0.1}.

    A net's options are those of its flags: {"name", "options"} becomes `model.name` and `model.OPTION`.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name == "model" and isinstance(value, Mapping) and set(value) == {"name", "options"}:
            value = {"name": value["name"], **value["options"]}
        flag = prefix + name.replace("_", "-")
        found |= by_flag(value, f"{flag}.") if isinstance(value, Mapping) and value else {flag: value}
    return found


def from_json(value: Any) -> Any:
    """Turns lists back into tuples at every level, because the fields of Flax modules must be hashable."""
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if isinstance(value, dict):
        return {k: from_json(v) for k, v in value.items()}
    return value


def mistyped(config: Any, prefix: str = "") -> str | None:
    """Says which field of a configuration holds a value of another type than its own, or returns None.

    Values that come from a file are not checked by anything else.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        value, hint, name = getattr(config, field.name), hints[field.name], prefix + field.name
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found = mistyped(value, f"{name}.")
            if found is not None:
                return found
        if not _fits(value, hint):
            return f"{name} is {value!r}"
    return None


def _fits(value: Any, hint: Any) -> bool:
    kind, inside = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in inside
    if kind is tuple:
        each = inside[:1] * len(value) if inside[1:] == (...,) else inside
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
    if kind in (Union, UnionType):
        return any(_fits(value, item) for item in inside)
    if isinstance(hint, type) and kind is None:
        wanted = (int, float) if hint is float else hint
        return isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))
    return True  # a type that this does not know


def config_from_json(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Makes a configuration from the result of `as_json`.

    Args:
      kind: Class of the configuration; a subclass is made where `kind` lacks some of the fields and the subclass has
        all.
      values: Fields by name.

    Raises:
      TypeError: A field that no such class has.
    """
    fitting = [made for made in (kind, *kind.__subclasses__()) if set(values) <= {f.name for f in fields(made)}]
    chosen = fitting[0] if fitting else kind
    hints, made = get_type_hints(chosen), {}
    for name, value in values.items():
        nested = hints.get(name)
        restore = getattr(nested, "from_json", None)
        if restore is not None:
            made[name] = restore(value)
        elif isinstance(nested, type) and dataclasses.is_dataclass(nested) and isinstance(value, Mapping):
            made[name] = config_from_json(nested, value)
        else:
            made[name] = from_json(value)
    return chosen(**made)
