"""All detectors share the inputs and outputs that are defined here.

A detector is a module of `num_classes` classes, without background. It is called in two ways:

    detector(images, sizes, proposals=None, train=False)           -> Detections
    detector(images, sizes, proposals=None, truth=t, train=True)   -> {"name of a loss": float32 [B], ...}

Losses are per image and already weighed, so that training minimizes their sum. An image without objects has finite
losses. Random choices are drawn from the stream `sample`, with a key for each image (`cvjax.nn.row_keys`), so that the
number of devices changes nothing. Dropout draws from `dropout`.

Boxes are (x1, y1, x2, y2) in pixels of the images as given. `sizes`, int [B, 2], holds the height and width of the real
part of each image. The rest is padding, which lies within the frame, but no box covers it. Without `sizes` there is no
padding.

`proposals` are given to the systems that do not find their own. Such a class has `needs_proposals = True`. For the
others, `init` needs images alone. A class whose scores are no probabilities has a `display_threshold`, see the function
of this name.

The settings that decide which detections are given are fields of the module. They have the names of `POSTPROCESSING`
where a system has such a setting, so that an evaluation can change them.
"""

import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

POSTPROCESSING = ("score_threshold", "nms_threshold", "max_detections")
"""Names of the fields that decide which detections are given.

They hold the least score of a detection, the IoU above which a better detection of its class removes it, and the
largest number of detections of an image.
"""


class Truth(NamedTuple):
    """Holds the objects of a batch, padded to N an image.

    Attributes:
      boxes: Boxes of the objects, float32 [B, N, 4].
      labels: Labels from 0 to C - 1, int32 [B, N].
      ignore: Whether an object is neither to be found nor background, as difficult ones and crowds are; bool [B, N].
      valid: Whether an object exists, bool [B, N]; False in the padding.
    """

    boxes: jax.Array
    labels: jax.Array
    ignore: jax.Array
    valid: jax.Array


class Proposals(NamedTuple):
    """Holds boxes that may contain an object, padded to P an image.

    Attributes:
      boxes: Boxes, float32 [B, P, 4], best first where there is an order.
      valid: Whether a box exists, bool [B, P]; False in the padding.
    """

    boxes: jax.Array
    valid: jax.Array


class Detections(NamedTuple):
    """Holds the found objects, suppressed and sorted, padded to K an image.

    Attributes:
      boxes: Boxes, float32 [B, K, 4], clipped to the real part of the image.
      scores: Scores, float32 [B, K], best first; 0 in the padding.
      classes: Classes from 0 to C - 1, int32 [B, K].
      valid: Whether a detection exists, bool [B, K]; False in the padding, which fills the end.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    valid: jax.Array


def display_threshold(module: nn.Module) -> float:
    """Returns the score from which a detection is shown by default: the module's own, or 0.5."""
    return getattr(module, "display_threshold", 0.5)


def beside_images(module: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns the other inputs of a detector for images of shape [B, H, W, C], and nothing for other modules.

    The images have no padding. Where proposals are needed, each image as a whole is its only proposal.
    """
    if "sizes" not in inspect.signature(type(module).__call__).parameters:
        return {}
    count, height, width = shape[:3]
    given: dict[str, Any] = {"sizes": np.tile(np.asarray([[height, width]], np.int32), (count, 1))}
    if getattr(module, "needs_proposals", False):
        boxes = np.tile(np.asarray([[[0, 0, width, height]]], np.float32), (count, 1, 1))
        given["proposals"] = Proposals(jnp.asarray(boxes), jnp.ones((count, 1), bool))
    return given
