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
from cvjax.nn import ConvBNReLU, SeparableConv, Upsample, Upsampling
from cvjax.ops.resize import resize

_FINE = 4  # the stride of the decoder's map


class DeepLabV3Plus(PyramidDeepLab):
    """The decoder; see the subclasses for the backbone.

    Attributes: those of `PyramidDeepLab`, and
      low_level_features: channels that the first stage's map is reduced to.
      separable_decoder: depthwise separable 3x3 convolutions in the decoder; plain ones otherwise.
      upsampling: of ASPP's output to stride 4, and of the logits to the image, see `cvjax.nn.Upsampling`; None, the
        paper's, stretches both bilinearly. The kernels of a transposed convolution follow the output stride.
    """

    aux: bool = False
    low_level_features: int = 48
    separable_decoder: bool = True
    upsampling: Upsampling | None = None

    def setup(self) -> None:
        super().setup()
        if self.upsampling is not None:
            self.up_pyramid = Upsample(
                self.aspp_features, self.output_stride // _FINE, self.upsampling, dtype=self.dtype
            )
            self.up_image = Upsample(self.num_classes, _FINE, self.upsampling)
        layer = SeparableConv if self.separable_decoder else ConvBNReLU
        self.low_level = ConvBNReLU(self.low_level_features, 1, **self.layer_options())
        self.refine = [layer(self.aspp_features, 3, **self.layer_options()) for _ in range(2)]

    def decode(self, maps: dict[str, jax.Array], train: bool) -> jax.Array:
        """The decoder, at stride 4."""
        pyramid = self.aspp(maps["stage4"], train)
        low = self.low_level(maps["stage1"], train)
        x = jnp.concatenate([self._enlarge(pyramid, low.shape[1:3], "up_pyramid"), low], axis=-1)
        for layer in self.refine:
            x = layer(x, train)
        return x

    def to_image(self, logits: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Logits of stride 4 -> [B, *size, num_classes]."""
        return self._enlarge(logits, size, "up_image")

    def _enlarge(self, x: jax.Array, size: tuple[int, int], name: str) -> jax.Array:
        """Without parameters, or by the layer of that name, from the middle of what it gives."""
        if self.upsampling is None:
            return resize(x, size)
        layer = getattr(self, name)
        beyond = (layer.stride * side - wanted for side, wanted in zip(x.shape[1:3], size))
        return layer(x, size, tuple(pixels // 2 for pixels in beyond))


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


# On Xception: 37,867,312 of the backbone, which is timm's without its classifier; ASPP 3,019,776 (two 1x1 branches of
# 524,800, three separable ones of 547,328, 328,192 of the projection); the decoder 12,384 + 81,680 + 68,864; 5,397.
VARIANTS = (
    _variant(DeepLabV3PlusResNet, "resnet18", 15_467_461, **SHAPES[18]),
    _variant(DeepLabV3PlusResNet, "resnet34", 25_575_621, **SHAPES[34]),
    _variant(DeepLabV3PlusResNet, "resnet50", 39_211_461, **SHAPES[50]),
    _variant(DeepLabV3PlusResNet, "resnet101", 58_203_589, **SHAPES[101]),
    _variant(DeepLabV3PlusXception, "xception65", 41_055_413),
)
