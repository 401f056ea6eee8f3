"""The training loop: the one place where steps, data, evaluation, checkpoints and signals meet."""

import contextlib
import dataclasses
import math
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils

from cvjax.data.loader import prefetch_to_device
from cvjax.engine.checkpoint import Checkpoints
from cvjax.engine.evaluate import scalars
from cvjax.engine.log import RunLog
from cvjax.engine.optim import OptimizerConfig, make_optimizer, make_schedule
from cvjax.engine.parallel import Strategy
from cvjax.engine.state import TrainState, create_state
from cvjax.engine.step import Task, make_train_step
from cvjax.errors import CheckpointError, ConfigError, DivergedError, UserError

RUN_AHEAD = 2  # steps that may be under way: enough to keep a device busy, few enough to hold little memory
ITEMS_SHOWN = 8  # example ids named in an error


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long, and how often what.

    Attributes:
      steps: length of the run.
      batch_size: examples a step, over all devices and hosts.
      log_every, eval_every, checkpoint_every: in steps; the run's end evaluates and saves in any case.
      keep: latest checkpoints that stay, beside the best.
      seed: decides parameters, data order, augmentation and dropout.
    """

    steps: int
    batch_size: int
    log_every: int = 10
    eval_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 3
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
      state: placed, as the strategy holds it.
      step: steps taken.
      report: the last evaluation, None if there was none.
      stopped: a signal ended the run before its last step.
    """

    state: TrainState
    step: int
    report: dict[str, Any] | None
    stopped: bool


