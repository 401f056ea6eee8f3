"""U-Net (1505.04597) with a classifier as its contracting path, so that ImageNet's weights can start it.

The encoder is any model whose `features` names maps. The deepest map of each scale is a skip, or the maps that `skips`
names are. Images are continued by mirroring to a multiple of the encoder's stride, and the logits are cropped, so any
size works.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification import densenet, efficientnet, resnet, vgg
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.models.segmentation.doubling import Doubling, any_doubling, doubled
from cvjax.models.segmentation.unet import pad_to_multiple
from cvjax.nn import BatchNormOptions, ConvBNReLU, TorchConv, gaussian
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize

_STRIDE = 32
"""Number that divides the sides of padded images: the largest stride of any encoder."""
_SMALLEST = 64
"""Least side that images are padded to, unless `skips` are given. Below it, encoders without padding run out of
pixels."""


class EncoderUNet(nn.Module):
    """Segments images by an encoder, and a decoder that doubles its deepest map until it has the image's size.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Encoder: any classifier whose `features(images, train)` names maps from shallow to deep.
      in_channels: Channels of the images.
      decoder_widths: Channels of the decoder at strides 16, 8, 4, 2 and 1. An encoder of a smaller stride leaves out
        the first ones.
      upsampling: Way in which the decoder doubles its maps, see `cvjax.models.segmentation.doubling.Doubling`.
      skips: Names of the encoder's maps that the decoder takes, from shallow to deep, the one that it starts from last.
        None takes the deepest map of each scale. segmentation_models_pytorch takes others, and none of stride 1.
      center_widths: Channels of 3x3 convolutions with BatchNorm and ReLU on the map that the decoder starts from.
        segmentation_models_pytorch has two of 512 on a VGG.
      head_size: Side of the classifier's kernel in pixels, an odd number; segmentation_models_pytorch has 3.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms.
    """

    num_classes: int
    backbone: nn.Module = default_module(resnet.ResNet(0, **resnet.SHAPES[50]))
    in_channels: int = 3
    decoder_widths: tuple[int, ...] = (256, 128, 64, 32, 16)
    upsampling: Doubling = "transposed"
    skips: tuple[str, ...] | None = None
    center_widths: tuple[int, ...] = ()
    head_size: int = 1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, in_channels=self.in_channels, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    def setup(self) -> None:
        if self.head_size < 1 or self.head_size % 2 == 0:
            raise ConfigError(f"head_size is an odd number of pixels, not {self.head_size}")
        layer = partial(ConvBNReLU, dtype=self.dtype, norm=self.norm)
        self.up = [any_doubling(width, self.upsampling, self.dtype, self.norm) for width in self.decoder_widths]
        self.center = [layer(width) for width in self.center_widths]
        self.join = [[layer(width), layer(width)] for width in self.decoder_widths]
        self.classifier = TorchConv(self.num_classes, self.head_size, dtype=self.dtype, kernel_init=gaussian(0.01))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the encoder's maps of the continued image; arguments and errors are those of `__call__`."""
        check_images(images, self.in_channels)
        return self.backbone.features(pad_to_multiple(images, _STRIDE, self._smallest), train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Use the batch's BatchNorm statistics, and the encoder's dropout (stream `dropout`).

        Returns:
          Logits [B, H, W, num_classes], float32.

        Raises:
          ConfigError: Images that it cannot take, too few decoder widths for its stride, or skips that the encoder
            lacks. AlexNet and NIN as encoders need images of 192 pixels.
        """
        maps = self.features(images, train)
        padded = pair(-(-max(side, self._smallest) // _STRIDE) * _STRIDE for side in images.shape[1:3])
        skips = self._skips(maps, padded)
        deepest = max(skips)
        if deepest > len(self.decoder_widths):
            raise ConfigError(
                f"{type(self.backbone).__name__} has a stride of {2**deepest}, and decoder_widths names"
                f" {len(self.decoder_widths)} doublings; give {deepest} widths"
            )
        x = skips[deepest]
        for layer in self.center:
            x = layer(x, train)
        for scale in reversed(range(deepest)):
            x = doubled(self.up[-1 - scale], x, train)
            if scale in skips:
                x = jnp.concatenate([skips[scale], resize(x, pair(skips[scale].shape[1:3]))], axis=-1)
            for layer in self.join[-1 - scale]:
                x = layer(x, train)
        logits = resize(self.classifier(x).astype(jnp.float32), padded)
        return logits[:, : images.shape[1], : images.shape[2]]

    @property
    def _smallest(self) -> int:
        return _SMALLEST if self.skips is None else _STRIDE

    def _skips(self, maps: dict[str, jax.Array], padded: tuple[int, int]) -> dict[int, jax.Array]:
        """Returns the maps that the decoder takes, by the number of times that they are halved."""
        if self.skips is None:
            return {self._scale(x, padded): x for x in maps.values()}  # the deepest map of each scale
        if not self.skips or not set(self.skips) <= set(maps):
            raise ConfigError(f"skips names maps of the encoder, which are {', '.join(maps)}, not {self.skips}")
        scales = [self._scale(maps[name], padded) for name in self.skips]
        if scales != sorted(set(scales)):
            strides = ", ".join(str(2**scale) for scale in scales)
            raise ConfigError(f"skips names maps whose strides grow, and {', '.join(self.skips)} have {strides}")
        return {scale: maps[name] for scale, name in zip(scales, self.skips)}

    def _scale(self, x: jax.Array, padded: tuple[int, int]) -> int:
        """Returns how many times a map is halved."""
        exact = math.log2(max(padded) / max(x.shape[1:3]))
        # AlexNet and NIN begin without padding. Their maps lack a few pixels, which are too many of a small image: its
        # parameters would be others than those of a large one.
        if abs(exact - round(exact)) > 0.3:
            name = type(self.backbone).__name__
            raise ConfigError(
                f"images of {padded[0]}x{padded[1]} pixels are too small for the encoder {name}, whose layers are not"
                " all padded; give it at least 192x192"
            )
        return round(exact)


_ENCODERS = {
    row.info.name: row for row in (*resnet.VARIANTS, *vgg.VARIANTS, *densenet.VARIANTS, *efficientnet.VARIANTS)
}


def _variant(name: str, params: int) -> Variant:
    encoder = _ENCODERS[name]
    info = ModelInfo(
        name=f"unet_{name}",
        task="segmentation",
        paper="1505.04597",
        year=2015,
        image_size=512,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, EncoderUNet, {"backbone": encoder.module(num_classes=0, **encoder.settings)})


VARIANTS = (
    _variant("resnet18", 14_241_621),
    _variant("resnet34", 24_349_781),
    _variant("resnet50", 30_468_437),
    _variant("resnet101", 49_460_565),
    _variant("vgg16", 18_950_229),
    _variant("vgg16_bn", 18_958_677),
    _variant("densenet121", 12_865_685),
    _variant("efficientnet_b0", 7_389_073),
)
