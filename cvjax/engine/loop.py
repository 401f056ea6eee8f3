"""This module is the training loop: it takes the steps, evaluates, saves checkpoints and stops at signals."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.identity import data_differences
from cvjax.data.loader import prefetch_to_device
from cvjax.engine.checkpoint import Checkpoints, Restored, read_metadata
from cvjax.engine.config import RunConfig, as_json, by_flag, config_from_json
from cvjax.engine.evaluate import scalars
from cvjax.engine.guards.hosts import HostWatch
from cvjax.engine.guards.pulse import DATA, DEVICES, EVALUATING, HOST, SAVING, Pulse
from cvjax.engine.guards.stall import stall_minutes, watched_for_stalls
from cvjax.engine.guards.stop import StopSignal
from cvjax.engine.log import RunLog
from cvjax.engine.optim import OptimizerConfig, schedule_change
from cvjax.engine.pacing.pace import Pace, check_same_length, known, length_in_words, make_rates
from cvjax.engine.parallel import Strategy
from cvjax.engine.profile import DataAdvice, Profiler, shares, steps_of
from cvjax.engine.state import TrainState, create_state
from cvjax.engine.step import make_run_step
from cvjax.engine.task import Report, Task, Teacher
from cvjax.engine.trackers import open_trackers
from cvjax.errors import CheckpointError, ConfigError, DivergedError, UserError
from cvjax.storage import as_path

RUN_AHEAD = 2  # steps that may be under way: enough to keep a device busy, few enough to hold little memory
ITEMS_SHOWN = 8  # example ids named in an error
UNSEEN = 1000  # steps between looks at the losses of a run that shows no lines


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Holds the result of a run.

    Attributes:
      state: State after the last step, of a run with `patience` its best one, placed as the strategy holds it.
      step: Number of steps taken.
      report: Report on that state, None if there was no evaluation.
      stopped: Whether a signal ended the run before its last step.
      signal: Number of that signal, None without one.
    """

    state: TrainState
    step: int
    report: Report | None
    stopped: bool
    signal: int | None = None


