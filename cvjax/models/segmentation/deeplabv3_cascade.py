"""The other design of DeepLab v3 (Chen et al., 1706.05587): a deeper ResNet instead of ASPP.

The last stage comes again and again, each copy at twice the rate of the one before. The paper trains at output stride
16 and evaluates at 8.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbone import configure_backbone
from cvjax.models.classification.residual import BasicBlock, Bottleneck
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.fcn_head import FCNHead
from cvjax.nn import BatchNormOptions, TorchConv, gaussian
from cvjax.ops.resize import resize


class DeepLabV3Cascade(nn.Module):
    """Classifies the output of copies of a ResNet's last stage, at twice, four times and eight times its rate.

    The copies, `block5` to `block7`, start fresh also where the backbone comes from ImageNet. Their blocks are of the
    backbone's kind, without groups, gates or deformable convolutions.

    Attributes:
      num_classes: Channels of the logits.
      backbone: ResNet, which may start from ImageNet's weights.
      in_channels: Channels of the images.
      output_stride: Pixels of the image per pixel of the deepest map: 8, 16 or 32. Rates of the copies follow it, and
        parameters do not depend on it.
      multi_grid: Factors on the dilations of the blocks of the last stage and of its copies, see `ResNet`.
      copies: Number of copies of the last stage; the paper's best net has 3.
      aux: Adds an auxiliary head on `stage3`, which the paper does without; its logits come with `train=True`.
      aux_dropout: Dropout rate in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the BatchNorms; the backbone keeps its own epsilon.
    """

    num_classes: int
    backbone: ResNet
    in_channels: int = 3
    output_stride: int = 16
    multi_grid: tuple[int, ...] = (1, 2, 1)
    copies: int = 3
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
        if self.copies < 1:
            raise ConfigError(f"a cascade has at least 1 copy of the last stage, not {self.copies}")
        block = partial(
            Bottleneck if self.backbone.bottleneck else BasicBlock,
            features=8 * self.backbone.width,
            stride=1,
            conv=partial(TorchConv, use_bias=False, dtype=self.dtype),
            norm=self.norm.maker(dtype=self.dtype),
            zero_gamma=self.backbone.zero_gamma,
        )
        for copy in range(1, self.copies + 1):
            setattr(self, f"block{4 + copy}", [block(dilations=(rate, rate)) for rate in self._rates(copy)])
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, dtype=self.dtype, norm=self.norm)

    def _rates(self, copy: int) -> list[int]:
        """Returns the dilation of each block of a copy, in pixels of the map; copy 0 is the last stage itself."""
        rate, grid = 32 // self.output_stride * 2**copy, self.multi_grid
        return [rate * grid[i % len(grid)] for i in range(self.backbone.stage_sizes[3])]

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `ResNet.features`."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Turns on the batch's BatchNorm statistics and the auxiliary head with its dropout (stream `dropout`).

        Returns:
          Logits [B, H, W, num_classes], float32; with `train` and `aux` a pair of them and {"aux": logits}.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        size = images.shape[1:3]
        maps = self.backbone.features(images, train)
        x = maps["stage4"]
        for copy in range(1, self.copies + 1):
            for block in getattr(self, f"block{4 + copy}"):
                x = block(x, train)
        logits = resize(self.classifier(x).astype(jnp.float32), size)
        # While initializing, the head runs in evaluation, too, so that its parameters exist.
        if not self.aux or not (train or self.is_initializing()):
            return logits
        aux = resize(self.aux_head(maps["stage3"], train).astype(jnp.float32), size)
        return (logits, {"aux": aux}) if train else logits


def _variant(depth: int, params: int) -> Variant:
    info = ModelInfo(
        name=f"deeplabv3_cascade_resnet{depth}",
        task="segmentation",
        paper="1706.05587",
        year=2017,
        image_size=513,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, DeepLabV3Cascade, {"backbone": ResNet(num_classes=0, **SHAPES[depth], parent=None)})


# Counted: a ResNet without its classifier (23,508,032 and 42,500,160 parameters), 9 bottlenecks of 4,462,592 and a
# classifier of 2,049 weights a class.
VARIANTS = (_variant(50, 63_714_389), _variant(101, 82_706_517))
