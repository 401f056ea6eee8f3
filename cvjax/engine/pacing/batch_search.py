"""Finds the largest batch that fits into the devices' memory, by what the compiler says of the step: nothing is run."""

import dataclasses
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cvjax.data.dataset import Dataset
from cvjax.engine.ahead import compiled_step
from cvjax.engine.checkpoint import complete_steps, read_metadata
from cvjax.engine.config import RunConfig
from cvjax.engine.guards.terminal import make_console
from cvjax.engine.parallel import JitStrategy, Strategy
from cvjax.engine.task import Task
from cvjax.errors import ConfigError
from cvjax.inspection.roofline import largest_batch
from cvjax.runtime.host_memory import free_host_memory
from cvjax.storage import as_path

Config = TypeVar("Config", bound=RunConfig)

_SHARE = 0.9
"""Part of the memory that a step may take; the rest is for what the compiler does not see, such as an evaluation."""
_AHEAD = 2
"""Number of further batches that lie on the devices while a step runs."""


def with_found_batch(config: Config, task_class: type[Task], dataset: Dataset, strategy: Strategy) -> Config:
    """Returns the configuration with the largest batch that fits, and says what it found and what stays.

    A run that is resumed keeps the batch that it had.

    Args:
      config: Configuration with `find_batch_size`, whose length is known. The search starts at its batch.
      task_class: Class of its task.
      dataset: Split that trains; the batch is not larger than that.
      strategy: Strategy of the run.

    Raises:
      ConfigError: Not even the smallest batch fits, or the strategy is one whose programs cannot be looked at.
    """
    if not isinstance(strategy, JitStrategy):
        raise ConfigError(
            "--find-batch-size looks at programs of --parallel jit, fsdp and spatial; choose one of these"
        )
    folder = as_path(config.workdir) / "checkpoints"
    steps = complete_steps(folder) if config.resume else []
    if steps:
        kept = read_metadata(folder / str(steps[-1]))["data"]["batch_size"]
        return dataclasses.replace(config, batch_size=kept, find_batch_size=False)
    console, main = make_console(), jax.process_index() == 0
    model = config.model.build(num_classes=len(dataset.class_names))
    task = task_class.create(config, dataset, model)
    unit = strategy.shares * config.optim.accumulate
    room = device_room()

    def say(line: str) -> None:
        if main:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def temporaries(units: int) -> int | None:
        rows = units * unit
        found = step_bytes(task, model, dataset, strategy, rows)
        fits = found is not None and found.total <= _SHARE * room
        size = "more than the compiler has room for" if found is None else f"{found.total / 1e9:.2f} GB a device"
        say(f"{rows} images a step take {size} of {room / 1e9:.2f}: {'they fit' if fits else 'too many'}")
        return found.temporaries if fits and found is not None else None

    start, most = max(1, config.batch_size // unit), max(1, len(dataset) // unit)
    units, _ = largest_batch(temporaries, min(start, most), _SHARE * room, most)
    if not units:
        raise ConfigError(
            f"not even {unit} images a step fit into {room / 1e9:.2f} GB a device; choose a smaller net or crop"
        )
    found = dataclasses.replace(config, batch_size=units * unit, find_batch_size=False)
    say(_sentence(config, found))
    return found


@dataclasses.dataclass(frozen=True)
class StepBytes:
    """Holds what a step needs of a device, in bytes.

    Attributes:
      total: All of it, with the copy of the state that a checkpoint is written from, and the batches to come.
      temporaries: What the compiler adds to state and batch, which grows with the batch.
    """

    total: int
    temporaries: int


def step_bytes(task: Task, model: Any, dataset: Dataset, strategy: JitStrategy, rows: int) -> StepBytes | None:
    """Returns what a step with a batch needs of each device; None where the compiler says itself that it is too much.

    Args:
      task: Task of the run, whose configuration knows its steps.
      model: Module that the task applies.
      dataset: Dataset with at least one record.
      strategy: Strategy over the devices.
      rows: Number of examples of the batch, over all devices.
    """
    try:
        _, memory = compiled_step(task, model, dataset, strategy, rows)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    state = memory.parameters + memory.average + memory.optimizer
    return StepBytes(memory.total + state + _AHEAD * memory.batch, memory.temporaries)


def device_room() -> int:
    """Returns the bytes of memory that a device has for this process, the least of those of all devices and hosts.

    Devices of the CPU share what the host has free.
    """
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        room = free_host_memory() // len(devices)
    else:
        room = min(int((device.memory_stats() or {}).get("bytes_limit", 0)) for device in devices)
        if not room:
            raise ConfigError(
                f"the {devices[0].platform} devices do not tell their memory; give --batch-size, and see aot's"
                " --largest-batch"
            )
    if jax.process_count() > 1:  # in KiB, which an int32 holds
        return int(np.min(multihost_utils.process_allgather(np.int32(room >> 10)))) << 10
    return room


def _sentence(before: RunConfig, after: RunConfig) -> str:
    ratio, rate = after.batch_size / before.batch_size, before.optim.learning_rate
    line = f"batch size {after.batch_size}, the largest that fits, to a sixteenth"
    if ratio == 1:
        return line
    line += (
        f"; the learning rate stays {rate:g}, which was given for {before.batch_size}: the linear rule (1706.02677)"
        f" would make it {rate * ratio:.3g}"
    )
    return line if before.hours is not None else f"{line}; {after.steps} steps see {ratio:.3g} times as many images"
