"""SENet (Hu et al., 1709.01507): residual nets whose branches are gated channel by channel.

Squeeze: every channel is averaged over the map. Excitation: two small layers turn these means into a factor for each
channel, between 0 and 1. `seresnet*` and `seresnext*` are the nets of `resnet.py` with gates, as timm has them. Any of
those nets takes `squeeze_excite=16`. `legacy_senet154` is the net that won ILSVRC 2017.

The factors can be read out: `model.apply(variables, images, mutable=["intermediates"])` returns them by block, as
`attention` [B, C].
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from cvjax.models.blocks.residual import ResidualBlock
from cvjax.models.classification.classifier import Classifier
from cvjax.models.classification.resnet import SHAPES, STAGES, imagenet_variant, stage_plan
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import SqueezeExcite, TorchConv, max_pool

_PAPER = ("1709.01507", 2017)


class SENetBottleneck(ResidualBlock):
    """Applies a bottleneck of SENet-154: 1x1 to twice the features, 3x3 in groups to four times, 1x1.

    Its other attributes are those of `ResidualBlock`.

    Attributes:
      groups: Number of groups of the 3x3 convolution.
      projection_size: Side in pixels of the shortcut's kernel, where it projects.
    """

    groups: int = 64
    projection_size: int = 3
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Turns x [B, H, W, C] into [B, ceil(H / stride), ceil(W / stride), 4 * features]."""
        y = self.conv(2 * self.features, 1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, not train))
        grouped = {"kernel_dilation": self.dilations[0], "feature_group_count": self.groups}
        y = self.conv(4 * self.features, 3, self.stride, name="conv2", **grouped)(y)
        y = nn.relu(self.norm(name="bn2")(y, not train))
        y = self.conv(4 * self.features, 1, name="conv3")(y)
        return self._join(x, y, "bn3", train)

    def _projection(self, features: int) -> ModuleMaker:
        return partial(self.conv, features, self.projection_size, self.stride, name="downsample_conv")


class SENet(Classifier):
    """Classifies images by SENet-154: a deep stem, four stages of `SENetBottleneck`, and dropout before the classifier.

    Its other attributes are those of `Classifier`.

    Attributes:
      stage_sizes: Number of blocks in each of the four stages.
      groups: Number of groups of the 3x3 convolutions.
      reduction: Reduction of channels in the gates' hidden layers.
      output_stride: Pixels of the input per pixel of stage4: 32, 16 or 8, see `ResNet`.
    """

    stage_sizes: tuple[int, int, int, int] = (3, 8, 36, 3)
    groups: int = 64
    reduction: int = 16
    output_stride: int = 32
    dropout: float = 0.2

    def setup(self) -> None:
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype)
        norm = self.norm.maker(dtype=self.dtype)
        self.stem_conv = [conv(64, 3, 2), conv(64, 3), conv(128, 3)]
        self.stem_bn = [norm() for _ in range(3)]
        gate = partial(SqueezeExcite, self.reduction, dtype=self.dtype)
        for stage, plan in enumerate(stage_plan(self.stage_sizes, self.output_stride), start=1):
            block = partial(
                SENetBottleneck,
                32 * 2**stage,
                conv=conv,
                norm=norm,
                gate=gate,
                groups=self.groups,
                projection_size=1 if stage == 1 else 3,
            )
            setattr(self, f"stage{stage}", [block(*row) for row in plan])
        self._make_head()

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized. Sides are at least 3 pixels.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` (stride 2), and `stage1` (4) to `stage4` (32). No stride exceeds `output_stride`.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels, smallest=3)
        x = images.astype(self.dtype)
        for conv, norm in zip(self.stem_conv, self.stem_bn):
            x = nn.relu(norm(conv(x), use_running_average=not train))
        maps = {"stem": x}
        x = max_pool(x, 3, 2, padding=0, ceil_mode=True)  # Caffe's pooling rounds up
        return maps | self._through(STAGES, x, train)


_gated = partial(imagenet_variant, paper=_PAPER, squeeze_excite=16)
_X4: dict[str, Any] = {"groups": 32, "width_per_group": 4}
_X8: dict[str, Any] = {"groups": 32, "width_per_group": 8}
VARIANTS = (
    _gated("seresnet18", 11_779_624, 1.82, **SHAPES[18]),
    _gated("seresnet34", 21_960_416, 3.67, **SHAPES[34]),
    _gated("seresnet50", 28_088_024, 4.11, **SHAPES[50]),
    _gated("seresnet101", 49_326_872, 7.84, **SHAPES[101]),
    _gated("seresnet152", 66_821_848, 11.57, **SHAPES[152]),
    _gated("seresnext50_32x4d", 27_559_896, 4.26, **SHAPES[50], **_X4),
    _gated("seresnext101_32x4d", 48_955_416, 8.02, **SHAPES[101], **_X4),
    _gated("seresnext101_32x8d", 93_569_048, 16.48, **SHAPES[101], **_X8),
    Variant(
        ModelInfo(
            name="legacy_senet154",
            task="classification",
            paper=_PAPER[0],
            year=_PAPER[1],
            image_size=224,
            params=115_088_984,
            gmacs=20.7,
            params_classes=1000,
        ),
        SENet,
        {},
    ),
)
