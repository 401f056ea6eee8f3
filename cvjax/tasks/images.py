"""Implements what the tasks share: opening datasets, initial weights, color augmentation, normalization of images."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from rich.console import RenderableType

from cvjax.data.classes import absent_classes, match_classes
from cvjax.data.dataset import Dataset
from cvjax.datasets.registry import OWN, open_dataset, own_place, said_name
from cvjax.engine.checkpoint import find_checkpoint, read_metadata, read_stored_variables
from cvjax.engine.state import init_variables
from cvjax.engine.task import Batch, Report, Task
from cvjax.errors import ConfigError
from cvjax.imagenet import IMAGENET_MEAN, IMAGENET_STD
from cvjax.models.info import Preprocessing
from cvjax.storage import is_folder
from cvjax.tasks.colors import recolor, varies_colors
from cvjax.tasks.prediction.pieces import BatchPredictor, Views, predict_one
from cvjax.tasks.prediction.results import Results
from cvjax.tasks.splits import open_part
from cvjax.weights import read_darknet, read_weights, start_from, warm_start
from cvjax.weights.class_rows import class_axes, rows_by_name

if TYPE_CHECKING:
    from cvjax.tasks.doubts import Doubt

_LOG = logging.getLogger("cvjax.weights")


def in_bytes(levels: tuple[float, float, float]) -> tuple[float, float, float]:
    """Returns levels of red, green and blue from 0 to 1 in units of 0..255."""
    red, green, blue = levels
    return 255 * red, 255 * green, 255 * blue


def _of_bytes(levels: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = levels
    return red / 255, green / 255, blue / 255


@dataclasses.dataclass(frozen=True)
class ImageTask(Task):
    """Implements the part of a task that is the same for all runs on normalized images, see `cvjax.engine.task.Task`.

    Attributes:
      config: Configuration of the run.
      class_names: Names of the classes, in the order of their labels.
      mean: Mean of each channel, in units of 0..255, which `normalize` subtracts.
      std: Standard deviation of each channel, in units of 0..255, which `normalize` divides by.
      absent: Names of the classes that the scored dataset does not have; they count in no mean over classes.
    """

    config: Any
    class_names: tuple[str, ...]
    mean: tuple[float, float, float] = in_bytes(IMAGENET_MEAN)
    std: tuple[float, float, float] = in_bytes(IMAGENET_STD)
    absent: tuple[str, ...] = ()

    @classmethod
    def open(cls, config: Any, split: str) -> Dataset:
        """Opens a split of the configured dataset, see `cvjax.tasks.splits` for parts that are held out."""
        name, place = own_place(config.data, config.input.manual_dir)
        if config.input.format is not None and name != OWN:
            raise ConfigError(f"--input.format is of one's own data, and the data set is {name}; leave it out")
        own = {"format": config.input.format} if name == OWN else {}
        open_split = functools.partial(
            open_dataset,
            name,
            target=cls.target,
            data_dir=config.data_dir,
            manual_dir=place,
            **cls.open_options(config),
            **own,
        )
        return open_part(config, split, open_split)

    @classmethod
    def open_options(cls, config: Any) -> dict[str, Any]:
        """Returns further keyword arguments for the opener of the dataset, taken from the configuration."""
        del config
        return {}

    @classmethod
    def create(cls, config: Any, dataset: Dataset, model: nn.Module) -> Self:
        """Makes the task of a run, with the classes of the dataset."""
        del model
        return cls(config, tuple(dataset.class_names))

    @classmethod
    def restore(cls, config: Any, record: Mapping[str, Any]) -> Self:
        """Makes the task of a finished run from its configuration and the result of `record` at that time."""
        names = {field.name for field in dataclasses.fields(cls)} - {"config"}
        return cls(config=config, **{name: value for name, value in record.items() if name in names})

    def record(self) -> dict[str, Any]:
        """Returns the fields that a checkpoint stores beside the configuration: all others that the run decides."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in ("config", "absent")]
        return {name: getattr(self, name) for name in names}

    def matched(self, dataset: Dataset) -> tuple[Self, Dataset]:
        """Matches the classes of a dataset to the model's by name, see `cvjax.data.classes.match_classes`.

        Returns:
          The task that scores the dataset, which knows what classes are absent, and the dataset with the model's
          labels.

        Raises:
          DataError: The dataset has a class that the model lacks.
        """
        void = getattr(self.config.input, "void", ())
        where = said_name(dataset.name, self.config.input.manual_dir)
        found = match_classes(dataset, self.class_names, void=void, where=where)
        return dataclasses.replace(self, absent=absent_classes(found, self.class_names)), found

    def reconfigured(self, **changes: Any) -> Self:
        """Returns the task with some fields of its configuration replaced, such as `eval`."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    def warm_start(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Returns fresh variables with the weights of `config.init` filled in.

        `config.init` names another run's checkpoint, a PyTorch state dict, or a darknet file. Of another run the rows
        of the head are taken by the names of the classes, see `cvjax.weights.class_rows`.

        Raises:
          CheckpointError: The weights are missing or do not fit.
        """
        init = self.config.init
        if is_folder(init):
            return warm_start(variables, self._stored_by_name(variables))
        if init.endswith(".weights"):  # maybe of the first layers alone, as those that training starts from
            return read_darknet(init, variables, grid=self.config.model.get("grid"), partial=True)
        return self.put_weights(variables, read_weights(init, data_dir=self.config.data_dir))

    def _stored_by_name(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Returns the variables of the run that `config.init` names, with the head's rows in the order of our names."""
        place = find_checkpoint(self.config.init)
        stored, record = read_stored_variables(place), read_metadata(place).get("task", {})
        names = tuple(record.get("class_names") or self.class_names)
        if names == self.class_names:
            return stored
        # The classes' rows are those that grow with their number.
        larger = self.config.model.build(num_classes=self.num_classes + 1)
        shapes = jax.eval_shape(lambda key: self.init(larger, key), jax.random.key(0))
        axes = class_axes(variables, shapes, self.num_classes)
        stored, said = rows_by_name(stored, axes, names, self.class_names)
        if said:
            _LOG.warning("%s: %s", self.config.init, said)
        return stored

    def put_weights(self, variables: dict[str, Any], weights: dict[str, np.ndarray]) -> dict[str, Any]:
        """Returns the variables with somebody's weights: of the same net, or of a classifier in the backbone."""
        wanted = Preprocessing(mean=_of_bytes(self.mean), std=_of_bytes(self.std))
        return start_from(self.config.model, variables, weights, wanted)

    def soft_loss(self, logits: jax.Array, taught: jax.Array, targets: Batch) -> jax.Array:
        """Returns the summed divergence of logits from a teacher's, in the unit of `loss`.

        Args:
          logits: Logits of the student [B, ..., C], divided by the temperature.
          taught: Logits of the teacher [B, ..., C], divided by the temperature.
          targets: Prepared targets.

        Raises:
          ConfigError: The task has no such loss.
        """
        del logits, taught, targets
        raise ConfigError(f"a run of the task {self.name} learns from labels alone; leave --distill.teacher out")

    def image_weights(self, targets: Batch) -> jax.Array:
        """Returns what each image counts in the weight, float32 [B]: by default 1 for a valid one."""
        return targets["valid"].astype(jnp.float32)

    @property
    def num_classes(self) -> int:
        """Returns the number of classes, without the ignored label."""
        return len(self.class_names)

    @property
    def fill(self) -> tuple[int, int, int]:
        """Returns the color of padded pixels: the mean, which normalizes to about zero."""
        red, green, blue = (round(level) for level in self.mean)
        return red, green, blue

    def init(self, model: nn.Module, key: jax.Array) -> dict[str, Any]:
        """Returns fresh variables of the model, for images of the training crop's size."""
        return init_variables(model, key, (*self.config.input.crop, 3))

    def apply(self, model: nn.Module, variables: Any, inputs: Any, *, train: bool, **options: Any) -> Any:
        """Calls the model on prepared images, with any option of Flax's `apply`."""
        return model.apply(variables, inputs, train=train, **options)

    def prepare(self, batch: Batch, key: jax.Array | None) -> tuple[Any, Batch]:
        """Returns the normalized images, with random colors in training, and the unchanged batch.

        Args:
          batch: Arrays, among them `image` [B, H, W, 3] in 0..255 and `index` [B].
          key: Random key of this step; None in evaluation.
        """
        return self.images(batch, key), batch

    def images(self, batch: Batch, key: jax.Array | None) -> jax.Array:
        """Returns the normalized images of a batch, recolored if a key is given.

        The colors of an example depend only on the key and on the example's index. So they are the same however the
        batch is spread over devices.

        Args:
          batch: `image` [B, H, W, 3] in 0..255 and `index` [B].
          key: Random key of this step; None leaves the colors as they are.

        Returns:
          float32 [B, H, W, 3].

        Raises:
          ConfigError: `exposure` or `hsv_saturation` is below 1.
        """
        images = batch["image"]
        chex.assert_rank(images, 4)
        images = images.astype(jnp.float32)
        colors = self.config.input
        if min(colors.exposure, colors.hsv_saturation) < 1:
            raise ConfigError(
                "exposure and hsv_saturation are largest factors, 1 or more, not"
                f" {(colors.exposure, colors.hsv_saturation)}"
            )
        if key is not None and varies_colors(colors):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
            images = jax.vmap(functools.partial(recolor, colors))(images, keys)
        return self.normalize(images)

    def normalize(self, images: jax.Array) -> jax.Array:
        """Normalizes uint8 or float images [..., 3] in 0..255 to float32 of about zero mean and unit variance."""
        images = images.astype(jnp.float32)
        mean, std = jnp.asarray(self.mean, jnp.float32), jnp.asarray(self.std, jnp.float32)
        axes = range(images.ndim - 1)
        return (images - jnp.expand_dims(mean, axes)) / jnp.expand_dims(std, axes)

    def weight(self, batch: Batch) -> jax.Array:
        """Returns the divisor of the summed loss, float32 scalar: by default the number of valid images."""
        return batch["valid"].sum(dtype=jnp.float32)

    def gather(self, predictions: Any, batch: Batch) -> dict[str, jax.Array]:
        """Returns arrays with a row for each example, for scores that are not sums; none by default."""
        del predictions, batch
        return {}

    def summarize(self, rows: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns further sums over a batch, and rows to be concatenated, from the gathered arrays; none by default."""
        del rows
        return {}, {}

    def seen(self, known: Preprocessing) -> Preprocessing:
        """Returns how the run's images are prepared for the net, as a file of its weights says it.

        Args:
          known: Preprocessing of the net's published weights; what a run has no say in is as there.
        """
        return dataclasses.replace(known, mean=_of_bytes(self.mean), std=_of_bytes(self.std), bgr=False)

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Returns the model's input in evaluation, float32 [height, width, 3], for a photograph, uint8 [H, W, 3]."""
        return np.asarray(self.normalize(jnp.asarray(image)))

    def batch_predictor(
        self, model: nn.Module, variables: dict[str, Any], views: Views | None = None, *, multiple: int | None = None
    ) -> BatchPredictor:
        """Returns what predicts photographs of any size in batches.

        Args:
          model: Module of the run or checkpoint.
          variables: Variables of the model.
          views: Tiles, scales and mirror images; None predicts as the evaluation is configured.
          multiple: Divisor of the sides of padded images; None is the task's own.

        Raises:
          ConfigError: The task cannot predict from a photograph alone, or not with these views.
        """
        del model, variables, views, multiple
        raise ConfigError(f"a model of the task {self.name} needs more than a photograph; evaluate it instead")

    def results(self) -> Results:
        """Returns what writes the results of a `batch_predictor`, where `cvjax predict` has no settings for the task.

        Raises:
          ConfigError: Nothing writes them.
        """
        raise ConfigError(f"nothing writes predictions of the task {self.name}; take them from cvjax.predict")

    def predictor(self, model: nn.Module, variables: dict[str, Any]) -> Callable[[np.ndarray], Any]:
        """Returns the function from a photograph, uint8 [H, W, 3] of any size, to its prediction.

        Raises:
          ConfigError: The task cannot predict from a photograph alone.
        """
        return functools.partial(predict_one, self.batch_predictor(model, variables))

    def doubts(self, model: nn.Module, variables: dict[str, Any], dataset: Dataset) -> "list[Doubt]":
        """Returns the labels of a split that the net finds unlikely, the most doubtful of each kind first.

        Raises:
          ConfigError: The task has no rule for that.
        """
        del model, variables, dataset
        raise ConfigError(f"there is no rule for labels in doubt of the task {self.name}; take a run of another task")

    def table(self, report: Report) -> RenderableType:
        """Returns the table of a report for the terminal: by default its line of scores."""
        return self.headline(report)

    def headline(self, report: Report) -> str:
        """Returns the scores as one line: by default the score that chooses the best checkpoint."""
        return f"{self.metric} {report[self.metric]:.4f}"

    def draw_report(self, folder: pathlib.Path, report: Report) -> list[str]:
        """Writes tables and plots of a report and returns the names of the files; none by default."""
        del folder, report
        return []
