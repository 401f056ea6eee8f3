"""What goes into a detector and comes out of it, alike for all of them.

A detector is a module of `num_classes` classes, background not among them, that is called in two ways:

    detector(images, sizes, proposals=None, train=False)           -> Detections
    detector(images, sizes, proposals=None, truth=t, train=True)   -> {"name of a loss": float32 [B], ...}

Losses are of each image, already weighed, so that their sum is what to minimize; an image without objects has finite
ones. Random choices are drawn from the stream `sample`, with a key for each image (`cvjax.nn.row_keys`) so that devices
change nothing; dropout from `dropout`. Boxes are (x1, y1, x2, y2) in pixels of the images as given, padding included
in the frame but never covered: `sizes`, int [B, 2], says what height and width of each image are real; without it
there is no padding. `proposals` are given to the systems that do not find their own; such a class says
`needs_proposals = True`, and for the others `init` needs images alone. A class whose scores are no probabilities says
in `display_threshold` which are worth a look, see `display_threshold`.

What decides which detections are given are fields of the module, by the names of `POSTPROCESSING` where a system has
such a thing, so that an evaluation can change them.
"""

import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

POSTPROCESSING = ("score_threshold", "nms_threshold", "max_detections")
"""The least score of a detection, the IoU above which a better one of its class removes it, and the most an image."""


class Truth(NamedTuple):
    """The objects of a batch, padded to N an image.

    Attributes:
      boxes: float32 [B, N, 4].
      labels: int32 [B, N], 0 to C - 1.
      ignore: bool [B, N], objects that are neither to be found nor background: difficult ones and crowds.
      valid: bool [B, N], False in the padding.
    """

    boxes: jax.Array
    labels: jax.Array
    ignore: jax.Array
    valid: jax.Array


class Proposals(NamedTuple):
    """Boxes that may hold an object, padded to P an image.

    Attributes:
      boxes: float32 [B, P, 4], best first where there is an order.
      valid: bool [B, P], False in the padding.
    """

    boxes: jax.Array
    valid: jax.Array


class Detections(NamedTuple):
    """What was found, suppressed and sorted, padded to K an image.

    Attributes:
      boxes: float32 [B, K, 4], clipped to the real part of the image.
      scores: float32 [B, K], best first; 0 in the padding.
      classes: int32 [B, K], 0 to C - 1.
      valid: bool [B, K], False in the padding, which fills the end.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    valid: jax.Array


def display_threshold(module: nn.Module) -> float:
    """Returns the score from which a detection is shown if nobody says another; 0.5 unless the module has its own."""
    return getattr(module, "display_threshold", 0.5)


def beside_images(module: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a module is called with beside images [B, H, W, C] where only their shape is known; of no detector nothing.

    Nothing of the images is padding, and where proposals are needed, each image is the only one of its own.
    """
    if "sizes" not in inspect.signature(type(module).__call__).parameters:
        return {}
    count, height, width = shape[:3]
    given: dict[str, Any] = {"sizes": np.tile(np.asarray([[height, width]], np.int32), (count, 1))}
    if getattr(module, "needs_proposals", False):
        boxes = np.tile(np.asarray([[[0, 0, width, height]]], np.float32), (count, 1, 1))
        given["proposals"] = Proposals(jnp.asarray(boxes), jnp.ones((count, 1), bool))
    return given
