"""A run of any task: from a configuration to a trained, scored and pictured model."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from rich.console import Console

from cvjax.data.dataset import Source, Target
from cvjax.data.loader import Augment, Decode, Fit, HostShard, eval_batches, train_batches
from cvjax.data.order import Planned
from cvjax.datasets.registry import open_source
from cvjax.engine.checkpoint import read_stored_variables
from cvjax.engine.config import DataConfig, EvalConfig, RunConfig, as_json
from cvjax.engine.distributed import initialize
from cvjax.engine.evaluate import evaluate
from cvjax.engine.log import METRICS_FILE
from cvjax.engine.loop import LoopConfig, Outcome, fit
from cvjax.engine.parallel import Strategy, check_divides, make_strategy
from cvjax.engine.state import TrainState, init_variables
from cvjax.engine.step import make_eval_step
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.runtime.compiler import compiler_options
from cvjax.tasks.images import ImageTask
from cvjax.visual.curves import plot_curves
from cvjax.weights import inherit, read_darknet, read_weights

Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the runs of one task have of their own.

    Attributes:
      name: of the task, as checkpoints say it.
      target: what its records hold beside the image.
      task: its class; an instance is rebuilt from a checkpoint.
      input, scoring: classes of its configurations of reading and of scoring.
      make_task: (config, training source) -> the task.
      decode: (task, reading) -> from a record to arrays.
      augment: (reading, task) -> from a decoded example to a training crop.
      plan: (source, task, scoring, reading) -> what brings examples to an evaluation's size, and which share a batch.
      predict: (model, scoring, reading) -> from variables and normalised images to what `task.evaluate` takes.
      load_weights: (variables, PyTorch state dict, model name) -> variables.
      show: (report) -> what the terminal shows of it: a table and one line.
      draw: (folder, model, task, variables, source, config, report) -> writes pictures; names of the files.
      score_as: (task, scoring) -> the task with the scores that its evaluation is to have.
      draw_scores: (folder, task, report) -> writes pictures of a report alone; names of the files. None: it has none.
      attach: (source, reading, data_dir) -> the source with what else its records need.
      applied: (model) -> what is made by its `init` and trained on the task's inputs by its `apply`, where the model's
        own call is not.
    """

    name: str
    target: Target
    task: type[ImageTask]
    input: type[DataConfig]
    scoring: type[EvalConfig]
    make_task: Callable[[Any, Source], Any]
    decode: Callable[[Any, Any], Decode]
    augment: Callable[[Any, Any], Augment]
    plan: Callable[[Source, Any, Any, Any], tuple[Fit, Sequence[Planned] | None]]
    predict: Callable[[nn.Module, Any, Any], Callable[[Any, jax.Array], jax.Array]]
    load_weights: Callable[[Variables, dict[str, np.ndarray], str], Variables]
    show: Callable[[dict[str, Any]], tuple[Any, str]]
    draw: Callable[..., list[str]]
    score_as: Callable[[Any, Any], Any] = lambda task, scoring: task
    draw_scores: Callable[[pathlib.Path, Any, dict[str, Any]], list[str]] | None = None
    attach: Callable[[Source, Any, str | None], Source] = lambda source, reading, data_dir: source
    applied: Callable[[nn.Module], Any] = lambda model: model


