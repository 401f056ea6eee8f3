"""ResNet version 2 (He et al., 1603.05027): BatchNorm and ReLU come before each convolution, and shortcuts stay clean.

Nothing but additions lies on the way from the first block to the last, so signals and gradients pass unchanged; one
BatchNorm and ReLU follow at the end. The nets are those of timm's `resnetv2_*`, with BatchNorm.
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
    """Convolutions after BatchNorm and ReLU, added to a shortcut that nothing touches.

    Where shapes differ the shortcut is a 1x1 convolution of the activated input.

    Attributes:
      features: channels of the 3x3 convolutions; with bottlenecks the output has four times as many.
      stride: of the block, in pixels.
      dilations: of its first and its later 3x3 convolutions, in pixels.
      conv, norm: makers of the layers, already told of dtype and momentum.
      bottleneck: 1x1, 3x3, 1x1 instead of two 3x3 convolutions.
    """

    features: int
    stride: int
    dilations: tuple[int, int]
    conv: ModuleMaker
    norm: ModuleMaker
    bottleneck: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), F]."""
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
    """A pre-activation residual network of four stages.

    Attributes: those of `Classifier`, and
      stage_sizes: blocks in each of the four stages.
      bottleneck: three-layer blocks instead of two-layer ones.
      width: channels of the stem and of the first stage's 3x3 convolutions; doubles at each stage.
      output_stride: pixels of the input per pixel of stage4: 32, or 16 or 8, see `ResNet`.
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
        """Maps from shallow to deep.

        Args:
          images: [B, H, W, in_channels], floating point, normalized; any size.
          train: whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` (stride 2), `stage1` (4) to `stage4` (32), none above `output_stride`; the last after BatchNorm and
          ReLU, the others as the shortcuts carry them, which may be negative. A side of n pixels becomes
          ceil(n / stride).

        Raises:
          ConfigError: images that it cannot take.
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
