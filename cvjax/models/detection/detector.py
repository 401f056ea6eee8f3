"""What goes into a detector and comes out of it, alike for all of them.

A detector is a module of `num_classes` classes, background not among them, that is called in two ways:

    detector(images, sizes, proposals=None, train=False)           -> Detections
    detector(images, sizes, proposals=None, truth=t, train=True)   -> {"name of a loss": float32 [B], ...}

Losses are of each image, already weighed, so that their sum is what to minimise; an image without objects has finite
ones. Random choices are drawn from the stream `sample`, dropout from `dropout`. Boxes are (x1, y1, x2, y2) in pixels of
the images as given, padding included in the frame but never covered: `sizes`, int [B, 2], says what height and width of
each image are real. `proposals` are given to the systems that do not find their own; for the others, `init` needs
images alone, and without `sizes` there is no padding.
"""

from typing import NamedTuple

import jax


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
