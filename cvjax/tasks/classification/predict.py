"""Computes class probabilities of images, as an evaluation is configured."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Float32

from cvjax.runtime.compiler import compiled
from cvjax.shapes import Array

if TYPE_CHECKING:
    from cvjax.tasks.classification.task import Classification


def probabilities(
    model: nn.Module, variables: Any, images: jax.Array, ten_crops: tuple[int, int] | None = None
) -> jax.Array:
    """Returns class probabilities, float32 [B, C], of normalized images [B, H, W, 3]; see `classify`."""

    def logits_of(x: jax.Array) -> Any:  # what Flax says it returns includes what a mutable collection would add
        return model.apply(variables, x, train=False)

    return classify(logits_of, images, ten_crops=ten_crops)


def classify(
    logits_fn: Callable[[jax.Array], jax.Array],
    images: Float[Array, "batch height width channels"],
    *,
    ten_crops: tuple[int, int] | None = None,
) -> Float32[jax.Array, "batch classes"]:
    """Computes class probabilities of images, or their mean over ten crops of each image (AlexNet, section 4.1).

    Args:
      logits_fn: Pure function from images [B, h, w, 3] to logits [B, C], which is traced.
      images: Images [B, H, W, 3], float, normalized as the model expects.
      ten_crops: Height and width of crops at the four corners and in the middle, each also mirrored; None takes the
        whole image.

    Returns:
      Probabilities [B, C], float32; they sum to 1 over C.
    """
    chex.assert_rank(images, 4)

    def probabilities_of(x: jax.Array) -> jax.Array:
        logits = logits_fn(x)
        chex.assert_shape(logits, (x.shape[0], None))
        return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    if ten_crops is None:
        return probabilities_of(images)
    height, width = ten_crops
    below, beside = images.shape[1] - height, images.shape[2] - width
    chex.assert_scalar_non_negative(min(below, beside))
    corners = [(0, 0), (0, beside), (below, 0), (below, beside), (below // 2, beside // 2)]
    crops = [images[:, top : top + height, left : left + width] for top, left in corners]
    crops += [crop[:, :, ::-1] for crop in crops]
    # One after another: one copy of the model in the program, the memory of one pass.
    return jax.lax.map(probabilities_of, jnp.stack(crops)).mean(axis=0)


def make_classifier(
    task: "Classification", model: nn.Module, variables: dict[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from an image, uint8 [H, W, 3] of any size, to probabilities, float32 [C].

    The function crops and averages as the evaluation is configured.

    Args:
      task: Task of the run or checkpoint.
      model: Module of the run or checkpoint.
      variables: Variables of the model.
    """
    variables, transform = jax.device_put(variables), task.eval_crop()

    @compiled
    def probabilities(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return task.predict(model, variables, task.normalize(images))

    def classify_image(image: np.ndarray) -> np.ndarray:
        return np.asarray(probabilities(variables, transform(image, np.asarray(0, np.int32))[0][None]))[0]

    return classify_image
