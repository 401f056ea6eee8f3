"""Faster R-CNN as its paper has it (Ren et al., 1506.01497): VGG-16 or ZF, one map of stride 16, nine anchors a place.

A region is max-pooled to the pixels that the classifier's dense layers see, and goes through those. They and the
convolutions start from ImageNet's weights; the paper does not move VGG's first two stages after that
(`OptimizerConfig.frozen`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.models.classification.vgg import VGG
from cvjax.models.classification.zfnet import ZFNet
from cvjax.models.detection.region_detector import RegionDetector
from cvjax.models.info import ModelInfo, Variant
from cvjax.ops.detection.anchors import PAPER_SIZES, map_anchors, paper_cell_anchors
from cvjax.ops.detection.roi import roi_pool

_STRIDE = 16


class SingleMapDetector(RegionDetector):
    """On one map, with the dense layers of its classifier behind RoI pooling; subclasses add the backbone.

    Attributes: those of `RegionDetector`, and
      anchor_sizes: square roots of the anchors' areas, in pixels.
      hidden: channels of the two dense layers.
      dropout: of these, in training.
    """

    anchor_sizes: tuple[float, ...] = PAPER_SIZES
    hidden: int = 4096
    dropout: float = 0.5
    map_name = ""
    pooled_side = 0

    def anchors_of_place(self) -> int:
        """Anchors of one place of a map."""
        return len(self.anchor_sizes) * len(self.anchor_ratios)

    def anchors(self, image_size: tuple[int, int], maps: list[jax.Array]) -> list[np.ndarray]:
        """The paper's anchors of the one map."""
        del image_size
        cell = paper_cell_anchors(self.anchor_sizes, self.anchor_ratios, _STRIDE)
        return [map_anchors(cell, features.shape[1:3], _STRIDE) for features in maps]

    def select_maps(self, features: dict[str, jax.Array]) -> list[jax.Array]:
        """The last map of stride 16."""
        return [features[self.map_name]]

    def pool_regions(self, maps: list[jax.Array], boxes: jax.Array) -> jax.Array:
        """RoI pooling to the pixels that fc6 sees."""
        index = jnp.zeros(boxes.shape[:1], jnp.int32)
        return roi_pool(maps[0], boxes, index, (self.pooled_side,) * 2, spatial_scale=1 / _STRIDE)

    def embed_regions(self, regions: jax.Array, train: bool) -> jax.Array:
        """fc6 and fc7, [R, side, side, C] -> [R, hidden]."""
        return self.backbone.head(regions, train)[:, 0, 0]


class FasterRCNNVGG(SingleMapDetector):
    """On the convolutions and dense layers of VGG.

    Attributes: those of `SingleMapDetector`, and
      stage_sizes, widths, batch_norm: of the backbone, see `VGG`.
    """

    stage_sizes: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    batch_norm: bool = False
    map_name = "stage5"
    pooled_side = 7

    def make_backbone(self) -> nn.Module:
        """The VGG."""
        return VGG(
            num_classes=0,
            stage_sizes=self.stage_sizes,
            widths=self.widths,
            batch_norm=self.batch_norm,
            ceil_mode=True,
            hidden=self.hidden,
            dropout=self.dropout,
            **self.layer_options(),
        )


class FasterRCNNZF(SingleMapDetector):
    """On the convolutions and dense layers of ZF-5, which has no BatchNorm.

    Attributes: those of `SingleMapDetector`, and
      channels: of the backbone, see `ZFNet`.
    """

    rpn_channels: int = 256
    channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    map_name = "conv5"
    pooled_side = 6

    def make_backbone(self) -> nn.Module:
        """The ZF-5."""
        return ZFNet(
            num_classes=0,
            in_channels=self.in_channels,
            channels=self.channels,
            hidden=self.hidden,
            dropout=self.dropout,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )


def _variant(name: str, params: int, module: type[nn.Module]) -> Variant:
    info = ModelInfo(
        name=name,
        task="detection",
        paper="1506.01497",
        year=2015,
        image_size=600,
        params=params,
        gmacs=None,
        params_classes=20,
    )
    return Variant(info, module, {})


VARIANTS = (
    _variant("faster_rcnn_vgg16", 137_073_622, FasterRCNNVGG),
    _variant("faster_rcnn_zf", 59_292_438, FasterRCNNZF),
)
