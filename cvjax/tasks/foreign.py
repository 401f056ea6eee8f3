"""Makes a model that is ready for use of a file of weights, without a run: for evaluation and prediction."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cvjax.datasets.voc.segmentation import VOC_CLASSES
from cvjax.engine.config import RunConfig
from cvjax.errors import ConfigError
from cvjax.models import create_model, model_info
from cvjax.models.config import ModelConfig
from cvjax.models.info import Preprocessing
from cvjax.storage import as_path, file_and_key, is_remote
from cvjax.tasks.images import ImageTask, in_bytes
from cvjax.tasks.loaded import Loaded
from cvjax.weights import OpenedWeights, open_weights

_SIDES = {
    "fasterrcnn": (800, 1333),
    "fast": (600, 1000),
}  # what torchvision's and the papers' detectors are scored with


def is_weights(path: str) -> bool:
    """Returns whether a path is a file of weights, and not the folder of a run or a checkpoint."""
    place, _ = file_and_key(path)
    return not is_remote(place) and place.is_file()


def load_weights(
    tasks: Sequence[type[ImageTask]],
    path: str,
    *,
    data: str | None = None,
    manual_dir: str | None = None,
    **options: Any,
) -> Loaded:
    """Makes a model of a file of weights, with the preprocessing that they expect.

    Args:
      tasks: Classes of the tasks that there are.
      path: File that `cvjax.weights.open_weights` reads.
      data: Name of the dataset that it is for. Its classes are the weights' in the same order, where the file names
        none. Without one, 21 classes of a segmentation and 20 of a detection are those of VOC, and other classes are
        called by their numbers.
      manual_dir: Folder of the dataset's files.
      **options: Options of the model that keep its parameters as they are, such as `output_stride=8`.

    Raises:
      ConfigError: The dataset has another number of classes than the weights, or no task has such a model.
      CheckpointError: The file cannot be read, or fits no model.
    """
    opened = open_weights(path, red_first=True)
    kinds = {task.name: task for task in tasks}
    kind = model_info(opened.model).task
    if kind not in kinds:
        raise ConfigError(f"{path} is of {opened.model}, whose task {kind} has no evaluation of its own")
    prepared = opened.preprocessing or Preprocessing(None, None)
    config = _config(kinds[kind].config_class, opened, prepared, options)
    if data is not None:
        config = dataclasses.replace(config, data=data, input=dataclasses.replace(config.input, manual_dir=manual_dir))
    names = opened.class_names or _names(kinds[kind], config, opened, data)
    normalization = {"mean": in_bytes(prepared.mean), "std": in_bytes(prepared.std)}
    task = kinds[kind].restore(config, {"class_names": names, **normalization})
    model = create_model(opened.model, num_classes=opened.num_classes, **(opened.options | options))
    metadata = {"model": {"name": opened.model, "options": dict(config.model.options)}}
    return Loaded(model, opened.variables, task, metadata, as_path(path))


def _config(
    config_class: type[RunConfig], opened: OpenedWeights, prepared: Preprocessing, options: dict[str, Any]
) -> Any:
    """Returns the configuration of a run that would score these weights as their publisher does."""
    config: Any = config_class(model=ModelConfig(opened.model, **(opened.options | options)))
    kind, size = model_info(opened.model).task, prepared.size or model_info(opened.model).image_size
    if kind == "classification":
        scoring = dataclasses.replace(config.eval, crop=(size, size), resize=prepared.resize or size)
        return dataclasses.replace(config, eval=scoring)
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
