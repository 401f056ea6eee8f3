"""DeepLab v3+ (Chen et al., 1802.02611): DeepLab v3's encoder with a decoder that sharpens borders.

The decoder brings ASPP's output to stride 4, joins it with the first stage's map (reduced to 48 channels, so
that it does not outweigh the rest) and refines both with two 3x3 convolutions.
"""

import jax
import jax.numpy as jnp

from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.deeplab import DeepLab
from cvjax.nn import ConvBNReLU, SeparableConv
from cvjax.ops.resize import resize


class DeepLabV3Plus(DeepLab):
    """See `DeepLab` for the other fields.

    Attributes:
      low_level_features: channels that the first stage's map is reduced to.
      separable_decoder: depthwise separable 3x3 convolutions in the decoder; plain ones otherwise.
    """

    aux: bool = False
    low_level_features: int = 48
    separable_decoder: bool = True

    def setup(self) -> None:
        super().setup()
        layer = SeparableConv if self.separable_decoder else ConvBNReLU
        self.low_level = ConvBNReLU(self.low_level_features, 1, **self.layer_options())
        self.refine = [layer(self.aspp_features, 3, **self.layer_options()) for _ in range(2)]

    def decode(self, maps: dict[str, jax.Array], pyramid: jax.Array, train: bool) -> jax.Array:
        """The decoder, at stride 4."""
        low = self.low_level(maps["stage1"], train)
        x = jnp.concatenate([resize(pyramid, low.shape[1:3]), low], axis=-1)
        for layer in self.refine:
            x = layer(x, train)
        return x


def _variant(depth: int, sizes: tuple[int, int, int, int], bottleneck: bool, params: int) -> Variant:
    info = ModelInfo(
        name=f"deeplabv3plus_resnet{depth}",
        task="segmentation",
        paper="1802.02611",
        year=2018,
        image_size=513,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, DeepLabV3Plus, {"stage_sizes": sizes, "bottleneck": bottleneck})


VARIANTS = (
    _variant(18, (2, 2, 2, 2), False, 15_467_461),
    _variant(34, (3, 4, 6, 3), False, 25_575_621),
    _variant(50, (3, 4, 6, 3), True, 39_211_461),
    _variant(101, (3, 4, 23, 3), True, 58_203_589),
)
