"""FCN (1411.4038) on a dilated ResNet, as torchvision has it: a small head at output stride 8, and no skips."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.classification.resnet import ResNet
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.deeplab import FCNHead
from cvjax.nn import Upsample, Upsampling
from cvjax.ops.resize import resize


class FCNResNet(nn.Module):
    """A ResNet with dilated late stages, and a head of two convolutions on its last map.

    What may come from ImageNet lies under `backbone`; the rest is head.

    Attributes:
      num_classes: channels of the logits.
      in_channels: of the images.
      stage_sizes, bottleneck, width, zero_gamma: of the backbone, see `ResNet`.
      output_stride: pixels of the input per pixel of the deepest map: 8, 16 or 32.
      aux: a second head on stage3; its logits come with `train=True`, evaluation never computes it.
      upsampling: of the logits, see `cvjax.nn.Upsampling`; None, torchvision's, stretches them bilinearly to the image.
      dropout, aux_dropout: rates in the two heads.
      dtype: of the computation; parameters, statistics, upsampling and logits are float32.
      axis_name: the device axis under pmap, for BatchNorm and dropout.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    in_channels: int = 3
    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    zero_gamma: bool = False
    output_stride: int = 8
    aux: bool = True
    upsampling: Upsampling | None = None
    dropout: float = 0.1
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def setup(self) -> None:
        common = {
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "bn_momentum": self.bn_momentum,
            "freeze_bn": self.freeze_bn,
        }
        self.backbone = ResNet(
            num_classes=0,
            in_channels=self.in_channels,
            stage_sizes=self.stage_sizes,
            bottleneck=self.bottleneck,
            width=self.width,
            zero_gamma=self.zero_gamma,
            output_stride=self.output_stride,
            **common,
        )
        self.head = FCNHead(self.num_classes, self.dropout, **common)
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, **common)
        if self.upsampling is not None:
            self.up_image = Upsample(self.num_classes, self.output_stride, self.upsampling)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """The backbone's maps, see `ResNet.features`."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: [B, H, W, in_channels], floating point, normalised.
          train: the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          float32 logits [B, H, W, num_classes]; with `train` and `aux`: (logits, {"aux": logits}).

        Raises:
          ConfigError: images of another rank, type or number of channels, or without pixels.
        """
        maps, size = self.features(images, train), images.shape[1:3]
        scores = self.head(maps["stage4"], train).astype(jnp.float32)
        logits = resize(scores, size) if self.upsampling is None else self._enlarge(scores, size)
        # While initialising the head runs whatever `train` is, so that its parameters exist.
        if not self.aux or not (train or self.is_initializing()):
            return logits
        aux = resize(self.aux_head(maps["stage3"], train).astype(jnp.float32), size)
        return (logits, {"aux": aux}) if train else logits

    def _enlarge(self, scores: jax.Array, size: tuple[int, int]) -> jax.Array:
        """From the middle: strided layers round sides up, and their pixels stay on those of the image's first ones."""
        beyond = (self.output_stride * side - wanted for side, wanted in zip(scores.shape[1:3], size))
        return self.up_image(scores, size, tuple(pixels // 2 for pixels in beyond))


def _variant(depth: int, sizes: tuple[int, int, int, int], params: int) -> Variant:
    info = ModelInfo(
        name=f"fcn_resnet{depth}",
        task="segmentation",
        paper="1411.4038",
        year=2014,
        image_size=520,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, FCNResNet, {"stage_sizes": sizes})


VARIANTS = (_variant(50, (3, 4, 6, 3), 35_322_218), _variant(101, (3, 4, 23, 3), 54_314_346))
