"""DeepLab v1 (Chen et al., 1412.7062): an atrous VGG-16 whose scores are enlarged to the image; then a dense CRF.

`deeplabv1_largefov_vgg16` is the paper's best: 3x3 taps with rate 12 and 1024 channels in the place of VGG's dense
layers. The paper's other nets are options:

    DeepLab (128 pixels of view)   aspp_rates=(4,), backbone={"kernel_size": 4, "hidden": 4096}
    DeepLab-7x7                    aspp_rates=(4,), backbone={"kernel_size": 7, "hidden": 4096}
    DeepLab-4x4                    aspp_rates=(8,), backbone={"kernel_size": 4, "hidden": 4096}

The CRF is no part of the net: `--eval.crf v1`, or `cvjax.cli.crf`. `output_stride` 16 or 32 strides where the paper
dilates, which is the net to compare with.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.backbone import configure_backbone
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.atrous_vgg import AtrousVGG, rates_at
from cvjax.nn import BatchNormOptions, TorchConv, gaussian
from cvjax.ops.resize import enlarge_from_corner


class DeepLabV1(nn.Module):
    """Adds the scores of an atrous VGG's branches and enlarges them bilinearly.

    Pixel (s * i, s * j) of the logits at output stride s is score (i, j) itself, so a loss on every eighth pixel
    (`loss_stride=8`) is the paper's, which trains against labels shrunk by 8.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Atrous VGG, which may start from ImageNet's weights.
      in_channels: Channels of the images.
      output_stride: Pixels of the image per pixel of the scores: 8, 16 or 32. Parameters do not depend on it.
      aspp_rates: Rates of fc6 at output stride 8, one for each branch; they follow the output stride.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the backbone's BatchNorms, where it has some; it keeps its own epsilon.
    """

    num_classes: int
    backbone: AtrousVGG
    in_channels: int = 3
    output_stride: int = 8
    aspp_rates: tuple[int, ...] = (12,)
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        self.backbone = configure_backbone(
            self.backbone,
            self.norm,
            in_channels=self.in_channels,
            output_stride=self.output_stride,
            pool_size=3,
            rates=rates_at(self.output_stride, self.aspp_rates),
            dtype=self.dtype,
        )
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
          train: Turns on dropout (stream `dropout`), and the batch's statistics where there is BatchNorm.

        Returns:
          Logits [B, H, W, num_classes], float32.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        maps = self.backbone.branches(images, train)
        scores = sum(classify(x).astype(jnp.float32) for classify, x in zip(self.classifier, maps))
        return enlarge_from_corner(scores, images.shape[1:3], (self.output_stride, self.output_stride))


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
        {"backbone": AtrousVGG(average=True, parent=None)},  # the authors' net averages before fc6
    ),
)
