"""This module runs any task: from a configuration to a trained, scored and pictured model."""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from flax import linen as nn
from rich.console import Console

from cvjax.data.config import recorded
from cvjax.data.dataset import Dataset
from cvjax.data.drawing.balance import shares_of
from cvjax.data.drawing.fraction import take_fraction
from cvjax.data.identity import identity_of
from cvjax.data.loader import train_batches
from cvjax.data.order import ONE_HOST, HostShard
from cvjax.datasets.registry import said_name
from cvjax.engine.config import RunConfig, as_json, resolve
from cvjax.engine.distributed import (
    check_device_counts,
    check_same_on_hosts,
    ending_together,
    initialize,
)
from cvjax.engine.evaluate import make_evaluator, plain
from cvjax.engine.guards.facts import host_facts
from cvjax.engine.guards.hosts import HostWatch, watched
from cvjax.engine.guards.limits import check_limits
from cvjax.engine.guards.lock import one_run
from cvjax.engine.guards.pulse import Pulse
from cvjax.engine.guards.terminal import make_console
from cvjax.engine.log import METRICS_FILE
from cvjax.engine.loop import Outcome, fit
from cvjax.engine.pacing.batch_search import with_found_batch
from cvjax.engine.pacing.pace import check_pace, length_in_words
from cvjax.engine.parallel import Strategy, make_strategy
from cvjax.engine.profile import steps_of
from cvjax.engine.step import check_cuts
from cvjax.engine.task import Report, Task, Variables, open_teacher
from cvjax.engine.trackers import check_trackers
from cvjax.engine.version01 import FORMAT
from cvjax.errors import ConfigError, UserError
from cvjax.files import write_json
from cvjax.runtime.drawing import draw
from cvjax.storage import AnyPath, as_path, written_folder
from cvjax.visual.curves import plot_curves

Config = TypeVar("Config", bound=RunConfig)


def result_of(config: RunConfig, outcome: Outcome) -> dict[str, Any]:
    """Returns what a run came to, as `--json` writes it: its folder, its last step, and the report of the task."""
    report = None if outcome.report is None else plain(outcome.report)
    return {"workdir": config.workdir, "step": outcome.step, "stopped": outcome.stopped, "report": report}


def train(config: RunConfig) -> Outcome:
    """Trains, evaluates, and writes checkpoints, figures and pictures into `config.workdir`.

    Every process of a cluster calls this with the same configuration.

    Raises:
      UserError: Any of the mistakes that a person can make; the message names it and the way out.
    """
    check_run(config)
    pulse = Pulse()
    watch = initialize(config.cluster, pulse)
    with contextlib.nullcontext() if watch is None else watched(watch):
        check_device_counts()
        with one_run(as_path(config.workdir)):
            return _train(config, pulse, watch)


def check_run(config: RunConfig) -> None:
    """Checks what a configuration alone tells, before anything is read or written.

    Raises:
      ConfigError: There is no work folder, a URL is of no known kind, a number lies outside of its limits, or the
        steps of a profile are none.
    """
    if not config.workdir:
        raise ConfigError("the run has no folder to write into; give workdir, such as runs/NAME")
    for place in (config.workdir, config.data_dir, config.init, config.distill.teacher):
        if place:
            as_path(place)
    if config.init == "":
        raise ConfigError("--init is empty; name weights, a file or a run's folder, or leave it out")
    steps_of(config.profile_steps)
    check_trackers(config.trackers)
    check_limits(config)
    check_pace(config)


def _train(config: RunConfig, pulse: Pulse, watch: HostWatch | None) -> Outcome:
    task_class = resolve(config.task)
    with ending_together():
        strategy = checked_strategy(config)
        train_set = training_split(task_class, config)
        eval_set = task_class.open(config, config.input.eval_split)
        facts = host_facts(config, train_set, eval_set) if jax.process_count() > 1 else {}
    check_same_on_hosts(facts)
    with ending_together():
        if config.find_batch_size:
            config = with_found_batch(with_steps(config, len(train_set)), task_class, train_set, strategy)
        config = with_steps(config, len(train_set))
        model = config.model.build(num_classes=len(train_set.class_names))
        task = task_class.create(config, train_set, model)
        scoring, eval_set = task.matched(eval_set)
        task.train_transform()  # says now what is wrong with its settings, not once the data flows
        variables = initial_variables(task, model)
        teacher = open_teacher(task, model)
        shares = shares_of(config.input, train_set)
        metadata = run_metadata(task, train_set)
    notes, workdir = make_console(note=True), as_path(config.workdir)
    where = said_name(train_set.name, config.input.manual_dir)
    main_host = jax.process_index() == 0

    def begin() -> None:
        if main_host:
            write_json(workdir / "config.json", metadata)
            notes.print(
                f"{config.model.name} on {where}: {len(train_set)} training and {len(eval_set)}"
                f" {eval_set.split} images, {length_in_words(config)} of {config.batch_size}, {strategy.device_count}"
                f" {jax.devices()[0].platform} device(s), into {workdir}",
                soft_wrap=True,
            )

    outcome = fit(
        config,
        task,
        model,
        variables,
        functools.partial(train_stream, task, train_set, shard=strategy.shard, shares=shares),
        make_evaluator(scoring, model, eval_set, strategy, pulse.alive),
        strategy=strategy,
        metadata=metadata,
        example_name=lambda index: str(train_set[index]["id"]),
        begin=begin,
        pulse=pulse,
        hosts=watch,
        teacher=teacher,
    )
    if outcome.report is None or outcome.stopped:
        return outcome
    final = strategy.fetch(outcome.state.inference_variables)  # on every host: parts are gathered from all
    if main_host:
        show_results(task, model, final, eval_set, outcome.report, make_console())
    return outcome


