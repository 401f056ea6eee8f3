"""From images to class probabilities, as an evaluation is configured."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import linen as nn

from cvjax.runtime.compiler import compiler_options
from cvjax.tasks.inference import classify

if TYPE_CHECKING:
    from cvjax.tasks.classification.task import Classification


def probabilities(
    model: nn.Module, variables: Any, images: jax.Array, ten_crops: tuple[int, int] | None = None
) -> jax.Array:
    """Returns class probabilities, float32 [B, C], of normalized images [B, H, W, 3]; see `classify`."""

    def logits_of(x: jax.Array) -> Any:  # what Flax says it returns includes what a mutable collection would add
        return model.apply(variables, x, train=False)

    return classify(logits_of, images, ten_crops=ten_crops)


def make_classifier(
    task: "Classification", model: nn.Module, variables: dict[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from uint8 [H, W, 3] of any size to probabilities float32 [C], as the evaluation has them.

    Args:
      task: Task of the run or checkpoint.
      model: Module of the run or checkpoint.
      variables: Its variables.
    """
    variables, transform = jax.device_put(variables), task.eval_crop()

    @functools.partial(jax.jit, compiler_options=compiler_options(jax.devices()[0].platform))
    def compiled(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return task.predict(model, variables, task.normalize(images))

    def classify_image(image: np.ndarray) -> np.ndarray:
        return np.asarray(compiled(variables, transform(image, np.asarray(0, np.int32))[0][None]))[0]

    return classify_image
