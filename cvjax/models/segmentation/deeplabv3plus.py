"""DeepLab v3+ (Chen et al., 1802.02611): DeepLab v3's encoder with a decoder that sharpens borders.

The decoder brings ASPP's output to stride 4, joins it with the first stage's map (reduced to 48 channels, so
that it does not outweigh the rest) and refines both with two 3x3 convolutions. On Xception every 3x3 convolution
behind the stem is separable: in the backbone, in ASPP and in the decoder.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.classification.resnet import SHAPES
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.deeplab import PyramidDeepLab
from cvjax.models.segmentation.dilated import OnResNet, OnXception
from cvjax.nn import ConvBNReLU, SeparableConv
from cvjax.ops.resize import resize


class DeepLabV3Plus(PyramidDeepLab):
    """The decoder; see the subclasses for the backbone.

    Attributes: those of `PyramidDeepLab`, and
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

    def decode(self, maps: dict[str, jax.Array], train: bool) -> jax.Array:
        """The decoder, at stride 4."""
        pyramid = self.aspp(maps["stage4"], train)
        low = self.low_level(maps["stage1"], train)
        x = jnp.concatenate([resize(pyramid, low.shape[1:3]), low], axis=-1)
        for layer in self.refine:
            x = layer(x, train)
        return x


class DeepLabV3PlusResNet(DeepLabV3Plus, OnResNet):
    """See `DeepLabV3Plus` and `OnResNet` for the fields."""


class DeepLabV3PlusXception(DeepLabV3Plus, OnXception):
    """See `DeepLabV3Plus` and `OnXception` for the other fields. The first stage's map is the last before a stride."""

    separable_aspp: bool = True


def _variant(kind: type[nn.Module], backbone: str, params: int, **settings: Any) -> Variant:
    info = ModelInfo(
        name=f"deeplabv3plus_{backbone}",
        task="segmentation",
        paper="1802.02611",
        year=2018,
        image_size=513,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, kind, settings)


VARIANTS = (
    _variant(DeepLabV3PlusResNet, "resnet18", 15_467_461, **SHAPES[18]),
    _variant(DeepLabV3PlusResNet, "resnet34", 25_575_621, **SHAPES[34]),
    _variant(DeepLabV3PlusResNet, "resnet50", 39_211_461, **SHAPES[50]),
    _variant(DeepLabV3PlusResNet, "resnet101", 58_203_589, **SHAPES[101]),
    _variant(DeepLabV3PlusXception, "xception65", 0),
)
