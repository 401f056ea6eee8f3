"""DeepLab v1 (Chen et al., 1412.7062): an atrous VGG-16 whose scores are enlarged to the image; then a dense CRF.

`deeplabv1_largefov_vgg16` is the paper's best: 3x3 taps with rate 12 and 1024 channels in the place of VGG's dense
layers. Its other nets are options:

    DeepLab (128 pixels of view)   kernel_size=4, aspp_rates=(4,), hidden=4096
    DeepLab-7x7                    kernel_size=7, aspp_rates=(4,), hidden=4096
    DeepLab-4x4                    kernel_size=4, aspp_rates=(8,), hidden=4096

The CRF is no part of the net; `--eval.crf v1` or `cvjax.cli.crf` applies it. An `output_stride` of 16 or 32 strides
where the paper dilates, for a comparison.
"""

import operator
from functools import reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.models.segmentation.atrous_vgg import AtrousVGG, adopt_atrous
from cvjax.nn import BatchNormOptions, TorchConv, gaussian
from cvjax.ops.geometry import pair
from cvjax.ops.resize import enlarge_from_corner


class DeepLabV1(nn.Module):
    """Segments images by the scores of an atrous VGG, bilinearly enlarged.

    Pixel (s * i, s * j) of the logits at output stride s is score (i, j) itself. So a loss on every eighth pixel
    (`loss_stride=8`) is the paper's loss, which compares with labels shrunk by 8.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Atrous VGG with a branch of dense layers for each rate.
      output_stride: Pixels of the input per pixel of the scores: 8, 16 or 32. Rates follow it.
      in_channels: Channels of the images.
      aspp_rates: Rates of fc6 at output stride 8, a branch for each.
      hidden: Channels of fc6 and fc7.
      kernel_size: Side of fc6's kernel, in taps.
      average: Average 3x3 pixels before fc6, as the authors' net does.
      dropout: Rate of dropout behind fc6 and fc7.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms, where the backbone has some.
    """

    num_classes: int
    backbone: AtrousVGG = default_module(AtrousVGG())
    output_stride: int = 8
    in_channels: int = 3
    aspp_rates: tuple[int, ...] = (12,)
    hidden: int = 1024
    kernel_size: int = 3
    average: bool = True
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt_atrous(self)
        super().__post_init__()

    def setup(self) -> None:
        self.classifier = [
            TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01)) for _ in self.aspp_rates
        ]

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `VGG.features`."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Use dropout (stream `dropout`), and the batch's statistics where there is BatchNorm.

        Returns:
          Logits [B, H, W, num_classes], float32.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        maps, stride = self.backbone.branches(images, train), self.output_stride
        scores = reduce(operator.add, (classify(x).astype(jnp.float32) for classify, x in zip(self.classifier, maps)))
        return enlarge_from_corner(scores, pair(images.shape[1:3]), (stride, stride))


VARIANTS = (
    Variant(
        ModelInfo(
            name="deeplabv1_largefov_vgg16",
            task="segmentation",
            paper="1412.7062",
            year=2014,
            image_size=321,
            params=20_505_429,
            gmacs=None,
            params_classes=21,
        ),
        DeepLabV1,
        {},
    ),
)