def fit(
    model: nn.Module,
    task: Task,
    variables: Mapping[str, Any],
    batches: Callable[[int], Iterator[dict[str, np.ndarray]]],
    evaluate: Callable[[Any], dict[str, Any]],
    *,
    config: LoopConfig,
    optim: OptimizerConfig,
    strategy: Strategy,
    workdir: pathlib.Path,
    info: Mapping[str, Any],
    resume: bool = False,
    local_batch_norm: bool = False,
    example_name: Callable[[int], str] = str,
) -> Outcome:
    """Trains a model, evaluating and saving on the way.

    Each step's loss is a function of (seed, step, data) alone: a run that was stopped at any moment and
    resumed takes bit for bit the steps that it would have taken.

    Args:
      model: built with `strategy.axis_name`.
      task: see `cvjax.engine.step.Task`.
      variables: {"params", "batch_stats"} to start from.
      batches: from the number of the first batch, this host's rows of the endless stream.
      evaluate: placed variables -> report.
      config, optim, strategy: see there.
      workdir: takes `checkpoints/`, `metrics.jsonl` and `tensorboard/`.
      info: stored in each checkpoint; its `data` must be unchanged when a run resumes.
      resume: continue from the latest checkpoint, if there is one.
      local_batch_norm: the model normalises per device (pmap without an axis name).
      example_name: an example's id from its index, for messages.

    Raises:
      DivergedError: a loss or gradient is not finite.
      CheckpointError: a checkpoint cannot be written or read, or the folder holds a run and `resume` is off.
    """
    schedule, optimizer = make_schedule(optim, config.steps), make_optimizer(optim, config.steps)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.keep, metric=task.metric)
    state = create_state(dict(variables), optimizer, ema=optim.ema_decay is not None)
    state, start = _restore(checkpoints, state, info) if resume else (state, _require_empty(checkpoints))
    if start > config.steps:
        raise ConfigError(
            f"{checkpoints.directory} is at step {start} already; --steps {config.steps} must be above it"
        )
    state = strategy.place_state(state)
    train_step = strategy.compile_train(
        make_train_step(
            model,
            task,
            optimizer,
            schedule,
            accumulate=optim.accumulate,
            ema_decay=optim.ema_decay,
            axis_name=strategy.axis_name,
            local_randomness=local_batch_norm,
        )
    )
    key = jax.random.key(config.seed)
    log = RunLog(workdir, steps=config.steps, start=start, enabled=jax.process_index() == 0)
    if start:
        log.say(f"resuming {workdir} at step {start} of {config.steps}")
    pending: list[tuple[int, Any, np.ndarray]] = []
    skipped = 0

    def flush() -> None:
        """Fetches the metrics of the steps since the last time, and stops the run if one is not finite."""
        lines = []
        for number, metrics, indices in pending:
            values = {name: float(value) for name, value in strategy.fetch(metrics).items()}
            if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
                raise _diverged(number, values, indices, example_name, checkpoints)
            lines.append({"step": number} | values)
        pending.clear()
        log.steps_done(lines, config.batch_size)

    def save(report: dict[str, Any] | None, wait: bool = False) -> None:
        scores = None if report is None else scalars(report)
        told = dict(info) | {"position": step, "scores": scores, "metric": task.metric}
        checkpoints.save(strategy.replicated(state), told, scores, wait=wait)

    report, step, stopped = None, start, False
    stream = prefetch_to_device(
        batches(start), lambda b: (strategy.place_batch(b), b["index"], int(b["skipped"].sum()))
    )
    try:
        with StopSignal() as stop:
            for step in range(start + 1, config.steps + 1):
                batch, indices, passed_over = next(stream)
                state, metrics = train_step(state, batch, key)
                pending.append((step, metrics, indices))
                if len(pending) > RUN_AHEAD:
                    jax.block_until_ready(pending[-1 - RUN_AHEAD][1])
                if passed_over:
                    skipped += passed_over
                    log.say(f"step {step}: {passed_over} bad records passed over, {skipped} so far")
                last = step == config.steps
                stopped = stop.requested(step) and not last
                if last or stopped or step % config.log_every == 0:
                    flush()
                    checkpoints.check()
                evaluated = (last or step % config.eval_every == 0) and not stopped
                if evaluated:
                    flush()
                    report = evaluate(state)
                    log.evaluated(step, scalars(report))
                if evaluated or stopped or step % config.checkpoint_every == 0:
                    flush()
                    save(report if evaluated else None, wait=last or stopped)
                if stopped:
                    log.say(f"stopped by a signal at step {step}, which is saved; continue with --resume")
                    break
        if report is None and not stopped:
            report = evaluate(state)
        checkpoints.check(wait=True)
        log.close()
    except OSError as error:
        raise checkpoints.unwritable(error) from error
    finally:
        stream.close()
        for closer in (log.close, checkpoints.close):
            with contextlib.suppress(OSError, UserError):  # what went wrong was raised above
                closer()
    return Outcome(state, step, report, stopped)


def _require_empty(checkpoints: Checkpoints) -> int:
    steps = checkpoints.steps()
    if steps:
        raise CheckpointError(
            f"{checkpoints.directory} holds a run at step {steps[-1]}; add --resume to continue it, or give another"
            " --workdir"
        )
    return 0


def _restore(checkpoints: Checkpoints, state: TrainState, info: Mapping[str, Any]) -> tuple[TrainState, int]:
    if not checkpoints.steps():
        return state, 0
    restored = checkpoints.restore(state)
    before, now = restored.info.get("data"), info.get("data")
    if before != now:
        changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        told = ", ".join(f"{k} was {before.get(k)} and is {now.get(k)}" for k in changed)
        raise CheckpointError(
            f"{checkpoints.directory} was trained on other data ({told}); resume with the old values, or give another"
            " --workdir"
        )
    return restored.state, restored.step


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


class StopSignal:
    """Turns SIGTERM and Ctrl-C into a request that the loop grants at the end of a step.

    In a run of several processes all hosts must stop at the same step, so there JAX's own agreement
    between them is asked, which listens for SIGTERM itself.
    """

    def __enter__(self) -> "StopSignal":
        self._asked = False
        self._before: dict[int, Any] = {}
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:  # a second request does not wait for the step
            raise KeyboardInterrupt
        self._asked = True

    def requested(self, step: int) -> bool:
        """Whether the run should save and stop now."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
