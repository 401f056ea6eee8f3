"""This module compiles the training step of a run ahead of time, without data and for devices that are not here."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.data.dataset import Dataset
from cvjax.data.order import example_rng
from cvjax.data.reader import PerBatch, Reader
from cvjax.engine.pacing.pace import make_rates
from cvjax.engine.parallel import JitStrategy
from cvjax.engine.state import TrainState, create_state
from cvjax.engine.step import check_cuts, make_run_step
from cvjax.engine.task import Task, Teacher, open_teacher
from cvjax.errors import ConfigError
from cvjax.inspection.hlo import parse_program
from cvjax.inspection.program_cost import cost_of
from cvjax.inspection.step_report import Memory, Run, StepReport

_SIZES = 64
"""Number of batches to look at where each has a size of its own; the largest one counts."""


class TooLarge(ConfigError):
    """Says that a step does not fit into the memory of a chip."""


def compile_step(
    task: Task, model: nn.Module, dataset: Dataset, strategy: JitStrategy, run: Run, hlo: str | None = None
) -> StepReport:
    """Compiles the step of a run for the devices of a strategy, and reports on it.

    Args:
      task: Task of the run, whose configuration knows its steps.
      model: Module that the task applies.
      dataset: Dataset with at least one record.
      strategy: JitStrategy over the devices to compile for.
      run: Description of the run, with its batch.
      hlo: File to write the compiled program to, as text.

    Raises:
      TooLarge: The step does not fit.
      ConfigError: The file cannot be written.
    """
    try:
        compiled, memory = compiled_step(task, model, dataset, strategy, run.batch)
    except jax.errors.JaxRuntimeError as error:
        raise too_large(run, str(error)) or error from error
    text = compiled.as_text() or ""
    if hlo is not None:
        try:
            pathlib.Path(hlo).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {hlo}: {error.strerror or error}; choose another folder") from error
    counted: Any = compiled.cost_analysis() or {}  # a GPU's compiler without a GPU counts nothing
    room = run.topology.chip.memory
    if memory.total > room:  # only TPU's compiler says so itself
        raise _too_large(run, f"it needs {memory.total / 1e9:.2f} GB of {room / 1e9:.1f} GB")
    return StepReport(
        run=run,
        memory=memory,
        cost=cost_of(parse_program(text)),
        xla_flops=float(counted.get("flops", 0)),
        xla_bytes=float(counted.get("bytes accessed", 0)),
    )


def compiled_step(
    task: Task, model: nn.Module, dataset: Dataset, strategy: JitStrategy, rows: int
) -> tuple[jax.stages.Compiled, Memory]:
    """Compiles the step of a run, and returns it with what it takes of a device's memory.

    Args:
      task: Task of the run, whose configuration knows its steps.
      model: Module that the task applies.
      dataset: Dataset with at least one record.
      strategy: JitStrategy over the devices to compile for.
      rows: Number of examples of the batch, over all devices.
    """
    state, batch, teacher = abstract_state(task, model), abstract_batch(task, dataset, rows), open_teacher(task, model)
    compiled = lower_train_step(task, model, strategy, state, batch, teacher).compile()
    (state_parts, batch_parts, given_parts, *_), _ = compiled.input_shardings
    memory = _memory(compiled.memory_analysis(), state, batch, state_parts, batch_parts)
    if teacher is not None:
        taught = bytes_of(teacher.variables, given_parts[1])
        memory = dataclasses.replace(memory, parameters=memory.parameters + taught)
    return compiled, memory


def _memory(said: Any, state: TrainState, batch: Any, state_parts: Any, batch_parts: Any) -> Memory:
    return Memory(
        parameters=bytes_of(state.variables, state_parts.variables),
        average=bytes_of(state.ema, state_parts.ema),
        optimizer=bytes_of(state.opt_state, state_parts.opt_state),
        batch=bytes_of(batch, batch_parts),
        temporaries=said.temp_size_in_bytes,
        program=said.generated_code_size_in_bytes,
    )


def too_large(run: Run, message: str) -> TooLarge | None:
    """Returns the error for a step that does not fit, or None where the compiler failed for another reason."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    found = re.search(r"Used ([\d.]+\w+) of ([\d.]+\w+) hbm", message)
    return _too_large(run, f"it needs {found[1]} of {found[2]}" if found else message.strip().splitlines()[0][:200])


def _too_large(run: Run, how: str) -> TooLarge:
    return TooLarge(
        f"{run.name} does not fit on {run.topology.name} with {run.batch_per_chip:g} images a chip ({how}); give a"
        " smaller --batch-per-chip, or --optim.accumulate for more micro-batches"
    )


def abstract_batch(task: Task, dataset: Dataset, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes and dtypes of a global training batch as the loader makes it, from one example.

    Args:
      task: Task of the run.
      dataset: Dataset with at least one record.
      rows: Number of examples of the batch, over all devices.
    """
    reader = Reader(dataset, task.decoder(), skip=False, target=task.target)
    transform = task.train_transform()
    transforms: Sequence[Any] = [transform]
    if isinstance(transform, PerBatch):
        transforms = [transform.for_batch(task.config.seed, number) for number in range(_SIZES)]
    image, target, _ = reader.read(0)
    made = [one(image, target, example_rng(0, 0, 0, 0)) for one in transforms]
    batch = reader.empty_batch(1, *max(made, key=lambda example: example[0].size))
    return {name: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype) for name, x in batch.items()}


def abstract_state(task: Task, model: nn.Module) -> TrainState:
    """Returns shapes and dtypes of the state that training carries, optimizer and average included."""
    optim = task.config.optim
    _, optimizer = make_rates(task.config)

    def create(key: jax.Array) -> TrainState:
        return create_state(task.init(model, key), optimizer, ema=optim.ema_decay is not None)

    return jax.eval_shape(create, jax.random.key(0))


def lower_train_step(
    task: Task,
    model: nn.Module,
    strategy: JitStrategy,
    state: TrainState,
    batch: dict[str, jax.ShapeDtypeStruct],
    teacher: Teacher | None = None,
) -> jax.stages.Lowered:
    """Lowers the step that `cvjax.engine.loop.fit` takes, over the devices of a strategy.

    Args:
      task: Task of the run, whose configuration knows its steps.
      model: Module that the task applies.
      strategy: JitStrategy over the devices to compile for.
      state: Result of `abstract_state`.
      batch: Result of `abstract_batch`.
      teacher: Trained model that the run follows.

    Raises:
      ConfigError: The batch cannot be cut into the configured micro-batches, or the model cannot take it.
    """
    optim = task.config.optim
    check_cuts(batch["valid"].shape[0], optim.accumulate)
    step = make_run_step(model, task, optim, make_rates(task.config), strategy, teacher)
    given: Any = jax.eval_shape(lambda: jax.random.key(0))
    if teacher is not None:
        given = given, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), teacher.variables)
    program: Any = strategy.train_program(step, state, batch)
    with strategy.context():
        return program.lower(state, batch, given)


def bytes_of(tree: Any, shardings: Any) -> int:
    """Returns the bytes that arrays take on one device.

    Args:
      tree: Arrays, or their shapes and dtypes.
      shardings: Shardings of the same structure; None in the place of an array that the program does not take.
    """
    return sum(jax.tree.leaves(jax.tree.map(_bytes, tree, shardings)))


def _bytes(leaf: Any, sharding: Any) -> int:
    return 0 if sharding is None else math.prod(sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
