"""DeepLab v3 (Chen et al., 1706.05587): dilated ResNet, ASPP with image pooling, and a small head.

The defaults are torchvision's: output stride 8, no multi-grid. The paper trains at output stride 16 with
`multi_grid=(1, 2, 4)` and evaluates at 8.
"""

import jax

from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.deeplab import DeepLab
from cvjax.nn import ConvBNReLU


class DeepLabV3(DeepLab):
    """See `DeepLab` for the fields."""

    output_stride: int = 8

    def setup(self) -> None:
        super().setup()
        self.head = ConvBNReLU(self.aspp_features, 3, **self.layer_options())

    def decode(self, maps: dict[str, jax.Array], pyramid: jax.Array, train: bool) -> jax.Array:
        """One 3x3 convolution on ASPP's output, at the output stride."""
        return self.head(pyramid, train)


def _variant(depth: int, sizes: tuple[int, int, int, int], bottleneck: bool, params: int) -> Variant:
    info = ModelInfo(
        name=f"deeplabv3_resnet{depth}",
        task="segmentation",
        paper="1706.05587",
        year=2017,
        image_size=513,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, DeepLabV3, {"stage_sizes": sizes, "bottleneck": bottleneck})


VARIANTS = (
    _variant(18, (2, 2, 2, 2), False, 16_053_034),
    _variant(34, (3, 4, 6, 3), False, 26_161_194),
    _variant(50, (3, 4, 6, 3), True, 42_004_074),
    _variant(101, (3, 4, 23, 3), True, 60_996_202),
)