def checked_strategy(config: RunConfig) -> Strategy:
    """Returns the strategy of a run, whose devices can share its batches and cut them into its micro-batches.

    Raises:
      ConfigError: They cannot.
    """
    strategy = make_strategy(config.parallel, config.batch_size, config.sync_batch_norm, config.spatial)
    rows = config.batch_size if strategy.axis_name is None else config.batch_size // strategy.device_count
    check_cuts(rows, config.optim.accumulate)
    return strategy


def training_split(task_class: type[Task], config: RunConfig) -> Dataset:
    """Returns the split that trains, or the fraction of it that is configured."""
    return take_fraction(task_class.open(config, config.input.train_split), config.input.fraction)


def with_steps(config: Config, examples: int) -> Config:
    """Returns the configuration with `steps` set, computed from `epochs` where it is not given.

    Raises:
      ConfigError: Neither is given, nor a time budget.
    """
    if config.steps is not None or config.hours is not None:
        return config
    if not config.epochs:
        raise ConfigError("the run has no length; give --steps, --epochs or --hours")
    return dataclasses.replace(config, steps=max(1, math.ceil(config.epochs * examples / config.batch_size)))


def initial_variables(task: Task, model: nn.Module) -> Variables:
    """Returns the first variables of a run: drawn from its seed, with a warm start from the weights of `init`."""
    try:
        variables = draw(functools.partial(task.init, model), jax.random.key(task.config.seed))
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise impossible_model(task.config.model, error) from error
    return variables if task.config.init is None else task.warm_start(variables)


def impossible_model(model: Any, error: Exception) -> ConfigError:
    """Returns the error for a model that cannot be made with its options."""
    options = " ".join(_as_flags(model.options, "--model.")) or "no options of its own"
    why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return ConfigError(f"{model.name} cannot be made with {options} ({why}); change one of these")


def _as_flags(options: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _as_flags(value, f"{prefix}{name}.")
        else:
            values = value if isinstance(value, tuple) else (value,)
            yield " ".join([prefix + name.replace("_", "-"), *map(str, values)])


def train_stream(
    task: Task, dataset: Dataset, start: int, *, shard: HostShard = ONE_HOST, shares: np.ndarray | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Returns this host's rows of the endless stream of training batches, from batch `start` on.

    Args:
      task: Task of the run.
      dataset: Split that trains.
      start: Number of the first batch.
      shard: Share of this host.
      shares: Result of `shares_of`.
    """
    config = task.config
    return train_batches(
        dataset,
        task.decoder(),
        task.train_transform(),
        batch_size=config.batch_size,
        seed=config.seed,
        repeats=config.input.repeated_aug,
        start=start,
        target=task.target,
        workers=config.input.workers,
        shard=shard,
        on_bad_record=config.input.on_bad_record,
        shares=shares,
    )


def run_metadata(task: Task, dataset: Dataset) -> dict[str, Any]:
    """Returns the metadata of a run, for config.json and each checkpoint. It is enough to evaluate and predict.

    Args:
      task: Task of the run.
      dataset: Training split of the run.
    """
    config = task.config
    return as_json(
        {
            "format": FORMAT,
            "model": as_json(config.model),
            "task": {"kind": task.name, "class_names": task.class_names, **task.record()},
            "data": {
                "name": dataset.name,
                "examples": len(dataset),
                "identity": identity_of(dataset),
                "seed": config.seed,
                "batch_size": config.batch_size,
                **recorded(config.input),
            },
            "run": as_json(config),
        }
    )


def write_report(path: AnyPath, report: Report) -> None:
    """Writes a report as JSON.

    Raises:
      ConfigError: The file cannot be written.
    """
    try:
        write_json(path, report)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); make room, or give another place") from error


def show_results(
    task: Task, model: nn.Module, variables: Variables, dataset: Dataset, report: Report, console: Console
) -> None:
    """Writes a report and the pictures of a model into the run's folder, and prints the report.

    The report comes first. A picture that cannot be drawn costs itself, and a line that says so.

    Args:
      task: Task of the run.
      model: Module that was scored.
      variables: Variables of the module, as numpy arrays.
      dataset: Split that was scored.
      report: Scores of the split.
      console: Console that takes the table.
    """
    workdir = as_path(task.config.workdir)
    write_report(workdir / "report.json", plain(report))
    console.print(task.table(report))
    files = ["report.json"]
    try:
        with written_folder(workdir) as folder:
            for what, draw in {
                "the examples": lambda: task.draw_examples(folder, model, variables, dataset),
                "the report": lambda: task.draw_report(folder, report),
                "the curves": lambda: _draw_curves(workdir / METRICS_FILE, folder),
            }.items():
                try:
                    files += draw()
                except Exception as error:
                    _warn(console, f"{what} could not be drawn", error)
    except OSError as error:
        _warn(console, "the pictures could not be copied to the store", error)
    console.print(f"written: {workdir}/{', '.join(files)}", soft_wrap=True)


def _draw_curves(metrics: AnyPath, folder: pathlib.Path) -> list[str]:
    if not metrics.exists():
        return []
    plot_curves(metrics, folder / "curves.png")
    return ["curves.png"]


def _warn(console: Console, what: str, error: Exception) -> None:
    why = f"{type(error).__name__}: {error}"
    console.print(f"warning: {what} ({why}); the run is complete without", soft_wrap=True)
