"""ResNet version 2 (He et al., 1603.05027): BatchNorm and ReLU come before each convolution, and shortcuts stay clean.

Only additions lie on the way from the first block to the last, so signals and gradients pass unchanged. One BatchNorm
and ReLU follow at the end. The nets are those of timm's `resnetv2_*`, with BatchNorm.
"""

from functools import partial

import flax.linen as nn
import jax

from cvjax.models.classification.classifier import Classifier
from cvjax.models.classification.resnet import SHAPES, STAGES, stage_plan
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import TorchConv, max_pool


class PreActivationBlock(nn.Module):
    """Adds convolutions, each after BatchNorm and ReLU, to a shortcut that nothing touches.

    Where shapes differ the shortcut is a 1x1 convolution of the activated input.

    Attributes:
      features: Channels of the 3x3 convolutions; with bottlenecks the output has four times this number.
      stride: Stride of the block in pixels.
      dilations: Dilations of its first and of its later 3x3 convolutions, in pixels.
      conv, norm: Makers of the layers, with dtype and momentum bound already.
      bottleneck: Use 1x1, 3x3 and 1x1 convolutions instead of two 3x3 ones.
    """

    features: int
    stride: int
    dilations: tuple[int, int]
    conv: ModuleMaker
    norm: ModuleMaker
    bottleneck: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / stride), ceil(W / stride), F].

        F is `features`, times 4 with bottlenecks.
        """
        first, later = self.dilations
        strided = {"strides": self.stride, "kernel_dilation": first}
        layers = [(self.features, 3, strided), (self.features, 3, {"kernel_dilation": later})]
        if self.bottleneck:
            layers = [(self.features, 1, {}), (self.features, 3, strided), (4 * self.features, 1, {})]
        activated = y = nn.relu(self.norm(name="bn1")(x, not train))
        for number, (features, size, options) in enumerate(layers, start=1):
            if number > 1:
                y = nn.relu(self.norm(name=f"bn{number}")(y, not train))
            y = self.conv(features, size, name=f"conv{number}", **options)(y)
        if self.stride > 1 or x.shape != y.shape:
            x = self.conv(y.shape[-1], 1, self.stride, name="downsample_conv")(activated)
        return x + y


class ResNetV2(Classifier):
    """Classifies images by four stages of pre-activation residual blocks.

    Its other attributes are those of `Classifier`.

    Attributes:
      stage_sizes: Number of blocks in each of the four stages.
      bottleneck: Use three-layer blocks instead of two-layer ones.
      width: Channels of the stem and of the first stage's 3x3 convolutions; doubles at each stage.
      output_stride: Pixels of the input per pixel of stage4: 32, 16 or 8, see `ResNet`.
    """

    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    output_stride: int = 32

    def setup(self) -> None:
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype)
        norm = self.norm.maker(dtype=self.dtype)
        self.stem_conv = conv(self.width, 7, 2)
        for stage, plan in enumerate(stage_plan(self.stage_sizes, self.output_stride)):
            block = partial(PreActivationBlock, self.width * 2**stage, conv=conv, norm=norm, bottleneck=self.bottleneck)
            setattr(self, f"stage{stage + 1}", [block(*row) for row in plan])
        self.last_bn = norm()
        self._make_head()

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` (stride 2), and `stage1` (4) to `stage4` (32). The last one is taken after BatchNorm and ReLU. The
          others are as the shortcuts carry them, so they may be negative. No stride exceeds `output_stride`, and a side
          of n pixels becomes ceil(n / stride).

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels)
        x = self.stem_conv(images.astype(self.dtype))
        maps = {"stem": x}
        x = max_pool(x, 3, 2, padding=1)
        maps |= self._through(STAGES, x, train)
        return maps | {"stage4": nn.relu(self.last_bn(maps["stage4"], use_running_average=not train))}


# GMACs are timm's.
VARIANTS = tuple(
    Variant(
        ModelInfo(
            name=f"resnetv2_{depth}",
            task="classification",
            paper="1603.05027",
            year=2016,
            image_size=224,
            params=params,
            gmacs=gmacs,
            params_classes=1000,
        ),
        ResNetV2,
        SHAPES[depth],
    )
    for depth, params, gmacs in (
        (18, 11_687_720, None),
        (34, 21_795_880, None),
        (50, 25_549_352, 4.11),
        (101, 44_541_480, 7.83),
        (152, 60_185_128, 11.55),
    )
)
