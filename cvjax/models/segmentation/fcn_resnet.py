"""FCN (1411.4038) on a dilated ResNet, as torchvision has it: a small head at output stride 8, and no skips."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.backbones import adopt
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.models.segmentation.heads import FCNHead, with_auxiliary
from cvjax.nn import BatchNormOptions, Upsample, Upsampling
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize


class FCNResNet(nn.Module):
    """Segments images by a ResNet with dilated late stages, and a head of two convolutions on its last map.

    The layers that may come from ImageNet lie under `backbone`. The rest is the head.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Net whose `features(images, train)` has maps `stage3` and `stage4`, such as a ResNet.
      in_channels: Channels of the images.
      output_stride: Pixels of the input per pixel of the deepest map: 8, 16 or 32.
      aux: Have a second head on stage3, whose logits come with `train=True`.
      upsampling: Upsampling of the logits, see `cvjax.nn.Upsampling`. None, torchvision's, stretches them bilinearly to
        the image.
      head_layers, head_joins_input: Number of the head's 3x3 convolutions, and whether one more sees them beside their
        input, see `FCNHead`; mmsegmentation has 2 and one more.
      dropout: Rate of dropout in the head.
      aux_dropout: Rate of dropout in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, upsampling and logits are float32.
      norm: Options of the BatchNorms.
    """

    num_classes: int
    backbone: nn.Module = default_module(ResNet(0, **SHAPES[50]))
    in_channels: int = 3
    output_stride: int = 8
    aux: bool = True
    upsampling: Upsampling | None = None
    head_layers: int = 1
    head_joins_input: bool = False
    dropout: float = 0.1
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, output_stride=self.output_stride, in_channels=self.in_channels, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    def setup(self) -> None:
        self.head = FCNHead(
            self.num_classes,
            self.dropout,
            self.dtype,
            self.norm,
            layers=self.head_layers,
            join_input=self.head_joins_input,
        )
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, self.dtype, self.norm)
        if self.upsampling is not None:
            self.up_image = Upsample(self.num_classes, self.output_stride, self.upsampling)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `ResNet.features`."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Use the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          Logits [B, H, W, num_classes], float32. With `train` and `aux` it is (logits, {"aux": logits}).

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        maps, size = self.features(images, train), pair(images.shape[1:3])
        scores = self.head(maps["stage4"], train).astype(jnp.float32)
        logits = resize(scores, size) if self.upsampling is None else self._enlarge(scores, size)
        return with_auxiliary(self, logits, maps["stage3"], train)

    def _enlarge(self, scores: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Enlarges scores by the layer `up_image`, and takes the middle of its result.

        Strided layers round sides up, so the result may be larger than the image.
        """
        beyond = (self.output_stride * side - wanted for side, wanted in zip(scores.shape[1:3], size))
        return self.up_image(scores, size, pair(pixels // 2 for pixels in beyond))


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
    return Variant(info, FCNResNet, {"backbone": ResNet(0, **SHAPES[depth])})


VARIANTS = (_variant(50, 35_322_218), _variant(101, 54_314_346))