def fit(
    config: RunConfig,
    task: Task,
    model: nn.Module,
    variables: Mapping[str, Any],
    batches: Callable[[int], Iterator[dict[str, np.ndarray]]],
    evaluate: Callable[[Any], Report],
    *,
    strategy: Strategy,
    metadata: Mapping[str, Any],
    example_name: Callable[[int], str] = str,
    begin: Callable[[], None] = lambda: None,
    pulse: Pulse | None = None,
    hosts: HostWatch | None = None,
    clock: Callable[[], float] = time.monotonic,
    teacher: Teacher | None = None,
) -> Outcome:
    """Trains a model, and evaluates and saves on the way.

    The loss of each step is a function of (seed, step, data) alone. So a run can be stopped at any moment: once
    resumed, it takes bit for bit the steps that it would have taken.

    Args:
      config: Configuration of the run, whose `steps` or `hours` are known; `workdir` takes `checkpoints/`,
        `metrics.jsonl` and `tensorboard/`.
      task: Task that is trained, see `Task`.
      model: Module that the task applies.
      variables: {"params", "batch_stats"} to start from.
      batches: Function from the number of the first batch to this host's rows of the endless stream.
      evaluate: Function from placed variables to a report.
      strategy: Strategy that spreads the steps over devices.
      metadata: Metadata for each checkpoint; its `data` must be unchanged when a run resumes.
      example_name: Function from an example's index to its id, for messages.
      begin: Function that is called once nothing speaks against the run, before it writes anything into `workdir`.
      pulse: Takes note of what the loop does.
      hosts: What watches over the other hosts, where there are some.
      clock: Clock in seconds that a time budget is measured by.
      teacher: Trained model that the loss follows, too.

    Raises:
      DivergedError: A loss or gradient is not finite.
      CheckpointError: A checkpoint cannot be written or read, or the folder holds a run and `resume` is off.
    """
    workdir, optim, pulse = as_path(config.workdir), config.optim, pulse or Pulse()
    steps = None if config.hours is not None else config.steps
    rates = make_rates(config)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep, metric=task.metric)
    make = functools.partial(create_state, optimizer=rates[1], ema=optim.ema_decay is not None)
    restored, change = None, ""
    like = strategy.like(jax.eval_shape(make, dict(variables)))
    if config.resume:
        restored, change = _restore(checkpoints, like, metadata, config)
    else:
        _require_empty(checkpoints)
    start = 0 if restored is None else restored.step
    pace = Pace(config, task.metric, start, {} if restored is None else restored.metadata, clock)
    if steps is not None and start > steps:
        raise ConfigError(f"{checkpoints.directory} is at step {start} already; --steps {steps} must be above it")
    try:
        begin()
        checkpoints.set_aside()
        track = functools.partial(open_trackers, config.trackers, config.project, workdir, by_flag(as_json(config)))
        log = RunLog(workdir, steps=steps, start=start, enabled=jax.process_index() == 0, track=track)
    except OSError as error:
        raise checkpoints.unwritable(error) from error
    state = strategy.start(make, dict(variables)) if restored is None else strategy.place_state(restored.state)
    train_step = strategy.compile_train(make_run_step(model, task, optim, rates, strategy, teacher))
    key: Any = jax.random.key(config.seed)
    if teacher is not None:
        key = key, strategy.place_everywhere(teacher.variables)
    profiler = Profiler(steps_of(config.profile_steps), workdir, pulse)
    advice = DataAdvice(config.input.workers, config.batch_size // jax.process_count())
    for trouble in checkpoints.passed_over:
        log.say(f"passed over and kept as STEP.damaged: {trouble}")
    if start:
        log.say(f"resuming {workdir} at step {start:,} of {f'{steps:,}' if steps else length_in_words(config)}{change}")
    pending: list[tuple[int, Any, np.ndarray]] = []
    skipped = 0

    def flush() -> None:
        """Fetches the metrics of the steps since the last time, and stops the run if one is not finite."""
        lines: list[dict[str, Any]] = []
        pulse.now(DEVICES)
        for number, metrics, indices in pending:
            values = {name: float(value) for name, value in strategy.fetch(metrics).items()}
            if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
                raise _diverged(number, values, indices, example_name, checkpoints)
            lines.append({"step": number} | values)
        pending.clear()
        pulse.now(HOST)
        spent = pulse.spent()
        log.steps_done(lines, config.batch_size, show=config.log_every > 0, shares=shares(spent))
        if warning := advice.about(spent, len(lines)):
            log.say(f"step {lines[-1]['step']}: {warning}")

    def save(report: Report | None, wait: bool = False) -> None:
        pulse.now(SAVING)
        scores = None if report is None else scalars(report)
        at_step = dict(metadata) | {"position": step, "scores": scores, "metric": task.metric}
        at_step["pace"] = pace.record()
        log.send()  # the lines up to a checkpoint are there with it
        checkpoints.save(strategy.snapshot(state), at_step, scores, wait=wait)
        pulse.now(HOST)

    report, step, stopped, stop = None, start, False, StopSignal()
    stream = prefetch_to_device(
        batches(start), lambda b: (strategy.place_batch(b), b["index"], int(b["skipped"].sum()))
    )
    try:
        with stop, watched_for_stalls(pulse, stall_minutes(config), workdir, hosts):
            for step in pace.steps():
                profiler.before(step)
                pulse.now(DATA, step)
                batch, indices, passed_over = next(stream)
                pulse.now(HOST)
                state, metrics = train_step(pace.prepared(state, step, strategy), batch, key)
                pending.append((step, metrics, indices))
                pulse.now(DEVICES)
                if step == start + 1:
                    jax.block_until_ready(metrics)  # it took the compilation, which says nothing of the speed
                    log.compiled(step)
                    pulse.spent()
                if len(pending) > RUN_AHEAD:
                    jax.block_until_ready(pending[-1 - RUN_AHEAD][1])
                pulse.now(HOST)
                if traced := profiler.after(step, metrics):
                    log.say(traced)
                if passed_over:
                    skipped += passed_over
                    log.say(f"step {step}: {passed_over} bad records passed over, {skipped} so far")
                last = pace.is_last(step)
                stopped = stop.requested(step) and not last
                if last or stopped or _due(step, config.log_every or UNSEEN):
                    flush()
                    checkpoints.check()
                evaluated = (last or _due(step, config.eval_every)) and not stopped
                if evaluated:
                    flush()
                    pulse.now(EVALUATING)
                    report = evaluate(state)
                    pulse.now(HOST)
                    log.evaluated(step, scalars(report))
                    pace.evaluated(step, scalars(report))
                    last = last or pace.out_of_patience
                saving = evaluated and (config.checkpoint_every > 0 or pace.reports_best)
                if last or stopped or saving or _due(step, config.checkpoint_every):
                    flush()
                    save(report if evaluated else None, wait=last or stopped)
                if stopped:
                    log.say(f"stopped by a signal at step {step}, which is saved; continue with --resume")
                if last or stopped:
                    break
        if not stopped and pace.reports_best:
            best = checkpoints.restore_best(like)
            log.say(pace.farewell(step, best.step))
            if best.step != step or report is None:
                state = strategy.place_state(best.state)
                report = evaluate(state)
        if report is None and not stopped:  # resumed at its end, without a step to take
            report = evaluate(state)
        checkpoints.check(wait=True)
        log.close(finished=not stopped)
    except OSError as error:
        raise checkpoints.unwritable(error) from error
    finally:
        stream.close()
        profiler.stop()
        for closer in (log.close, checkpoints.close):
            with contextlib.suppress(OSError, UserError):  # what went wrong was raised above
                closer()
    return Outcome(state, step, report, stopped, stop.number if stopped else None)


def _due(step: int, every: int) -> bool:
    """Returns whether a step is one of every so many; 0 means none."""
    return every > 0 and step % every == 0


def _require_empty(checkpoints: Checkpoints) -> None:
    steps = checkpoints.steps()
    if steps:
        raise CheckpointError(
            f"{checkpoints.directory} holds a run at step {steps[-1]}; add --resume to continue it, or give another"
            " --workdir"
        )


def _restore(
    checkpoints: Checkpoints, like: TrainState, metadata: Mapping[str, Any], config: RunConfig
) -> tuple[Restored | None, str]:
    """Returns the latest checkpoint, or None, and what becomes of the schedule there, in words."""
    if not checkpoints.steps():
        return None, ""
    # Before the state, because other classes also mean other variables.
    _check_same_run(checkpoints, metadata, config)
    restored = checkpoints.restore(like)
    run = restored.metadata.get("run") or {}
    if not run.get("steps") or config.hours is not None:
        return restored, ""
    before = config_from_json(OptimizerConfig, run["optim"]), int(run["steps"])
    return restored, schedule_change(restored.step, before, (config.optim, known(config.steps)))


def _check_same_run(checkpoints: Checkpoints, metadata: Mapping[str, Any], config: RunConfig) -> None:
    before: Mapping[str, Any] = {}
    for step in reversed(checkpoints.steps()):  # of a damaged one the one before it tells
        with contextlib.suppress(CheckpointError):
            before = read_metadata(checkpoints.directory / str(step))
            break
    if before:
        check_same_length(before, config, checkpoints.directory)
    then, now = before.get("data") or {}, metadata.get("data") or {}
    old, new = (record.get("task", {}).get("class_names", ()) for record in (before, metadata))
    differences = data_differences(then, now, (old, new)) if then else []
    if differences:
        raise CheckpointError(
            f"{checkpoints.directory} was trained on other data ({', '.join(differences)}); resume with the data and"
            " settings of then, or give another --workdir"
        )


def _diverged(
    step: int,
    values: Mapping[str, float],
    indices: np.ndarray,
    example_name: Callable[[int], str],
    checkpoints: Checkpoints,
) -> DivergedError:
    names = [example_name(int(i)) for i in indices[:ITEMS_SHOWN]]
    more = f" and {len(indices) - ITEMS_SHOWN} more" if len(indices) > ITEMS_SHOWN else ""
    saved = checkpoints.steps()
    good = f"the last good checkpoint is {checkpoints.directory / str(saved[-1])}" if saved else "no checkpoint yet"
    return DivergedError(
        f"loss {values['loss']} and gradient norm {values['grad_norm']} at step {step}, on the examples"
        f" {', '.join(names)}{more}; {good}; lower --optim.learning-rate or set --optim.clip-norm, then --resume"
    )
