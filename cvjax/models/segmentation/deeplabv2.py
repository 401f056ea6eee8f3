"""DeepLab v2 (Chen et al., 1606.00915): atrous spatial pyramid pooling by summed branches, and fusion of scales.

On VGG-16 each branch is a pair of dense layers with a rate of its own and a classifier; on ResNet-101 it is a
classifier of 3x3 taps. `deeplabv2_vgg16` has ASPP-L, the rates 6, 12, 18 and 24; `aspp_rates=(2, 4, 8, 12)` makes it
ASPP-S.

The ResNet sees the image at three scales, with shared weights, and each pixel takes the largest score of a class among
them. In training every scale has a loss of its own beside that of the fused scores; the authors weigh all alike, which
is `aux_weight=1`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbone import configure_backbone
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.atrous_vgg import AtrousVGG, rates_at
from cvjax.nn import BatchNormOptions, TorchConv, gaussian
from cvjax.ops.resize import enlarge_from_corner, resize

ASPP_L, ASPP_S = (6, 12, 18, 24), (2, 4, 8, 12)
Outputs = jax.Array | tuple[jax.Array, dict[str, jax.Array]]


class DeepLabV2VGG(nn.Module):
    """Classifies the branches of an atrous VGG, adds their scores, and fuses those of several scales of the image.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Atrous VGG, which may start from ImageNet's weights.
      in_channels: Channels of the images.
      output_stride: Pixels of the image per pixel of the scores: 8, 16 or 32. Parameters do not depend on it.
      aspp_rates: Rates of fc6 at output stride 8, one for each branch; they follow the output stride.
      scales: Scales of the image, whose scores are fused by their maximum; a single scale fuses nothing. Each scale
        updates the running averages of BatchNorms that train.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the backbone's BatchNorms, where it has some; it keeps its own epsilon.
    """

    num_classes: int
    backbone: AtrousVGG
    in_channels: int = 3
    output_stride: int = 8
    aspp_rates: tuple[int, ...] = ASPP_L
    scales: tuple[float, ...] = (1.0,)
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

    def score(self, images: jax.Array, train: bool) -> jax.Array:
        """Returns the scores of images at one scale, float32 [B, h, w, num_classes] at the output stride."""
        maps = self.backbone.branches(images, train)
        return sum(classify(x).astype(jnp.float32) for classify, x in zip(self.classifier, maps))

    def __call__(self, images: jax.Array, train: bool = False) -> Outputs:
        """Segments images of any size, see `fuse_scales`; `train` turns on dropout (stream `dropout`), too."""
        check_images(images, self.in_channels)
        return fuse_scales(self.score, images, self.scales, self.output_stride, train)


class DeepLabV2ResNet(nn.Module):
    """Adds the scores of several atrous classifiers of a ResNet's last map, and fuses those of several scales.

    Attributes:
      num_classes: Channels of the logits.
      backbone: ResNet, which may start from ImageNet's weights.
      in_channels: Channels of the images.
      output_stride: Pixels of the image per pixel of the scores: 8, 16 or 32. Parameters do not depend on it.
      multi_grid: Factors on the dilations of the backbone's last stage, see `ResNet`.
      aspp_rates: Rates of the classifiers' 3x3 taps at output stride 8, one for each; they follow the output stride.
      scales: Scales of the image, whose scores are fused by their maximum; a single scale fuses nothing. Each scale
        updates the running averages of BatchNorms that train.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the backbone's BatchNorms; it keeps its own epsilon.
    """

    num_classes: int
    backbone: ResNet
    in_channels: int = 3
    output_stride: int = 8
    multi_grid: tuple[int, ...] = (1, 1, 1)
    aspp_rates: tuple[int, ...] = ASPP_L
    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
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
        self.classifier = [
            TorchConv(self.num_classes, 3, kernel_dilation=rate, dtype=self.dtype, kernel_init=gaussian(0.01))
            for rate in rates_at(self.output_stride, self.aspp_rates)
        ]

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see `ResNet.features`."""
        return self.backbone.features(images, train)

    def score(self, images: jax.Array, train: bool) -> jax.Array:
        """Returns the scores of images at one scale, float32 [B, h, w, num_classes] at the output stride."""
        last = self.backbone.features(images, train)["stage4"]
        return sum(classify(last).astype(jnp.float32) for classify in self.classifier)

    def __call__(self, images: jax.Array, train: bool = False) -> Outputs:
        """Segments images of any size, see `fuse_scales`."""
        check_images(images, self.in_channels)
        return fuse_scales(self.score, images, self.scales, self.output_stride, train)


def fuse_scales(
    score: Callable[[jax.Array, bool], jax.Array],
    images: jax.Array,
    scales: tuple[float, ...],
    output_stride: int,
    train: bool,
) -> Outputs:
    """Segments images of any size at several scales, and takes each pixel's largest score of a class.

    Args:
      score: Function from images and `train` to scores [B, h, w, num_classes] at the output stride.
      images: Images [B, H, W, in_channels], floating point, normalized.
      scales: Factors on the images' height and width.
      output_stride: Pixels of the image per pixel of the scores.
      train: Uses the batch's BatchNorm statistics, and returns the logits of every scale.

    Returns:
      Logits [B, H, W, num_classes], float32. With `train` and several scales a pair of them and of {"scale0.5": logits,
      ...}, those of each scale before the fusion.

    Raises:
      ConfigError: No scale, a scale of 0 or less, or one that occurs twice.
    """
    if not scales or min(scales) <= 0 or len(set(scales)) < len(scales):
        raise ConfigError(f"scales are one or more different numbers above 0, not {scales}")
    logits = {f"scale{scale:g}": _at_scale(score, images, scale, output_stride, train) for scale in scales}
    fused = jnp.stack(list(logits.values())).max(0)
    return (fused, logits) if train and len(logits) > 1 else fused


def _at_scale(
    score: Callable[[jax.Array, bool], jax.Array], images: jax.Array, scale: float, output_stride: int, train: bool
) -> jax.Array:
    """Returns logits of the image's size from the image at a scale; corners stay on corners both ways."""
    size = images.shape[1:3]
    scaled = tuple(round((side - 1) * scale) + 1 for side in size)
    scores = score(resize(images, scaled, align_corners=True), train)
    steps = tuple(
        output_stride * (side - 1) / (small - 1) if small > 1 else float(output_stride)
        for side, small in zip(size, scaled)
    )
    return enlarge_from_corner(scores, size, steps)


def _variant(kind: type[nn.Module], name: str, params: int, backbone: nn.Module) -> Variant:
    info = ModelInfo(
        name=f"deeplabv2_{name}",
        task="segmentation",
        paper="1606.00915",
        year=2016,
        image_size=321,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, kind, {"backbone": backbone})


def _on_resnet(depth: int, params: int) -> Variant:
    return _variant(DeepLabV2ResNet, f"resnet{depth}", params, ResNet(num_classes=0, **SHAPES[depth], parent=None))


# Counted: VGG's convolutions (14,714,688) and four branches with classifiers (5,790,741 each, as LargeFOV has one); a
# ResNet without its classifier and four times (9 * channels + 1) * 21.
VARIANTS = (
    _variant(DeepLabV2VGG, "vgg16", 37_877_652, AtrousVGG(parent=None)),
    _on_resnet(18, 11_563_668),
    _on_resnet(34, 21_671_828),
    _on_resnet(50, 25_056_404),
    _on_resnet(101, 44_048_532),
)