def train(config: RunConfig, kind: Kind) -> Outcome:
    """Trains, evaluates, and writes checkpoints, figures and pictures into `config.workdir`.

    Every process of a cluster calls this with the same configuration.

    Raises:
      UserError: any of the mistakes that a person can make; the message says which, and the way out.
    """
    initialize(config.cluster)
    console = Console()
    main_host = jax.process_index() == 0
    if not config.sync_batch_norm and config.parallel != "pmap":
        raise ConfigError(
            "per-device BatchNorm exists under pmap only; add --parallel pmap, or drop --no-sync-batch-norm"
        )
    strategy = make_strategy(config.parallel, config.batch_size)
    train_source = open_split(config, config.input.train_split, kind)
    eval_source = open_split(config, config.input.eval_split, kind)
    config = with_steps(config, len(train_source))
    task = kind.make_task(config, train_source)
    kind.augment(config.input, task)  # says now what is wrong with it, not once the data flows
    axis_name = strategy.axis_name if config.sync_batch_norm else None
    model = create_model(config.model.name, num_classes=task.num_classes, axis_name=axis_name, **config.model.options())
    initialize_model = functools.partial(init_variables, kind.applied(model), image_shape=(*config.input.crop, 3))
    options = compiler_options(jax.devices()[0].platform, once=True)
    variables = jax.jit(initialize_model, compiler_options=options)(jax.random.key(config.seed))
    if config.init is not None:
        variables = start_from(config, kind, variables)
    info = describe(config, kind, task, train_source)
    workdir = pathlib.Path(config.workdir)
    if main_host:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "config.json").write_text(json.dumps(info, indent=2) + "\n")
        console.print(
            f"{config.model.name} on {train_source.name}: {len(train_source)} training and {len(eval_source)}"
            f" {eval_source.split} images, {config.steps} steps of {config.batch_size}, {strategy.device_count}"
            f" {jax.devices()[0].platform} device(s), into {workdir}",
            highlight=False,
            soft_wrap=True,
        )
    outcome = fit(
        kind.applied(model),
        task,
        variables,
        functools.partial(train_stream, config, kind, task, train_source),
        make_evaluator(kind, model, task, eval_source, config.eval, config.input, strategy),
        config=LoopConfig(
            steps=config.steps,
            batch_size=config.batch_size,
            log_every=config.log_every,
            eval_every=config.eval_every,
            checkpoint_every=config.checkpoint_every,
            keep=config.keep,
            seed=config.seed,
        ),
        optim=config.optim,
        strategy=strategy,
        workdir=workdir,
        info=info,
        resume=config.resume,
        local_batch_norm=not config.sync_batch_norm,
        example_name=lambda index: str(train_source[index]["id"]),
    )
    if main_host and outcome.report is not None and not outcome.stopped:
        final = strategy.fetch(outcome.state).inference_variables
        plot_curves(workdir / METRICS_FILE, workdir / "curves.png")
        show_results(config, kind, model, task, final, eval_source, outcome.report, console)
    return outcome


def show_results(
    config: RunConfig,
    kind: Kind,
    model: nn.Module,
    task: ImageTask,
    variables: Variables,
    source: Source,
    report: dict[str, Any],
    console: Console,
) -> None:
    """Prints a report, and writes it and the pictures of a model into the configured folder.

    Args:
      config: of the run.
      kind: of its task.
      model, task, variables: what was scored.
      source: on what.
      report: the scores.
      console: takes the table.
    """
    workdir = pathlib.Path(config.workdir)
    console.print(kind.show(report)[0])
    (workdir / "report.json").write_text(json.dumps(plain(report), indent=2) + "\n")
    files = kind.draw(workdir, model, task, variables, source, config, report)
    files += [name for name in ("curves.png",) if (workdir / name).exists()]
    console.print(f"written: {workdir}/{', '.join(files)}", highlight=False, soft_wrap=True)


def start_from(config: RunConfig, kind: Kind, variables: Variables) -> Variables:
    """Fresh variables with the weights that `config.init` names: another run's checkpoint, PyTorch's, or darknet's.

    Raises:
      CheckpointError: there are none, or they do not fit.
    """
    if pathlib.Path(config.init).is_dir():
        return inherit(variables, read_stored_variables(config.init))
    if config.init.endswith(".weights"):  # maybe of the first layers alone, as those that training starts from
        return read_darknet(config.init, variables, grid=getattr(config.model, "grid", None), partial=True)
    weights = read_weights(config.init, data_dir=config.data_dir)
    return kind.load_weights(variables, weights, config.model.name)


def open_split(config: RunConfig, split: str, kind: Kind) -> Source:
    """A split of the configured data set, opened where the configuration says it lies."""
    return open_for(kind, config.data, split, config.input, config.data_dir)


def open_for(kind: Kind, name: str, split: str, reading: DataConfig, data_dir: str | None) -> Source:
    """A split of a data set as the runs of a kind read it; both training and the evaluate command open it here.

    Args:
      kind: what is asked of its records.
      name: of the data set.
      split: of it.
      reading: where it lies, and what its records need.
      data_dir: where prepared sets lie.
    """
    source = open_source(
        name,
        split,
        target=kind.target,
        data_dir=data_dir,
        manual_dir=reading.manual_dir,
        **source_options(name, reading),
    )
    return kind.attach(source, reading, data_dir)


