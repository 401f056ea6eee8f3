"""R-CNN (Girshick, Donahue, Darrell and Malik, 1311.2524): every proposal cut out, warped to one size, and classified.

The window around a proposal is larger than the proposal, so that after the warp `context` pixels of surroundings lie on
every side. The warp does not keep proportions. Pixels beyond the image have the image's mean, which is zero in
normalized images. Each of some 2,000 windows goes through the whole net; SPPnet and Fast R-CNN avoid this cost.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.classification.alexnet import AlexNet
from cvjax.models.classification.vgg import VGG
from cvjax.models.detection.region_classifier import cut_of
from cvjax.models.detection.staged import Description, StagedDetector
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import adaptive_avg_pool
from cvjax.ops.detection.boxes import convert
from cvjax.ops.detection.roi import roi_align
from cvjax.ops.geometry import pair


class RCNN(StagedDetector):
    """Detects objects by a classifier of warped windows.

    A training step draws `rois_per_image` windows of each image. The paper's steps have 128 windows, 32 of them of
    objects. There, a step has many images, so this number may be small.

    Its other attributes are those of `StagedDetector`.

    Attributes:
      window_size: Side that windows are warped to, in pixels.
      context: Number of pixels of surroundings in a window, on every side.
      windows_at_once: Number of windows of an image that inference computes at once. The others wait, so that memory
        does not grow with their number.
    """

    window_size: int = 227
    context: int = 16
    windows_at_once: int = 64

    def setup(self) -> None:
        super().setup()
        if not 0 <= 2 * self.context < self.window_size:
            raise ConfigError(f"windows of {self.window_size} pixels have no room for {self.context} of context a side")
        if self.windows_at_once < 1:
            raise ConfigError(f"windows_at_once is at least 1, not {self.windows_at_once}")

    def describe(self, images: jax.Array, sizes: jax.Array, boxes: jax.Array, train: bool = False) -> Description:
        """Describes regions, see `StagedDetector.describe`; `pooled` is the backbone's `pool5`."""
        check_images(images, self.in_channels)
        warp = partial(warp_windows, size=self.window_size, context=self.context)
        if train or self.is_initializing():
            return Description(*_describe(self.backbone, warp(images, sizes, boxes), self._window, train))
        # Under a transformation of JAX a module must not reach out to its parent's variables.
        backbone, variables = self.backbone.unbind()

        def step(some: jax.Array) -> Any:
            windows = warp(images, sizes, some)
            return backbone.apply(variables, windows, self._window, method=_describe)

        batch, count = boxes.shape[:2]
        some = min(self.windows_at_once, count)
        padded = jnp.pad(boxes, ((0, 0), (0, -count % some), (0, 0)))
        steps = jnp.moveaxis(padded.reshape(batch, -1, some, 4), 1, 0)
        rows = (jnp.moveaxis(x, 0, 1).reshape(batch, padded.shape[1], -1) for x in jax.lax.map(step, steps))
        return Description(*(x[:, :count] for x in rows))

    @property
    def _window(self) -> int:
        return cut_of(self.backbone).window


def warp_windows(images: jax.Array, sizes: jax.Array, boxes: jax.Array, *, size: int, context: int) -> jax.Array:
    """Cuts out windows around boxes, and brings them to one size by bilinear interpolation without smoothing.

    Args:
      images: Images [B, H, W, C].
      sizes: Height and width of the real part of each image, [B, 2].
      boxes: Boxes [B, R, 4].
      size: Side of the result in pixels.
      context: Number of pixels of the result, on every side, that show the surroundings of the box.

    Returns:
      Windows [B, R, size, size, C], zero beyond the image. A box's corners come to lie at `context` and `size -
      context`.
    """
    inside = [jnp.arange(images.shape[axis])[None] < sizes[:, axis - 1 : axis] for axis in (1, 2)]
    images = jnp.where((inside[0][:, :, None] & inside[1][:, None, :])[..., None], images, 0)
    centered = convert(boxes, "xyxy", "cxcywh")
    grown = centered * jnp.asarray([[[1, 1, *[size / (size - 2 * context)] * 2]]], centered.dtype)
    windows = convert(grown, "cxcywh", "xyxy")
    index = jnp.zeros(boxes.shape[1], jnp.int32)
    crop = partial(roi_align, batch_index=index, output_size=(size, size), sampling_ratio=1, aligned=True)
    return jax.vmap(lambda image, rows: crop(image[None], rows))(images, windows)


def _describe(backbone: Any, windows: jax.Array, window: int, train: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns the backbone's pool5 and fc7 of windows [B, R, S, S, C], each float32 [B, R, ...]."""
    batch, count = windows.shape[:2]
    pooled = backbone.features(windows.reshape(-1, *windows.shape[2:]), train)["pool5"]
    pooled = adaptive_avg_pool(pooled, (window, window))
    hidden = backbone.head(pooled, train)
    return pair(x.reshape(batch, count, -1).astype(jnp.float32) for x in (pooled, hidden))


def _variant(name: str, window_size: int, params: int, backbone: nn.Module) -> Variant:
    info = ModelInfo(
        name=f"rcnn_{name}",
        task="detection",
        paper="1311.2524",
        year=2013,
        image_size=500,
        params=params,
        gmacs=None,
        params_classes=20,
    )
    return Variant(info, RCNN, {"backbone": backbone, "window_size": window_size})


VARIANTS = (_variant("alexnet", 227, 57_909_177, AlexNet(0)), _variant("vgg16", 224, 136_435_641, VGG(0)))
