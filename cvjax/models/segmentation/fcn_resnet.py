"""FCN (1411.4038) on a dilated ResNet, as torchvision has it: a small head at output stride 8, and no skips."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.backbone import configure_backbone
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.fcn_head import FCNHead
from cvjax.nn import BatchNormOptions, Upsample, Upsampling
from cvjax.ops.resize import resize


class FCNResNet(nn.Module):
    """Classifies the pixels of a dilated ResNet's last map by two convolutions, and enlarges the logits.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Net with maps `stage3` and `stage4`, which may start from ImageNet's weights.
      in_channels: Channels of the images.
      output_stride: Pixels of the image per pixel of the deepest map: 8, 16 or 32.
      aux: Adds an auxiliary head on `stage3`, whose logits come with `train=True`; evaluation never computes them.
      upsampling: Kind of the logits' upsampling, see `cvjax.nn.Upsampling`; None, torchvision's, stretches them
        bilinearly to the image.
      dropout: Dropout rate in the head.
      aux_dropout: Dropout rate in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, upsampling and logits are float32.
      norm: Options of the BatchNorms; the backbone keeps its own epsilon.
    """

    num_classes: int
    backbone: nn.Module
    in_channels: int = 3
    output_stride: int = 8
    aux: bool = True
    upsampling: Upsampling | None = None
    dropout: float = 0.1
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        self.backbone = configure_backbone(
            self.backbone,
            self.norm,
            in_channels=self.in_channels,
            output_stride=self.output_stride,
            dtype=self.dtype,
        )
        super().__post_init__()

    def setup(self) -> None:
        common = {"dtype": self.dtype, "norm": self.norm}
        self.head = FCNHead(self.num_classes, self.dropout, **common)
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, **common)
        if self.upsampling is not None:
            self.up_image = Upsample(self.num_classes, self.output_stride, self.upsampling)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `ResNet.features`."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Turns on the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          Logits [B, H, W, num_classes], float32; with `train` and `aux` a pair of them and {"aux": logits}.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        maps, size = self.features(images, train), images.shape[1:3]
        scores = self.head(maps["stage4"], train).astype(jnp.float32)
        logits = resize(scores, size) if self.upsampling is None else self._enlarge(scores, size)
        # While initializing, the head runs in evaluation, too, so that its parameters exist.
        if not self.aux or not (train or self.is_initializing()):
            return logits
        aux = resize(self.aux_head(maps["stage3"], train).astype(jnp.float32), size)
        return (logits, {"aux": aux}) if train else logits

    def _enlarge(self, scores: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Enlarges scores and takes the middle: strided layers round sides up, so the result exceeds the image."""
        beyond = (self.output_stride * side - wanted for side, wanted in zip(scores.shape[1:3], size))
        return self.up_image(scores, size, tuple(pixels // 2 for pixels in beyond))


def _variant(depth: int, params: int) -> Variant:
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
    return Variant(info, FCNResNet, {"backbone": ResNet(num_classes=0, **SHAPES[depth], parent=None)})


VARIANTS = (_variant(50, 35_322_218), _variant(101, 54_314_346))
