"""Makes a model that is ready for use of somebody's weights, without a run: for evaluation and prediction."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvjax.datasets.registry import own_place
from cvjax.datasets.voc.segmentation import VOC_CLASSES
from cvjax.engine.config import RunConfig
from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model, model_info
from cvjax.models.config import ModelConfig
from cvjax.models.info import Preprocessing
from cvjax.storage import as_path, file_and_key, is_folder, is_remote
from cvjax.tasks.images import ImageTask, in_bytes
from cvjax.tasks.loaded import Loaded
from cvjax.weights import OpenedWeights, open_weights
from cvjax.weights.hub import Fetched, fetch_pretrained, is_pretrained
from cvjax.weights.preprocess import in_words
from cvjax.weights.readers.caffe import read_binaryproto

_SIDES = {
    "fasterrcnn": (800, 1333),
    "fast": (600, 1000),
}  # what torchvision's and the papers' detectors are scored with


def is_weights(path: str) -> bool:
    """Returns whether a path is a file of weights or the name of published ones, and not a run or a checkpoint."""
    if is_pretrained(path):
        return not as_path(path).exists()
    place, _ = file_and_key(path)
    return not is_remote(place) and place.is_file()


def chosen(checkpoint: str | None, weights: str | None) -> str:
    """Returns which of two arguments of a command names the model.

    Args:
      checkpoint: Its CHECKPOINT: a run, a checkpoint, or weights.
      weights: Its `--weights`.

    Raises:
      ConfigError: Both are given or none, or the weights are a folder.
      CheckpointError: There are no such weights.
    """
    if weights is None:
        if checkpoint is None:
            raise ConfigError("there is nothing to load; give a run's folder as CHECKPOINT, or a file with --weights")
        return checkpoint
    if checkpoint is not None:
        raise ConfigError(f"both {checkpoint} and --weights {weights} name a model; give one of them")
    if is_weights(weights):
        return weights
    if is_folder(weights):
        raise ConfigError(f"{weights} is a folder, and --weights is for files; for a run give it without --weights")
    raise CheckpointError(f"there are no weights {weights}: neither a file nor a published name; check the path")


def load_weights(
    tasks: Sequence[type[ImageTask]],
    path: str,
    *,
    data: str | None = None,
    manual_dir: str | None = None,
    name: str | None = None,
    layout: str | None = None,
    mean: str | None = None,
    **options: Any,
) -> Loaded:
    """Makes a model of somebody's weights, with the preprocessing that they expect.

    Args:
      tasks: Classes of the tasks that there are.
      path: File that `cvjax.weights.open_weights` reads, or a name that `cvjax.load_pretrained` knows.
      data: Name of the dataset that it is for, or the path of one's own. Its classes are the weights' in the same
        order, where the file names none. Without one, 21 classes of a segmentation and 20 of a detection are those of
        VOC, and other classes are called by their numbers.
      manual_dir: Folder of the dataset's files.
      name, layout: Name of the weights' model and layout, where a file leaves them open.
      mean: File of Caffe's with the mean image that is subtracted instead of the mean that the layout has. Where images
        have its size it is subtracted pixel by pixel, as its publishers do; elsewhere its mean in each channel is.
      **options: Options of the model that keep its parameters as they are, such as `output_stride=8`.

    Raises:
      ConfigError: The dataset has another number of classes than the weights, or no task has such a model.
      CheckpointError: The file cannot be read, or fits no model.
    """
    fetched = fetch_pretrained(path) if is_pretrained(path) else None
    opened = _open(path, fetched, name, layout)
    kinds = {task.name: task for task in tasks}
    kind = model_info(opened.model).task
    if kind not in kinds:
        raise ConfigError(f"{path} is of {opened.model}, whose task {kind} has no evaluation of its own")
    prepared = (fetched and fetched.preprocessing) or opened.preprocessing or Preprocessing(None, None)
    expects = fetched.preprocessing if fetched else opened.expects or prepared
    if kind != "classification":  # images are read as the evaluation says
        expects = dataclasses.replace(expects, size=None, resize=None)
    said = f"{path}: {opened.whose}; it sees images {in_words(expects)}"
    image = None if mean is None else read_mean(mean)
    if image is not None:
        prepared = dataclasses.replace(prepared, mean=_channels(image / 255))
    config = _config(kinds[kind].config_class, opened, prepared, options)
    if data is not None:
        data, place = own_place(data, manual_dir)
        manual_dir = None if place is None else os.fspath(place)
        config = dataclasses.replace(config, data=data, input=dataclasses.replace(config.input, manual_dir=manual_dir))
    names = opened.class_names or _names(kinds[kind], config, opened, data)
    normalization = {"mean": in_bytes(prepared.mean), "std": in_bytes(prepared.std)}
    if image is not None:
        of_size = kind == "classification" and image.shape[:2] == (config.eval.resize, config.eval.resize)
        normalization |= {"mean_image": image} if of_size else {}
        red, green, blue = _channels(image)
        levels = "each pixel's mean" if of_size else f"{red:.3f} of red, {green:.3f} of green and {blue:.3f} of blue"
        said += f", but less {levels}, from {mean}"
    task = kinds[kind].restore(config, {"class_names": names, **normalization})
    model = create_model(opened.model, num_classes=opened.num_classes, **(opened.options | options))
    metadata = {"model": {"name": opened.model, "options": dict(config.model.options)}, "weights": said}
    return Loaded(model, opened.variables, task, metadata, as_path(path))


def _open(path: str, fetched: Fetched | None, name: str | None, layout: str | None) -> OpenedWeights:
    if fetched is None:
        return open_weights(path, name=name, layout=layout, red_first=True)
    if name not in (None, fetched.model):
        raise ConfigError(f"{path} is of {fetched.model}, not of {name}; leave --as out")
    return open_weights(fetched.path, name=fetched.model, layout=layout, red_first=True)


def read_mean(path: str) -> np.ndarray:
    """Reads Caffe's mean image, float32 [H, W, 3] of red, green and blue from 0 to 255.

    Raises:
      CheckpointError: The file cannot be read, or its image has other channels.
    """
    place, _ = file_and_key(path)
    if is_remote(place):
        raise CheckpointError(f"{path}: there is no such file; check the path")
    image = read_binaryproto(place)
    if len(image) != 3:
        raise CheckpointError(f"{path} holds a mean image of {len(image)} channels, not of 3; give that of photographs")
    return np.ascontiguousarray(image[::-1].transpose(1, 2, 0))


def _channels(image: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = image.mean((0, 1), np.float64).tolist()
    return red, green, blue


def _config(
    config_class: type[RunConfig], opened: OpenedWeights, prepared: Preprocessing, options: dict[str, Any]
) -> Any:
    """Returns the configuration of a run that would score these weights as their publisher does."""
    config: Any = config_class(model=ModelConfig(opened.model, **(opened.options | options)))
    kind, size = model_info(opened.model).task, prepared.size or model_info(opened.model).image_size
    if kind == "classification":
        scoring = dataclasses.replace(config.eval, crop=(size, size), resize=prepared.resize or size)
        reading = dataclasses.replace(config.input, interpolation=prepared.interpolation)
        return dataclasses.replace(config, input=reading, eval=scoring)
    if kind == "segmentation":
        return config
    sides = next((sides for prefix, sides in _SIDES.items() if opened.model.startswith(prefix)), None)
    if sides is None:  # YOLO sees squares
        return dataclasses.replace(
            config, input=dataclasses.replace(config.input, crop=(size, size), keep_aspect=False)
        )
    short, long = sides
    reading = dataclasses.replace(config.input, crop=(long, long), short_side=short, long_side=long)
    return dataclasses.replace(config, input=reading, eval=dataclasses.replace(config.eval, batch_size=1))


def _names(task: type[ImageTask], config: Any, opened: OpenedWeights, data: str | None) -> tuple[str, ...]:
    count = opened.num_classes
    if data is not None:
        found = tuple(task.open(config, config.input.eval_split).class_names)
        if len(found) != count:
            raise ConfigError(
                f"the weights of {opened.model} have {count} classes, and {data} has {len(found)}; give the data that "
                "they were trained for"
            )
        return found
    known = {"segmentation": VOC_CLASSES, "detection": VOC_CLASSES[1:]}.get(task.name, ())
    return known if len(known) == count else tuple(f"class {number}" for number in range(count))
