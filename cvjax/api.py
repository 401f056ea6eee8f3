"""The package's verbs, for scripts and notebooks: `cvjax.load`, `load_pretrained`, `train`, `evaluate`, `predict`."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from rich.console import Console

from cvjax.cli.evaluate import Arguments, evaluate_checkpoint
from cvjax.data.photos import read_photo
from cvjax.engine.config import RunConfig, resolve
from cvjax.engine.loop import Outcome
from cvjax.models import Preprocessing, create_model
from cvjax.storage import as_path
from cvjax.tasks.load import Loaded, load_for_inference
from cvjax.tasks.prediction.inputs import Photo
from cvjax.tasks.prediction.pieces import Views, check_image
from cvjax.tasks.prediction.stream import Images, Stream
from cvjax.tasks.prediction.videos import Frame
from cvjax.tasks.segmentation.predict import LabelMap
from cvjax.weights import hub, open_weights, preprocess


class PretrainedModel(NamedTuple):
    """A model with published weights.

    Attributes:
      model: Module; `model.apply(variables, images, train=False)` gives its result.
      variables: {"params", "batch_stats"}.
      preprocessing: What the weights expect to have been done to a photograph.
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocessing: Preprocessing

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Returns a photograph, uint8 [H, W, 3], as the weights expect it: float32 [height, width, 3]."""
        return preprocess(image, self.preprocessing)


def load(path: str | os.PathLike[str], **options: Any) -> Loaded:
    """Loads a trained model from a checkpoint alone.

    Args:
      path: Folder of a run (its best checkpoint is taken), or of one checkpoint.
      **options: Options of the model that keep its parameters as they are, such as `output_stride=8`.

    Returns:
      `Loaded`, with `model`, `variables`, `task`, and the methods `preprocess` and `predict`.

    Raises:
      CheckpointError: None there, unreadable, or of a model that this version does not have.
    """
    return load_for_inference(path, **options)


def load_pretrained(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    key: jax.Array | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> PretrainedModel:
    """Loads somebody's weights into their model; published ones are fetched the first time.

    Args:
      name: "resnet50" for what its publisher recommends, a name that `cvjax.weights.list_pretrained()` shows, or a
        repository of timm's on Hugging Face's hub, such as "hf-hub:timm/resnet50.a1_in1k". Or a file, whoever wrote it,
        see `cvjax.weights.open_weights`.
      num_classes: Number of classes, if another than the weights have; the head then starts anew, drawn by `key`.
      in_channels: Channels of the images, if not 3.
      key: Key that draws what the weights do not have.
      data_dir: Folder whose `weights` holds the files; None is $CVJAX_DATA_DIR, else `~/.cache/cvjax`.
      **options: Options of the model that keep its parameters as they are, such as `dtype`.

    Raises:
      ConfigError: A name or option that is not known.
      CheckpointError: Weights that cannot be fetched or read; the message says what to do by hand.
    """
    if not hub.is_pretrained(name) and pathlib.Path(name).suffix:
        opened = open_weights(name, num_classes=num_classes, in_channels=in_channels, key=key)
        model = create_model(opened.model, num_classes=opened.num_classes, **(opened.options | options))
        return PretrainedModel(model, opened.variables, opened.preprocessing or Preprocessing(None, None))
    fetched = hub.fetch_pretrained(name, data_dir=data_dir)
    variables, preprocessing = hub.load_fetched(fetched, num_classes=num_classes, in_channels=in_channels, key=key)
    changed = {"num_classes": num_classes, "in_channels": in_channels}
    given = {option: value for option, value in changed.items() if value is not None}
    model = create_model(fetched.model, **(dict(fetched.options) | given | options))
    return PretrainedModel(model, variables, preprocessing)


def train(config: RunConfig) -> Outcome:
    """Trains, evaluates, and writes checkpoints, figures and pictures into `config.workdir`.

    Args:
      config: Configuration of a run, such as a preset of an experiment:
        `dataclasses.replace(experiments.deeplab_voc.PRESETS["quick"], workdir="runs/mine", steps=300)`.

    Raises:
      UserError: Any of the mistakes that a person can make; the message says which, and the way out.
    """
    return resolve(config.runner)(config)


def evaluate(path: str | os.PathLike[str], **settings: Any) -> dict[str, Any]:
    """Scores a checkpoint on a split.

    Args:
      path: Folder of a run or of a checkpoint.
      **settings: Settings of `cvjax evaluate`, such as `split="test"`, `flip=True`; what is not given is
        as in the run.

    Returns:
      The scores by name, as report.json has them.

    Raises:
      UserError: A missing or foreign checkpoint, missing data, or settings of another task.
    """
    return evaluate_checkpoint(Arguments(os.fspath(path), **settings), Console(quiet=True))


def predict(
    model: Loaded | str | os.PathLike[str],
    image: np.ndarray | str | os.PathLike[str] | Sequence[np.ndarray | str | os.PathLike[str]],
    *,
    batch_size: int = 8,
    **views: Any,
) -> Any:
    """Predicts one photograph of any size, or many.

    Args:
      model: What `load` returned, which compiles once for each size of images, or a path for a single call.
      image: uint8 [H, W, 3], RGB, or a path; or a sequence of these, which are predicted in batches of about the same
        size and read in threads.
      batch_size: Number of images of up to 640x640 pixels in a batch, of a sequence.
      **views: Fields of `cvjax.tasks.prediction.pieces.Views`, such as `flip=True`, `scales=(0.75, 1.0)`, `tile=1024`;
        without any, as the evaluation is configured.

    Returns:
      Labels uint8 [H, W] of a segmentation, probabilities float32 [C] of a classification, `cvjax.visual.boxes.Boxes`
      of a detection; of a sequence their list, in its order.

    Raises:
      UserError: A missing or damaged checkpoint or image, or a model that predicts no photographs, or not so.
    """
    loaded = model if isinstance(model, Loaded) else load_for_inference(model)
    is_one = isinstance(image, np.ndarray | str | os.PathLike)
    if is_one and not views:
        return loaded.predict(image if isinstance(image, np.ndarray) else read_photo(image))
    images: Sequence[Any] = [image] if is_one else image
    for array in images:
        if isinstance(array, np.ndarray):
            check_image(array)
    sources = [
        Frame(number, one, f"image {number}") if isinstance(one, np.ndarray) else Photo(as_path(one))
        for number, one in enumerate(images)
    ]
    seen = Views(**views) if views else None
    stream = Stream(loaded.batch_predictor(seen), batch_size)
    results: list[Any] = [None] * len(sources)
    for found in stream.over(Images(sources)):
        results[found.number] = found.result.labels if isinstance(found.result, LabelMap) else found.result
    return results[0] if is_one else results
