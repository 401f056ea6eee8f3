"""Makes the task of a configuration for data to look at, and examples as its training would vary them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.data.dataset import Dataset, Target
from cvjax.data.order import example_rng
from cvjax.data.reader import PerBatch
from cvjax.engine.config import RunConfig, resolve
from cvjax.errors import ConfigError
from cvjax.tasks.colors import varies_colors
from cvjax.tasks.images import ImageTask
from cvjax.tasks.load import TASKS


def task_class_of(target: Target) -> type[ImageTask]:
    """Returns the class of the task that learns a target."""
    return next(kind for kind in TASKS if kind.target == target)


def task_to_look(config: RunConfig, dataset: Dataset) -> ImageTask:
    """Makes the task of a configuration with the classes of a dataset, without reading its examples.

    Args:
      config: Configuration of the run.
      dataset: Dataset of the configuration's task.

    Raises:
      ConfigError: The configuration is of another task than the dataset.
    """
    kind = resolve(config.task)
    names = tuple(dataset.class_names)
    model = config.model.build(num_classes=len(names))
    task = kind.restore(config, {"class_names": names, "margin": getattr(model, "margin", 0)})
    task.train_transform()  # says what is wrong with its settings
    return task


def decoded(task: ImageTask, dataset: Dataset, index: int) -> tuple[np.ndarray, Any, str]:
    """Returns image, truth and id of a record, as the task decodes them.

    Raises:
      DataError: The record is damaged.
    """
    record = dataset[index]
    example = task.decoder()(record)
    return example["image"], example[task.target], str(record["id"])


def varied(
    task: ImageTask, image: np.ndarray, truth: Any, index: int, seed: int, number: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Varies an example as training does in epoch `number`, in geometry and in colors; images are not mixed.

    Args:
      task: Task whose configuration says how.
      image, truth: Example as `decoded` returns it.
      index: Index of the record.
      seed: Seed of the run.
      number: Number of the epoch.

    Returns:
      What the task's `train_transform` returns: the image, uint8 [h, w, 3], its truth, and further arrays.

    Raises:
      ConfigError: A setting is outside of its limits.
    """
    transform = task.train_transform()
    if isinstance(transform, PerBatch):
        transform = transform.for_batch(seed, number)
    made, target, *more = transform(image, truth, example_rng(seed, number, index))
    if varies_colors(task.config.input):
        key = jax.random.fold_in(jax.random.key(seed), number)
        batch = {"image": jnp.asarray(made)[None], "index": jnp.asarray([index])}
        levels = np.asarray(task.images(batch, key))[0] * task.std + task.mean
        made = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return made, target, dict(more[0]) if more else {}


def without_proposals(config: RunConfig) -> RunConfig:
    """Returns the configuration without proposals, which no picture shows and which take long to make."""
    if not hasattr(config.input, "proposals"):
        return config
    return dataclasses.replace(config, input=dataclasses.replace(config.input, proposals=0))  # type: ignore[call-arg]


def check_target(config: RunConfig, target: Target, like: str) -> None:
    """Raises ConfigError unless a configuration's task learns the target."""
    kind = resolve(config.task)
    if kind.target != target:
        raise ConfigError(
            f"{like} learns {kind.target} and the data are opened for {target}; give --target, or another --like"
        )
