"""DeepLab v3+ (Chen et al., 1802.02611): DeepLab v3's encoder with a decoder that sharpens borders.

The decoder brings ASPP's output to stride 4 and joins it with the first stage's map. That map is reduced to 48
channels, so that it does not outweigh the rest. Two 3x3 convolutions refine both. On Xception every 3x3 convolution
behind the stem is separable: in the backbone, in ASPP and in the decoder.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.classification.xception import Xception
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.models.segmentation.aspp import ASPP, PAPER_RATES, aspp_rates
from cvjax.models.segmentation.heads import FCNHead, with_auxiliary
from cvjax.nn import BatchNormOptions, ConvBNReLU, SeparableConv, TorchConv, Upsample, Upsampling, gaussian
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize

_FINE = 4  # the stride of the decoder's map


class DeepLabV3Plus(nn.Module):
    """Segments images by a dilated backbone, ASPP on its last map, and a decoder that joins ASPP with a fine map.

    The layers that may come from ImageNet lie under `backbone` in `params` and `batch_stats`. The rest is the head.
    With `train=True` the image-pooling branch of ASPP needs at least two images in the (global) batch.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Net whose `features(images, train)` has maps `stage1` (of stride 4), `stage3` and `stage4`: a ResNet, or
        an Xception, whose first stage's map is the last before a stride.
      output_stride: Pixels of the input per pixel of the deepest map: 8, 16 or 32. Rates of ASPP follow it. Parameters
        do not depend on it, so a model may train at 16 and be evaluated at 8.
      multi_grid: Factors on the dilations of the backbone's last blocks.
      aux: Have an auxiliary FCN head on stage3, whose logits come with `train=True`.
      aspp_features: Channels of ASPP and of the decoder.
      aspp_rates: Dilations of ASPP's atrous branches at output stride 16. The paper's suit crops of about 513 pixels.
        On a map that a rate does not fit, its branch is a 1x1 convolution.
      separable_aspp: Use atrous separable convolutions in ASPP, as the paper does with Xception.
      aspp_project_kernel: Side of the kernel of ASPP's projection, in pixels; mmsegmentation has 3.
      conv_after_aspp: Have one more 3x3 convolution, of the decoder's kind, between ASPP and the decoder, as
        segmentation_models_pytorch does.
      low_level_features: Channels that the first stage's map is reduced to.
      separable_decoder: Use depthwise separable 3x3 convolutions in the decoder, otherwise plain ones.
      decoder_layers: Number of these convolutions; VainF's release and segmentation_models_pytorch have 1.
      inner_norm: Have BatchNorm and ReLU inside separable convolutions of ASPP and of the decoder;
        segmentation_models_pytorch has them behind both parts alone.
      upsampling: Upsampling of ASPP's output to stride 4, and of the logits to the image, see `cvjax.nn.Upsampling`.
        None, the paper's, stretches both bilinearly. Kernels of a transposed convolution follow the output stride.
      align_corners: Stretch them so that the centers of the corner pixels stay in the corners, as the authors' code
        and segmentation_models_pytorch do; otherwise the edges do, see `cvjax.ops.resize`.
      dropout: Rate of dropout after ASPP.
      aux_dropout: Rate of dropout in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the BatchNorms (DeepLab's momentum is 0.9997).
    """

    num_classes: int
    backbone: nn.Module = default_module(ResNet(0, **SHAPES[50]))
    output_stride: int = 16
    multi_grid: tuple[int, ...] = (1, 1, 1)
    aux: bool = False
    aspp_features: int = 256
    aspp_rates: tuple[int, ...] = PAPER_RATES
    separable_aspp: bool = False
    aspp_project_kernel: int = 1
    conv_after_aspp: bool = False
    low_level_features: int = 48
    separable_decoder: bool = True
    decoder_layers: int = 2
    inner_norm: bool = True
    upsampling: Upsampling | None = None
    align_corners: bool = False
    dropout: float = 0.5
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, output_stride=self.output_stride, multi_grid=self.multi_grid, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    def setup(self) -> None:
        rates = aspp_rates(self.output_stride, self.aspp_rates)
        common = {"dtype": self.dtype, "norm": self.norm}
        self._check_fields()
        self.aspp = ASPP(
            self.aspp_features,
            rates,
            self.separable_aspp,
            self.dropout,
            project_kernel=self.aspp_project_kernel,
            inner_norm=self.inner_norm,
            **common,
        )
        self.low_level = ConvBNReLU(self.low_level_features, 1, **common)
        layer = partial(SeparableConv, inner_norm=self.inner_norm) if self.separable_decoder else ConvBNReLU
        if self.conv_after_aspp:
            self.pyramid_conv = layer(self.aspp_features, 3, **common)
        self.refine = [layer(self.aspp_features, 3, **common) for _ in range(self.decoder_layers)]
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        if self.upsampling is not None:
            stride = self.output_stride // _FINE
            self.up_pyramid = Upsample(self.aspp_features, stride, self.upsampling, dtype=self.dtype)
            self.up_image = Upsample(self.num_classes, _FINE, self.upsampling)
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, **common)

    def _check_fields(self) -> None:
        if self.decoder_layers < 1:
            raise ConfigError(f"decoder_layers is at least 1, not {self.decoder_layers}")
        if not (self.inner_norm or self.separable_aspp or self.separable_decoder):
            raise ConfigError("inner_norm=False needs separable_aspp or separable_decoder; set one or leave it out")
        if self.align_corners and self.upsampling is not None:
            raise ConfigError(f"align_corners needs upsampling=None, not {self.upsampling!r}; leave out one of the two")

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see its class."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, C], floating point, normalized.
          train: Use the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          Logits [B, H, W, num_classes], float32. With `train` and `aux` it is (logits, {"aux": logits}).

        Raises:
          ConfigError: Images of another rank, type or without pixels; a training batch of one image.
        """
        maps = self.features(images, train)
        pyramid = self.aspp(maps["stage4"], train)
        if self.conv_after_aspp:
            pyramid = self.pyramid_conv(pyramid, train)
        low = self.low_level(maps["stage1"], train)
        x = jnp.concatenate([self._enlarge(pyramid, pair(low.shape[1:3]), "up_pyramid"), low], axis=-1)
        for layer in self.refine:
            x = layer(x, train)
        scores = self.classifier(x).astype(jnp.float32)
        logits = self._enlarge(scores, pair(images.shape[1:3]), "up_image")
        return with_auxiliary(self, logits, maps["stage3"], train)

    def _enlarge(self, x: jax.Array, size: tuple[int, int], name: str) -> jax.Array:
        """Brings a map to a size, bilinearly or by the middle of the result of the layer of that name."""
        if self.upsampling is None:
            return resize(x, size, align_corners=self.align_corners)
        layer = getattr(self, name)
        beyond = (layer.stride * side - wanted for side, wanted in zip(x.shape[1:3], size))
        return layer(x, size, tuple(pixels // 2 for pixels in beyond))


def _variant(name: str, params: int, backbone: nn.Module, **settings: Any) -> Variant:
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
    return Variant(info, DeepLabV3Plus, {"backbone": backbone, **settings})


# Xception is as in the authors' TensorFlow, whose figure the paper has. 37,867,312 of it, which is timm's without its
# classifier; ASPP 3,019,776 (two 1x1 branches of 524,800, three separable ones of 547,328, 328,192 of the projection);
# the decoder 12,384 + 81,680 + 68,864; 5,397.
VARIANTS = (
    _variant("resnet18", 15_467_461, ResNet(0, **SHAPES[18])),
    _variant("resnet34", 25_575_621, ResNet(0, **SHAPES[34])),
    _variant("resnet50", 39_211_461, ResNet(0, **SHAPES[50])),
    _variant("resnet101", 58_203_589, ResNet(0, **SHAPES[101])),
    _variant("xception65", 41_055_413, Xception(0, maps_before_relu=True), separable_aspp=True, align_corners=True),
)
