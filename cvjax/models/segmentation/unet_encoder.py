"""U-Net (1505.04597) with a classifier of the zoo as its contracting path, so that ImageNet's weights can start it.

The encoder is any model whose `features` names maps; the deepest map of each scale is a skip. Images are continued by
mirroring to a multiple of the encoder's stride, and the logits are cropped, so any size works.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from cvjax.errors import ConfigError
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.registry import create_model, list_models, model_options
from cvjax.models.segmentation.unet import doubling, pad_to_multiple
from cvjax.nn import ConvBNReLU, TorchConv, Upsampling, gaussian
from cvjax.ops.resize import resize

_STRIDE = 32
"""What images are padded to a multiple of: the largest stride of any encoder."""
_SMALLEST = 64
"""Least side that images are padded to: below it, encoders without padding run out of pixels."""


class EncoderUNet(nn.Module):
    """An encoder, and a decoder that doubles its deepest map until that has the image's size.

    The encoder's parameters lie under `backbone`.

    Attributes:
      num_classes: channels of the logits.
      encoder: name of a classifier, see `cvjax.list_models("classification")`.
      encoder_options: of that classifier, beside those below, which are passed on where it has them.
      in_channels: of the images.
      decoder_widths: channels of the decoder at strides 16, 8, 4, 2 and 1; those of an encoder that begins lower are
        left out at the front.
      upsampling: how the decoder doubles its maps, see `cvjax.nn.Upsampling`.
      dtype: of the computation; parameters, statistics and logits are float32.
      axis_name: the device axis under pmap, for BatchNorm and dropout.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    encoder: str = "resnet50"
    encoder_options: Mapping[str, Any] = FrozenDict()
    in_channels: int = 3
    decoder_widths: tuple[int, ...] = (256, 128, 64, 32, 16)
    upsampling: Upsampling = "transposed"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def setup(self) -> None:
        if self.encoder not in list_models("classification"):
            raise ConfigError(
                f"there is no encoder {self.encoder!r}; it is one of cvjax.list_models('classification'), such as"
                " resnet50"
            )
        passed_on = ("in_channels", "axis_name", "bn_momentum", "freeze_bn")
        options = {name: getattr(self, name) for name in passed_on if name in model_options(self.encoder)}
        self.backbone = create_model(
            self.encoder, num_classes=0, dtype=self.dtype, **{**options, **self.encoder_options}
        )
        layer = partial(
            ConvBNReLU,
            dtype=self.dtype,
            axis_name=self.axis_name,
            bn_momentum=self.bn_momentum,
            freeze_bn=self.freeze_bn,
        )
        self.up = [doubling(width, self.upsampling, self.dtype) for width in self.decoder_widths]
        self.join = [[layer(width), layer(width)] for width in self.decoder_widths]
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """The encoder's maps of the continued image; arguments and errors as of `__call__`."""
        check_images(images, self.in_channels)
        return self.backbone.features(pad_to_multiple(images, _STRIDE, _SMALLEST), train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Segments images of any size.

        Args:
          images: [B, H, W, in_channels], floating point, normalised.
          train: the batch's BatchNorm statistics, and the encoder's dropout (stream `dropout`).

        Returns:
          float32 logits [B, H, W, num_classes].

        Raises:
          ConfigError: images that it cannot take, an unknown encoder, or too few decoder widths for its stride. AlexNet
            and NIN as encoders need images of 192 pixels.
        """
        maps = self.features(images, train)
        padded = tuple(-(-max(side, _SMALLEST) // _STRIDE) * _STRIDE for side in images.shape[1:3])
        skips = {self._scale(x, padded): x for x in maps.values()}  # the deepest map of each scale
        deepest = max(skips)
        if deepest > len(self.decoder_widths):
            raise ConfigError(
                f"{self.encoder} has a stride of {2**deepest}, and decoder_widths names {len(self.decoder_widths)} "
                f"doublings; give {deepest} widths"
            )
        x = skips[deepest]
        for scale in reversed(range(deepest)):
            x = self.up[-1 - scale](x)
            if scale in skips:
                x = jnp.concatenate([skips[scale], resize(x, skips[scale].shape[1:3])], axis=-1)
            for layer in self.join[-1 - scale]:
                x = layer(x, train)
        logits = resize(self.classifier(x).astype(jnp.float32), padded)
        return logits[:, : images.shape[1], : images.shape[2]]

    def _scale(self, x: jax.Array, padded: tuple[int, int]) -> int:
        """How often a map is halved."""
        exact = math.log2(max(padded) / max(x.shape[1:3]))
        # AlexNet and NIN begin without padding. Their maps lack a few pixels, which are too many of a small image: its
        # parameters would be others than those of a large one.
        if abs(exact - round(exact)) > 0.3:
            raise ConfigError(
                f"images of {padded[0]}x{padded[1]} pixels are too small for the encoder {self.encoder}, whose layers "
                "are not all padded; give it at least 192x192"
            )
        return round(exact)


def _variant(encoder: str, params: int) -> Variant:
    info = ModelInfo(
        name=f"unet_{encoder}",
        task="segmentation",
        paper="1505.04597",
        year=2015,
        image_size=512,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, EncoderUNet, {"encoder": encoder})


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
