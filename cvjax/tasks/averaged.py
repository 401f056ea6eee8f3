"""Loads the average of a run's checkpoints, with BatchNorm's statistics averaged or measured anew."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cvjax.data.drawing.balance import shares_of
from cvjax.engine.checkpoint.averaging import average_variables, chosen_checkpoints
from cvjax.engine.run import train_stream, training_split
from cvjax.engine.task import Task, Variables
from cvjax.errors import ConfigError
from cvjax.runtime.compiler import compiled
from cvjax.tasks.load import load_for_inference
from cvjax.tasks.loaded import Loaded


def load_average(
    path: str, count: int | None, steps: Sequence[int] = (), bn_batches: int | None = None
) -> tuple[Loaded, list[int]]:
    """Loads the average of some checkpoints of a run.

    Args:
      path: Work folder of the run.
      count: Number of latest checkpoints; None where `steps` says which.
      steps: Steps of the checkpoints.
      bn_batches: Number of training batches over which BatchNorm's statistics are measured anew, with the averaged
        parameters; None averages them, too.

    Returns:
      The model with its averaged variables, and the steps of the checkpoints.

    Raises:
      UserError: There are no such checkpoints, or the training data are not here, which `bn_batches` asks for.
    """
    places = chosen_checkpoints(path, count, steps)
    loaded = load_for_inference(str(places[-1]))
    variables = average_variables(places)
    if bn_batches is not None:
        if bn_batches < 1:
            raise ConfigError(f"--average-bn is {bn_batches}; give the number of batches, 1 or more")
        config, task = loaded.task.config, loaded.task
        dataset = training_split(type(task), config)
        stream = train_stream(task, dataset, 0, shares=shares_of(config.input, dataset))
        try:
            variables = measured(task, loaded.model, variables, itertools.islice(stream, bn_batches))
        finally:
            stream.close()  # type: ignore[attr-defined]
    return dataclasses.replace(loaded, variables=variables), [int(place.name) for place in places]


def measured(
    task: Task, model: nn.Module, variables: Variables, batches: Iterable[Mapping[str, np.ndarray]]
) -> Variables:
    """Returns variables whose running statistics are the means of the statistics of some batches.

    Each batch counts the same, whatever the decay of BatchNorm's own averages. Frozen statistics stay.

    Args:
      task: Task that prepares the batches, as in training.
      model: Module.
      variables: {"params", "batch_stats"}.
      batches: Training batches, at least one.
    """
    decays: dict[tuple[str, ...], float] = {}

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, nn.BatchNorm):
            decays[tuple(context.module.path)] = context.module.momentum
        return call(*args, **kwargs)

    def moved(variables: Variables, batch: Mapping[str, Any], key: jax.Array) -> Any:
        color_key, dropout_key = jax.random.split(key)
        inputs, _ = task.prepare(batch, color_key)
        with nn.intercept_methods(note):
            _, updates = task.apply(
                model, variables, inputs, train=True, rngs={"dropout": dropout_key}, mutable=["batch_stats"]
            )
        return updates.get("batch_stats", {})

    step, total, count = compiled(moved), None, 0
    old = variables["batch_stats"]
    for count, batch in enumerate(batches, 1):
        key = jax.random.fold_in(jax.random.key(task.config.seed), count)
        new = step(variables, {name: jnp.asarray(value) for name, value in batch.items()}, key)

        def alone(path: Any, after: Any, before: Any) -> np.ndarray:
            # after = decay * before + (1 - decay) * the batch's own
            decay = decays.get(tuple(part.key for part in path[:-1]), 1.0)
            wide = np.asarray(before, np.float64)
            return wide if decay == 1.0 else (np.asarray(after, np.float64) - decay * wide) / (1.0 - decay)

        found = jax.tree_util.tree_map_with_path(alone, new, old)
        total = found if total is None else jax.tree.map(np.add, total, found)
    mean = jax.tree.map(lambda summed, before: (summed / count).astype(before.dtype), total, old)
    return {**variables, "batch_stats": mean}
