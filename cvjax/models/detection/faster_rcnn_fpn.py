"""Faster R-CNN on the feature pyramid of a ResNet (Lin et al., 1612.03144), as torchvision has it.

Every level has anchors of one size, a region is read from the level that suits its size, and two dense layers that
start anew classify it. torchvision's ResNet is frozen in its stem and first stage, and in all its BatchNorms:
`freeze_bn`, and `OptimizerConfig.frozen` for their scale and bias.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.errors import ConfigError
from cvjax.models.classification.dense_head import DenseHead
from cvjax.models.classification.resnet import SHAPES, STAGES, ResNet
from cvjax.models.detection.fpn import FeaturePyramid
from cvjax.models.detection.region_detector import RegionDetector
from cvjax.models.info import ModelInfo, Preprocessing, Variant
from cvjax.nn import he_uniform
from cvjax.ops.detection.anchors import PYRAMID_SIZES, pyramid_anchors
from cvjax.ops.detection.roi import multilevel_roi_align

LEVELS = ("fpn_0", "fpn_1", "fpn_2", "fpn_3", "fpn_pool")
_SIDE = 7  # of the pixels that a region is read as


class FasterRCNNFPN(RegionDetector):
    """On a ResNet with a feature pyramid.

    Attributes: those of `RegionDetector`, and
      anchor_sizes: square roots of the anchors' areas on each of the five levels (strides 4 to 64), in pixels; as many
        on each.
      stage_sizes, bottleneck, width, zero_gamma, deformable, modulated, bn_epsilon: of the backbone, see `ResNet`.
      hidden: channels of the two dense layers on a region.
    The pyramid has `rpn_channels` channels.
    """

    rpn_channels: int = 256
    rpn_before: tuple[int, int] = (2000, 1000)
    rpn_after: tuple[int, int] = (2000, 1000)
    rpn_least_side: float = 1e-3
    rpn_border: float | None = None
    regions: int = 512
    box_beta: float = 1 / 9
    nms_threshold: float = 0.5
    anchor_sizes: tuple[tuple[float, ...], ...] = PYRAMID_SIZES
    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    zero_gamma: bool = False
    deformable: tuple[int, ...] = ()
    modulated: bool = False
    bn_epsilon: float = 1e-5
    hidden: int = 1024

    def setup(self) -> None:
        counts = {len(sizes) for sizes in self.anchor_sizes}
        if len(self.anchor_sizes) != len(LEVELS) or len(counts) != 1:
            raise ConfigError(
                f"anchor_sizes has a row for each of {len(LEVELS)} levels, all as long, such as {PYRAMID_SIZES}; "
                f"this is {self.anchor_sizes}"
            )
        super().setup()
        self.fpn = FeaturePyramid(self.rpn_channels, len(STAGES), self.dtype)
        self.box_head = DenseHead(
            0,
            window=_SIDE,
            hidden=self.hidden,
            dropout=0.0,
            kernel_init=he_uniform(),
            dtype=self.dtype,
            axis_name=self.axis_name,
        )

    def make_backbone(self) -> nn.Module:
        """The ResNet."""
        return ResNet(
            num_classes=0,
            stage_sizes=self.stage_sizes,
            bottleneck=self.bottleneck,
            width=self.width,
            zero_gamma=self.zero_gamma,
            deformable=self.deformable,
            modulated=self.modulated,
            bn_epsilon=self.bn_epsilon,
            **self.layer_options(),
        )

    def anchors_of_place(self) -> int:
        """Anchors of one place of a map."""
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)

    def anchors(self, image_size: tuple[int, int], maps: list[jax.Array]) -> list[np.ndarray]:
        """torchvision's anchors of every level."""
        shapes = [features.shape[1:3] for features in maps]
        return pyramid_anchors(image_size, shapes, self.anchor_sizes, self.anchor_ratios)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """The backbone's maps, see `ResNet.features`, and the pyramid's.

        Returns:
          The ResNet's, and `fpn_0` to `fpn_3` (strides 4 to 32) and `fpn_pool` (64), of `rpn_channels` channels.

        Raises:
          ConfigError: images that it cannot take.
        """
        maps = super().features(images, train)
        return maps | dict(zip(LEVELS, self.fpn([maps[stage] for stage in STAGES])))

    def select_maps(self, features: dict[str, jax.Array]) -> list[jax.Array]:
        """The pyramid."""
        return [features[level] for level in LEVELS]

    def pool_regions(self, maps: list[jax.Array], boxes: jax.Array) -> jax.Array:
        """RoI align on the level of each box; the coarsest level is for proposals alone."""
        index = jnp.zeros(boxes.shape[:1], jnp.int32)
        return multilevel_roi_align(maps[:-1], boxes, index, (_SIDE, _SIDE))

    def embed_regions(self, regions: jax.Array, train: bool) -> jax.Array:
        """Two dense layers, [R, 7, 7, C] -> [R, hidden]."""
        return self.box_head(regions, train)[:, 0, 0]


def _variant(depth: int, params: int) -> Variant:
    info = ModelInfo(
        name=f"fasterrcnn_resnet{depth}_fpn",
        task="detection",
        paper="1612.03144",
        year=2016,
        image_size=800,
        params=params,
        gmacs=None,
        params_classes=90,
        preprocessing=Preprocessing(None, 800),
    )
    return Variant(info, FasterRCNNFPN, SHAPES[depth])


VARIANTS = (
    _variant(18, 28_739_606),
    _variant(34, 38_847_766),
    _variant(50, 41_808_406),
    _variant(101, 60_800_534),
)