def source_options(name: str, reading: DataConfig) -> dict[str, Any]:
    """What a configuration of reading says to the opener of a data set.

    Raises:
      ConfigError: values of masks that are not a folder's.
    """
    values = getattr(reading, "mask_values", ())
    if values and name != "image_folder_segmentation":
        raise ConfigError(
            f"input.mask_values are of image_folder_segmentation, and the data set is {name}; leave them out"
        )
    options = {"values": values} if values else {}
    if hasattr(reading, "on_bad_boxes"):
        options["on_bad_boxes"] = reading.on_bad_boxes
    return options


def with_steps(config: RunConfig, examples: int) -> RunConfig:
    """The configuration with its length in steps, where that is given in passes over the training split.

    Raises:
      ConfigError: neither is given.
    """
    if config.steps is not None:
        return config
    if not config.epochs:
        raise ConfigError("the run has no length; give --steps or --epochs")
    return dataclasses.replace(config, steps=max(1, math.ceil(config.epochs * examples / config.batch_size)))


def train_stream(
    config: RunConfig, kind: Kind, task: ImageTask, source: Source, start: int
) -> Iterator[dict[str, np.ndarray]]:
    """This host's rows of the endless stream of training batches, from batch `start` on."""
    reading = config.input
    return train_batches(
        source,
        kind.decode(task, reading),
        kind.augment(reading, task),
        batch_size=config.batch_size,
        seed=config.seed,
        repeats=reading.repeats,
        start=start,
        target=kind.target,
        **_loading(reading),
    )


def make_evaluator(
    kind: Kind,
    model: nn.Module,
    task: ImageTask,
    source: Source,
    scoring: EvalConfig,
    reading: DataConfig,
    strategy: Strategy,
) -> Callable[[TrainState | Variables], dict[str, Any]]:
    """A function that scores a placed state (or placed variables) on a whole split.

    The training loop and the evaluate command both score with this.

    Raises:
      ConfigError: the batch does not divide over the devices.
    """
    check_divides(scoring.batch_size, strategy.device_count, "eval.batch_size")
    task = kind.score_as(task, scoring)
    batches = whole_split(kind, task, source, scoring, reading)
    step = strategy.compile_eval(make_eval_step(kind.predict(model, scoring, reading), task, strategy.axis_name))

    def score(state: TrainState | Variables) -> dict[str, Any]:
        variables = state.inference_variables if isinstance(state, TrainState) else state
        return evaluate(step, variables, batches(), task, strategy)

    return score


def whole_split(
    kind: Kind, task: ImageTask, source: Source, scoring: EvalConfig, reading: DataConfig
) -> Callable[[], Iterator[dict[str, np.ndarray]]]:
    """A function that gives this host's batches of every example once, as an evaluation sees them.

    What shares a batch is decided here, so that each pass need not look at the images' sizes again.
    """
    transform, plan = kind.plan(source, task, scoring, reading)
    return lambda: eval_batches(
        source,
        kind.decode(task, reading),
        transform,
        batch_size=scoring.batch_size,
        plan=plan,
        target=kind.target,
        **_loading(reading),
    )


def describe(config: RunConfig, kind: Kind, task: ImageTask, source: Source) -> dict[str, Any]:
    """What a run records of itself, in config.json and in each checkpoint; enough to evaluate and predict."""
    reading = as_json(config.input)
    for unrelated in ("workers", "eval_split"):  # may change when a run is resumed
        reading.pop(unrelated)
    return as_json(
        {
            "model": {"name": config.model.name, "options": config.model.options()},
            "task": {"kind": kind.name, **dataclasses.asdict(task)},
            "data": {
                "name": source.name,
                "examples": len(source),
                "seed": config.seed,
                "batch_size": config.batch_size,
                **reading,
            },
            "run": as_json(config),
        }
    )


def fill_colour(task: ImageTask) -> tuple[int, int, int]:
    """The colour of padded pixels: the mean, which normalises to about zero."""
    return tuple(round(c) for c in task.mean)


def plain(report: dict[str, Any]) -> dict[str, Any]:
    """A report without its arrays, as JSON holds it."""
    return {key: value for key, value in report.items() if not isinstance(value, np.ndarray)}


def _loading(reading: DataConfig) -> dict[str, Any]:
    return {
        "workers": reading.workers,
        "shard": HostShard(jax.process_index(), jax.process_count()),
        "on_bad_record": reading.on_bad_record,
    }
