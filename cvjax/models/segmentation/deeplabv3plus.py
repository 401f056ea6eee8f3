"""DeepLab v3+ (Chen et al., 1802.02611): DeepLab v3's encoder with a decoder that sharpens borders.

The decoder brings ASPP's output to stride 4, joins it with the first stage's map (reduced to 48 channels, so that it
does not outweigh the rest) and refines both with two 3x3 convolutions. On Xception every 3x3 convolution behind the
stem is separable: in the backbone, in ASPP and in the decoder.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.backbone import configure_backbone
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.classification.xception import Xception
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.aspp import ASPP, PAPER_RATES, aspp_rates
from cvjax.models.segmentation.fcn_head import FCNHead
from cvjax.nn import BatchNormOptions, ConvBNReLU, SeparableConv, TorchConv, Upsample, Upsampling, gaussian
from cvjax.ops.resize import resize

_FINE = 4  # the stride of the decoder's map


class DeepLabV3Plus(nn.Module):
    """Joins ASPP's output with the backbone's first stage, and classifies pixels at stride 4.

    With `train=True` ASPP's image pooling needs at least two images in the batch of all devices.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Net with maps `stage1` (of stride 4), `stage3` and `stage4`, which may start from ImageNet's weights.
      in_channels: Channels of the images.
      output_stride: Pixels of the image per pixel of the deepest map: 8, 16 or 32. Rates of ASPP follow it, and
        parameters do not depend on it, so a model may train at 16 and be evaluated at 8. (Only the kernels of
        `upsampling` by transposed convolution do.)
      multi_grid: Factors on the dilations of the backbone's last blocks, see `ResNet` and `Xception`.
      aspp_features: Channels of ASPP and of the decoder.
      aspp_rates: Dilations of ASPP's atrous branches at output stride 16. The paper's suit crops of about 513 pixels;
        on a map that a rate does not fit, its branch is a 1x1 convolution.
      separable_aspp: Makes ASPP's atrous convolutions separable, as the paper does on Xception.
      dropout: Dropout rate after ASPP.
      low_level_features: Channels that the first stage's map is reduced to.
      separable_decoder: Makes the decoder's 3x3 convolutions separable.
      upsampling: Kind of the upsampling of ASPP's output to stride 4 and of the logits to the image, see
        `cvjax.nn.Upsampling`; None, the paper's, stretches both bilinearly.
      aux: Adds an auxiliary head on `stage3`, whose logits come with `train=True`; evaluation never computes them.
      aux_dropout: Dropout rate in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the BatchNorms; the backbone keeps its own epsilon.
    """

    num_classes: int
    backbone: nn.Module
    in_channels: int = 3
    output_stride: int = 16
    multi_grid: tuple[int, ...] = (1, 1, 1)
    aspp_features: int = 256
    aspp_rates: tuple[int, ...] = PAPER_RATES
    separable_aspp: bool = False
    dropout: float = 0.5
    low_level_features: int = 48
    separable_decoder: bool = True
    upsampling: Upsampling | None = None
    aux: bool = False
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        self.backbone = configure_backbone(
            self.backbone,
            self.norm,
            in_channels=self.in_channels,
            output_stride=self.output_stride,
            multi_grid=self.multi_grid,
            dtype=self.dtype,
        )
        super().__post_init__()

    def setup(self) -> None:
        common = {"dtype": self.dtype, "norm": self.norm}
        rates = aspp_rates(self.output_stride, self.aspp_rates)
        self.aspp = ASPP(self.aspp_features, rates, self.separable_aspp, self.dropout, **common)
        self.low_level = ConvBNReLU(self.low_level_features, 1, **common)
        refining = SeparableConv if self.separable_decoder else ConvBNReLU
        self.refine = [refining(self.aspp_features, 3, **common) for _ in range(2)]
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        if self.upsampling is not None:
            scale = self.output_stride // _FINE
            self.up_pyramid = Upsample(self.aspp_features, scale, self.upsampling, dtype=self.dtype)
            self.up_image = Upsample(self.num_classes, _FINE, self.upsampling)
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, **common)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see its class."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Turns on the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          Logits [B, H, W, num_classes], float32; with `train` and `aux` a pair of them and {"aux": logits}.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels; a training batch of one
            image.
        """
        size, learned = images.shape[1:3], self.upsampling is not None
        maps = self.backbone.features(images, train)
        coarse = self.aspp(maps["stage4"], train)
        fine = self.low_level(maps["stage1"], train)
        x = jnp.concatenate([_enlarge(self.up_pyramid if learned else None, coarse, fine.shape[1:3]), fine], axis=-1)
        for layer in self.refine:
            x = layer(x, train)
        logits = _enlarge(self.up_image if learned else None, self.classifier(x).astype(jnp.float32), size)
        # While initializing, the head runs in evaluation, too, so that its parameters exist.
        if not self.aux or not (train or self.is_initializing()):
            return logits
        aux = resize(self.aux_head(maps["stage3"], train).astype(jnp.float32), size)
        return (logits, {"aux": aux}) if train else logits


def _enlarge(layer: Upsample | None, x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Enlarges maps bilinearly, or by a layer, of whose result it takes the middle."""
    if layer is None:
        return resize(x, size)
    beyond = (layer.stride * side - wanted for side, wanted in zip(x.shape[1:3], size))
    return layer(x, size, tuple(pixels // 2 for pixels in beyond))


def _variant(name: str, params: int, **settings: Any) -> Variant:
    info = ModelInfo(
        name=f"deeplabv3plus_{name}",
        task="segmentation",
        paper="1802.02611",
        year=2018,
        image_size=513,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, DeepLabV3Plus, settings)


def _on_resnet(depth: int, params: int) -> Variant:
    return _variant(f"resnet{depth}", params, backbone=ResNet(num_classes=0, **SHAPES[depth], parent=None))


# On Xception: 37,867,312 of the backbone, which is timm's without its classifier; ASPP 3,019,776 (two 1x1 branches of
# 524,800, three separable ones of 547,328, 328,192 of the projection); the decoder 12,384 + 81,680 + 68,864; 5,397.
VARIANTS = (
    _on_resnet(18, 15_467_461),
    _on_resnet(34, 25_575_621),
    _on_resnet(50, 39_211_461),
    _on_resnet(101, 58_203_589),
    _variant("xception65", 41_055_413, backbone=Xception(num_classes=0, parent=None), separable_aspp=True),
)
