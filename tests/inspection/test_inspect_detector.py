"""A detector is traced as any net is: its call takes the sizes of the images, and perhaps proposals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cvjax.inspection.trace import trace
from cvjax.inspection.walk import layers_and_blocks
from cvjax.models.detection.detector import Detections, Proposals
from cvjax.nn import TorchConv
from cvjax.ops.detection.nms import nms


class Finder(nn.Module):
    """One box for each place of a map, or for each proposal; suppressed."""

    needs_proposals: bool = False

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array, proposals: Proposals | None = None, train: bool = False
    ) -> Detections:
        x = TorchConv(6, (3, 3), (4, 4), padding=((1, 1), (1, 1)), name="stem")(images)
        x = TorchConv(5, (1, 1), name="head")(x).reshape(len(images), -1, 5)
        boxes = x[..., 1:] * sizes[:, None, :1].astype(jnp.float32)
        if self.needs_proposals:
            boxes += proposals.boxes

        def suppress(boxes: jax.Array, scores: jax.Array) -> Detections:
            kept = nms(boxes, scores, iou_threshold=0.5, max_output=3)
            return Detections(boxes[kept.indices], kept.scores, jnp.zeros(3, jnp.int32), kept.valid)

        return jax.vmap(suppress)(boxes, x[..., 0])


@pytest.mark.parametrize("needs_proposals", [False, True])
def test_the_layers_of_a_detector_are_listed(needs_proposals):
    images = jax.ShapeDtypeStruct((1, 32, 40, 3), jnp.float32)
    layers, _ = layers_and_blocks(trace(Finder(needs_proposals), images), images)
    found = {layer.name: layer for layer in layers}
    assert (found["stem"].output_shape, found["stem"].params) == ((8, 10, 6), 3 * 9 * 6 + 6)
    assert (found["stem"].receptive_field, found["head"].receptive_field) == ((3, 3), (3, 3))
    assert found["head"].macs == 8 * 10 * 6 * 5
