"""DeepLab v2 (Chen et al., 1606.00915): atrous spatial pyramid pooling by summed branches, and fusion of scales.

On VGG-16 each branch is a pair of dense layers with a rate of its own and a classifier. On ResNet-101 it is a
classifier of 3x3 taps. `deeplabv2_vgg16` has ASPP-L, the rates 6, 12, 18 and 24; `aspp_rates=(2, 4, 8, 12)` makes it
ASPP-S.

The ResNet sees the image at three scales, with shared weights. Each pixel takes the largest score of a class among
them. In training every scale has a loss of its own beside the loss of the fused scores. The authors weigh all alike:
`aux_weight=1`.
"""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.models.segmentation.atrous_vgg import AtrousVGG, adopt_atrous, rates_at
from cvjax.nn import BatchNormOptions, TorchConv, gaussian
from cvjax.ops.geometry import pair
from cvjax.ops.resize import enlarge_from_corner, rescale, resize

ASPP_L, ASPP_S = (6, 12, 18, 24), (2, 4, 8, 12)

Logits = jax.Array | tuple[jax.Array, dict[str, jax.Array]]


class DeepLabV2VGG(nn.Module):
    """Segments images by branches of an atrous VGG, each with a classifier, whose scores are added.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Atrous VGG with a branch of dense layers for each rate.
      output_stride: Pixels of the input per pixel of the scores: 8, 16 or 32. Rates follow it.
      scales: Scales of the image, whose scores are fused by their maximum; 1 alone fuses nothing. Where BatchNorm
        trains, each scale updates its running averages.
      in_channels: Channels of the images.
      aspp_rates: Rates of fc6 at output stride 8, a branch for each.
      hidden: Channels of fc6 and fc7.
      kernel_size: Side of fc6's kernel, in taps.
      average: Average 3x3 pixels before fc6.
      dropout: Rate of dropout behind fc6 and fc7.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms, where the backbone has some.
    """

    num_classes: int
    backbone: AtrousVGG = default_module(AtrousVGG())
    output_stride: int = 8
    scales: tuple[float, ...] = (1.0,)
    in_channels: int = 3
    aspp_rates: tuple[int, ...] = ASPP_L
    hidden: int = 1024
    kernel_size: int = 3
    average: bool = False
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

    def __call__(self, images: jax.Array, train: bool = False) -> Logits:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Use dropout (stream `dropout`), and the batch's statistics where there is BatchNorm.

        Returns:
          Logits [B, H, W, num_classes], float32. With `train` and several scales it is (logits, {"scale0.5": logits,
          ...}); the second holds the logits of each scale before the fusion.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels; no scale, or not above 0.
        """

        def score(scaled: jax.Array) -> jax.Array:
            maps = self.backbone.branches(scaled, train)
            return reduce(operator.add, (classify(x).astype(jnp.float32) for classify, x in zip(self.classifier, maps)))

        check_images(images, self.in_channels)
        return fuse_scales(score, images, self.scales, self.output_stride, train)


class DeepLabV2ResNet(nn.Module):
    """Segments images by the summed scores of atrous classifiers on the last map of a dilated ResNet.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Net whose `features(images, train)` has a map `stage4`, such as a ResNet.
      output_stride: Pixels of the input per pixel of the scores: 8, 16 or 32. Rates follow it.
      multi_grid: Factors on the dilations of the backbone's last blocks.
      scales: Scales of the image, whose scores are fused by their maximum; 1 alone fuses nothing. Where BatchNorm
        trains, each scale updates its running averages.
      align_corners: Keep the centers of the corner pixels in the corners in all resizing, as the authors do; otherwise
        the edges stay, as in kazuto1011's release, see `fuse_scales`.
      fuse_first: Fuse the scores on the grid of the largest scale's and enlarge the result to the image, as both
        releases do; otherwise each scale's scores are enlarged, and then fused.
      aspp_rates: Rates of the classifiers' 3x3 taps at output stride 8, one for each.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms.
    """

    num_classes: int
    backbone: nn.Module = default_module(ResNet(0, **SHAPES[101]))
    output_stride: int = 8
    multi_grid: tuple[int, ...] = (1, 1, 1)
    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    align_corners: bool = True
    fuse_first: bool = False
    aspp_rates: tuple[int, ...] = ASPP_L
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, output_stride=self.output_stride, multi_grid=self.multi_grid, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    def setup(self) -> None:
        self.classifier = [
            TorchConv(self.num_classes, 3, kernel_dilation=rate, dtype=self.dtype, kernel_init=gaussian(0.01))
            for rate in rates_at(self.output_stride, self.aspp_rates)
        ]

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see its class."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> Logits:
        """Segments images of any size; arguments, result and errors are those of `DeepLabV2VGG`."""

        def score(scaled: jax.Array) -> jax.Array:
            last = self.backbone.features(scaled, train)["stage4"]
            return reduce(operator.add, (classify(last).astype(jnp.float32) for classify in self.classifier))

        check_images(images, getattr(self.backbone, "in_channels", 3))
        how = {"align_corners": self.align_corners, "fuse_first": self.fuse_first}
        return fuse_scales(score, images, self.scales, self.output_stride, train, **how)


def fuse_scales(
    score: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    scales: tuple[float, ...],
    output_stride: int,
    train: bool,
    *,
    align_corners: bool = True,
    fuse_first: bool = False,
) -> Logits:
    """Scores images at several scales and takes the maximum of each class.

    Args:
      score: Function of images [B, h, w, C] that returns scores [B, h', w', num_classes] at the output stride.
      images: Images [B, H, W, C].
      scales: Factors on height and width.
      output_stride: Pixels of the images that `score` sees per pixel of its scores.
      train: Whether to return the logits of each scale too.
      align_corners: Whether the centers of the corner pixels stay in the corners both ways. Otherwise the edges do, and
        the sides of scaled images are rounded down, see `cvjax.ops.resize.rescale`.
      fuse_first: Whether to take the maximum on the grid of the largest scale's scores, before enlarging to the image.

    Returns:
      Logits [B, H, W, num_classes], float32. With `train` and several scales it is (logits, {"scale0.5": logits, ...}).

    Raises:
      ConfigError: No scale, or not above 0, or one twice.
    """
    if not scales or min(scales) <= 0 or len(set(scales)) < len(scales):
        raise ConfigError(f"scales are one or more different numbers above 0, not {scales}")
    size, scored = pair(images.shape[1:3]), {}
    for scale in scales:
        if align_corners:
            scaled = resize(images, pair(round((side - 1) * scale) + 1 for side in size), align_corners=True)
        else:
            scaled = rescale(images, scale)
        steps = pair(
            output_stride * (side - 1) / (small - 1) if small > 1 else float(output_stride)
            for side, small in zip(size, scaled.shape[1:3])
        )
        scored[scale] = score(scaled), steps

    def enlarge(scores: jax.Array, target: tuple[int, int], steps: tuple[float, float]) -> jax.Array:
        return enlarge_from_corner(scores, target, steps) if align_corners else resize(scores, target)

    logits = {}
    if train or not fuse_first:
        logits = {f"scale{scale:g}": enlarge(scores, size, steps) for scale, (scores, steps) in scored.items()}
    if fuse_first:
        finest, fine = scored[max(scales)]
        grid = pair(finest.shape[1:3])
        there = [
            enlarge(scores, grid, pair(step / least for step, least in zip(steps, fine)))
            for scores, steps in scored.values()
        ]
        fused = enlarge(jnp.stack(there).max(0), size, fine)
    else:
        fused = jnp.stack(list(logits.values())).max(0)
    return (fused, logits) if train and len(logits) > 1 else fused


def _variant(kind: type[nn.Module], name: str, params: int, **settings: Any) -> Variant:
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
    return Variant(info, kind, settings)


# Those whose figure the paper has: steps in the first 1x1, and a last stage that is dilated from its first block on.
_AUTHORS = ResNet(0, **SHAPES[101], stride_in_1x1=True, stem_pool="ceil_padded", dilate_first=True)
# Counted: VGG's convolutions (14,714,688) and four branches with classifiers (5,790,741 each, as LargeFOV has one); a
# ResNet without its classifier and four times (9 * channels + 1) * 21.
VARIANTS = (
    _variant(DeepLabV2VGG, "vgg16", 37_877_652),
    _variant(DeepLabV2ResNet, "resnet18", 11_563_668, backbone=ResNet(0, **SHAPES[18])),
    _variant(DeepLabV2ResNet, "resnet34", 21_671_828, backbone=ResNet(0, **SHAPES[34])),
    _variant(DeepLabV2ResNet, "resnet50", 25_056_404, backbone=ResNet(0, **SHAPES[50])),
    _variant(DeepLabV2ResNet, "resnet101", 44_048_532, backbone=_AUTHORS, fuse_first=True),
)
