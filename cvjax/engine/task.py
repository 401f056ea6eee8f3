"""This module has the protocol between the engine and the tasks that it trains.

A task is a folder of `cvjax.tasks`. It knows what a record holds, how an example is decoded and varied, what the net
sees, what the loss is, and how a split is scored and shown. The engine knows this protocol alone. It spreads the
task's pure functions over devices, feeds them, and collects their results.

    records -> decoder -> train_transform -> batch -> prepare -> apply -> loss            training
    records -> decoder -> eval_buckets    -> batch -> prepare -> predict -> update, gather -> summarize -> compute
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import jax
import numpy as np
from flax import linen as nn
from rich.console import RenderableType

from cvjax.data.dataset import Dataset, Target
from cvjax.data.order import Bucket
from cvjax.data.reader import Augment, Decode, ResizeAndPad
from cvjax.engine.config import RunConfig, resolve

Batch = Mapping[str, jax.Array]
Variables = dict[str, Any]
Report = dict[str, Any]


class Teacher(Protocol):
    """Adds to a run's loss what a trained model says of its inputs."""

    @property
    def variables(self) -> Any:
        """Returns the variables of the trained model, as numpy arrays; a step takes them as an argument."""
        ...

    @property
    def captured(self) -> tuple[str, ...]:
        """Returns the names of the layers of the student whose results `loss` compares."""
        ...

    def loss(
        self,
        variables: Any,
        outputs: Any,
        maps: Mapping[str, jax.Array],
        inputs: Any,
        targets: Batch,
        labels_loss: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the summed loss, of labels and teacher together, and further sums over the same weight.

        Args:
          variables: Placed variables of the trained model.
          outputs: Outputs of the student in training.
          maps: Results of the student's captured layers by name.
          inputs: Prepared inputs of both.
          targets: Prepared targets.
          labels_loss: Summed loss of the labels.
        """
        ...


def open_teacher(task: "Task", model: nn.Module) -> Teacher | None:
    """Returns the trained model that a run follows in the training of a model; None where it follows none.

    Raises:
      UserError: It cannot be read, or does not go with the task and the model.
    """
    config = task.config
    return None if config.distill.teacher is None else resolve(config.distiller)(task, model)


class Task(Protocol):
    """Defines a task of a run, made for the classes of a dataset.

    Instances are values: frozen, and the same on every host.

    Attributes:
      name: Name of the task, as checkpoints record it.
      target: Part of a record beside its image, see `cvjax.data.dataset`.
      config_class: Class of the configuration of the task's runs.
      config: Configuration of the run.
      class_names: Names of the classes, in the order of their labels.
    """

    name: ClassVar[str]
    target: ClassVar[Target]
    config_class: ClassVar[type[RunConfig]]
    config: Any
    class_names: tuple[str, ...]

    # How a task comes about.

    @classmethod
    def open(cls, config: Any, split: str) -> Dataset:
        """Opens a split of the configured dataset, with all that the task needs of a record."""
        ...

    @classmethod
    def create(cls, config: Any, dataset: Dataset, model: nn.Module) -> Self:
        """Makes the task of a run from its configuration, its training split and its model.

        Raises:
          ConfigError: The configuration, the dataset and the model do not go together.
        """
        ...

    @classmethod
    def restore(cls, config: Any, record: Mapping[str, Any]) -> Self:
        """Makes the task of a finished run from its configuration and from the metadata that `record` returned then."""
        ...

    def record(self) -> dict[str, Any]:
        """Returns the metadata that a checkpoint must keep of the task beside its configuration, in a form for JSON."""
        ...

    def matched(self, dataset: Dataset) -> tuple[Self, Dataset]:
        """Returns the task that scores a dataset, and the dataset with its classes matched to the task's by name.

        Raises:
          DataError: The dataset has a class that the task lacks.
        """
        ...

    def warm_start(self, variables: Variables) -> Variables:
        """Returns fresh variables with a warm start from the weights that `config.init` names."""
        ...

    @property
    @abstractmethod
    def metric(self) -> str:
        """Returns the name of the score that decides which checkpoint is the best; larger is better."""
        ...

    # On the host, in worker processes: what these return must pickle, and should not import JAX.

    @abstractmethod
    def decoder(self) -> Decode:
        """Returns the function from a record to an image and its target."""
        ...

    @abstractmethod
    def train_transform(self) -> Augment:
        """Returns the function from a decoded example to a training example of fixed size."""
        ...

    @abstractmethod
    def eval_buckets(self, dataset: Dataset) -> tuple[ResizeAndPad, Sequence[Bucket] | None]:
        """Returns the transform to an evaluation's size, and the buckets: which examples share a batch and its size.

        None in place of the buckets takes examples in their order, all at one size.
        """
        ...

    # On devices: pure functions of arrays.

    def init(self, model: nn.Module, key: jax.Array) -> Variables:
        """Returns fresh variables of the model."""
        ...

    def prepare(self, batch: Batch, key: jax.Array | None) -> tuple[Any, Batch]:
        """Makes the net's inputs and the loss's targets of a batch.

        Args:
          batch: Arrays of a batch as the loader gives them.
          key: Key of this step, for random colors and mixing; None in evaluation, which varies nothing.
        """
        ...

    def apply(self, model: nn.Module, variables: Variables, inputs: Any, *, train: bool, **options: Any) -> Any:
        """Calls the model on prepared inputs, with any option of Flax's `apply`."""
        ...

    def weight(self, batch: Batch) -> jax.Array:
        """Returns the divisor of the summed loss, from the labels alone."""
        ...

    @abstractmethod
    def loss(self, outputs: Any, targets: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the summed loss, and further sums over the same weight."""
        ...

    @abstractmethod
    def predict(self, model: nn.Module, variables: Variables, inputs: Any) -> Any:
        """Returns the predictions for prepared inputs, as the configuration of the evaluation says."""
        ...

    @abstractmethod
    def update(self, predictions: Any, batch: Batch) -> dict[str, jax.Array]:
        """Returns sums over a batch, which add up over batches and devices."""
        ...

    def gather(self, predictions: Any, batch: Batch) -> dict[str, jax.Array]:
        """Returns arrays with a row for each example, collected from all devices, for scores that are not sums."""
        ...

    # On the host again.

    def summarize(self, rows: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns further sums over a batch, and rows to be joined with those of all batches, from the gathered rows.

        The sums are for scores that no accelerator computes well. The rows are for rankings.
        """
        ...

    @abstractmethod
    def compute(self, totals: Mapping[str, np.ndarray]) -> Report:
        """Returns the scores of a whole split from its sums and its joined rows."""
        ...

    # For people.

    def table(self, report: Report) -> RenderableType:
        """Returns the table of a report for the terminal."""
        ...

    def headline(self, report: Report) -> str:
        """Returns one line of scores."""
        ...

    def draw_report(self, folder: Path, report: Report) -> list[str]:
        """Writes tables and plots of a report into a folder and returns the names of the files."""
        ...

    @abstractmethod
    def draw_examples(self, folder: Path, model: nn.Module, variables: Variables, dataset: Dataset) -> list[str]:
        """Writes pictures of predictions beside their truth into a folder and returns the names of the files."""
        ...
