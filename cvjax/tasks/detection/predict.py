"""Calls detectors on prepared batches."""

from typing import Any, NamedTuple

import jax
from flax import linen as nn

from cvjax.errors import ConfigError
from cvjax.models.detection.detector import POSTPROCESSING, Proposals, Truth
from cvjax.tasks.detection.config import DetectionEval


class Inputs(NamedTuple):
    """Holds the inputs of a detector for one batch.

    Attributes:
      images: Normalized images, float32 [B, H, W, 3].
      sizes: Height and width of each image without padding, int32 [B, 2].
      proposals: Proposals of each image; None if the batch has none.
      truth: Objects of each image; None outside training.
    """

    images: jax.Array
    sizes: jax.Array
    proposals: Proposals | None
    truth: Truth | None


def call_detector(
    model: nn.Module,
    variables: Any,
    inputs: Inputs,
    *,
    train: bool,
    rngs: dict[str, jax.Array] | None = None,
    **options: Any,
) -> Any:
    """Returns detections, or in training the losses by name, with any option of Flax's `apply`.

    The random stream `sample` is derived from that of `dropout`, so that the training loop need not know of it.

    Raises:
      ConfigError: The detector needs proposals, and the batch has none.
    """
    given: dict[str, Any] = {} if inputs.proposals is None else {"proposals": inputs.proposals}
    if inputs.proposals is None and getattr(model, "needs_proposals", False):
        raise ConfigError(f"{type(model).__name__} finds no boxes by itself; give it data with proposals")
    if train:
        given["truth"] = inputs.truth
    if rngs is not None and "dropout" in rngs:
        rngs = {"sample": jax.random.fold_in(rngs["dropout"], 0x5A), **rngs}
    return model.apply(variables, inputs.images, inputs.sizes, **given, train=train, rngs=rngs, **options)


def with_postprocessing(model: nn.Module, config: DetectionEval) -> nn.Module:
    """Returns the model with the thresholds of the configuration.

    Raises:
      ConfigError: The model does not have one of the thresholds.
    """
    given = {name: value for name in POSTPROCESSING if (value := getattr(config, name)) is not None}
    unknown = [name for name in given if not hasattr(model, name)]
    if unknown:
        raise ConfigError(f"{type(model).__name__} has no {', '.join(unknown)}; leave out --eval.{unknown[0]}")
    return model.clone(**given) if given else model
