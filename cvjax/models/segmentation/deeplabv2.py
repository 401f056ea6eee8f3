"""DeepLab v2 (Chen et al., 1606.00915): atrous spatial pyramid pooling by summed branches, and fusion of scales.

On VGG-16 each branch is a pair of dense layers with a rate of its own and a classifier; on ResNet-101 it is a
classifier of 3x3 taps. `deeplabv2_vgg16` has ASPP-L, the rates 6, 12, 18 and 24; `aspp_rates=(2, 4, 8, 12)` makes it
ASPP-S.

The ResNet sees the image at three scales, with shared weights, and each pixel takes the largest score of a class among
them. In training every scale has a loss of its own beside that of the fused scores; the authors weigh all alike, which
is `aux_weight=1`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.classification.resnet import SHAPES
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.atrous_vgg import OnVGG, rates_at
from cvjax.models.segmentation.dilated import DilatedNet, OnResNet
from cvjax.nn import TorchConv, gaussian
from cvjax.ops.resize import enlarge_from_corner, resize

ASPP_L, ASPP_S = (6, 12, 18, 24), (2, 4, 8, 12)


class DeepLabV2(DilatedNet):
    """Fusion of scales; subclasses add `score`.

    Attributes: those of `DilatedNet`, and
      scales: of the image, whose scores are fused by their maximum; 1 alone fuses nothing. Where BatchNorm trains, each
        scale updates its running averages.
    """

    output_stride: int = 8
    scales: tuple[float, ...] = (1.0,)

    def score(self, images: jax.Array, train: bool) -> jax.Array:
        """Images -> scores, float32 [B, h, w, num_classes] at the output stride."""
        raise NotImplementedError

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: [B, H, W, C], floating point, normalised.
          train: dropout (stream `dropout`) and the batch's BatchNorm statistics, where there are such layers.

        Returns:
          float32 logits [B, H, W, num_classes]; with `train` and several scales: (logits, {"scale0.5": logits, ...}),
          the second those of each scale before the fusion.

        Raises:
          ConfigError: images of another rank, type or number of channels, or without pixels; no scale, or not above 0.
        """
        if not self.scales or min(self.scales) <= 0 or len(set(self.scales)) < len(self.scales):
            raise ConfigError(f"scales are one or more different numbers above 0, not {self.scales}")
        check_images(images, getattr(self, "in_channels", 3))
        logits = {f"scale{scale:g}": self._at_scale(images, scale, train) for scale in self.scales}
        fused = jnp.stack(list(logits.values())).max(0)
        return (fused, logits) if train and len(logits) > 1 else fused

    def _at_scale(self, images: jax.Array, scale: float, train: bool) -> jax.Array:
        """Logits of the image's size from the image at a scale; corners stay on corners both ways."""
        size = images.shape[1:3]
        scaled = tuple(round((side - 1) * scale) + 1 for side in size)
        scores = self.score(resize(images, scaled, align_corners=True), train)
        steps = tuple(
            self.output_stride * (side - 1) / (small - 1) if small > 1 else float(self.output_stride)
            for side, small in zip(size, scaled)
        )
        return enlarge_from_corner(scores, size, steps)


class DeepLabV2VGG(OnVGG, DeepLabV2):  # in this order, as OnVGG has the `score` that DeepLabV2 asks for
    """See `DeepLabV2` and `OnVGG` for the fields."""

    aspp_rates: tuple[int, ...] = ASPP_L


class DeepLabV2ResNet(DeepLabV2, OnResNet):
    """Atrous classifiers of a ResNet's last map, summed.

    Attributes: those of `DeepLabV2` and `OnResNet`, and
      aspp_rates: of the classifiers' 3x3 taps at output stride 8, one for each.
    """

    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    aspp_rates: tuple[int, ...] = ASPP_L

    def setup(self) -> None:
        self.backbone = self.make_backbone()
        self.classifier = [
            TorchConv(self.num_classes, 3, kernel_dilation=rate, dtype=self.dtype, kernel_init=gaussian(0.01))
            for rate in rates_at(self.output_stride, self.aspp_rates)
        ]

    def score(self, images: jax.Array, train: bool) -> jax.Array:
        """Images -> scores, float32 [B, h, w, num_classes] at the output stride."""
        last = self.backbone.features(images, train)["stage4"]
        return sum(classify(last).astype(jnp.float32) for classify in self.classifier)


def _variant(kind: type[nn.Module], backbone: str, params: int, **settings: Any) -> Variant:
    info = ModelInfo(
        name=f"deeplabv2_{backbone}",
        task="segmentation",
        paper="1606.00915",
        year=2016,
        image_size=321,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, kind, settings)


# Counted: VGG's convolutions (14,714,688) and four branches with classifiers (5,790,741 each, as LargeFOV has one); a
# ResNet without its classifier and four times (9 * channels + 1) * 21.
VARIANTS = (
    _variant(DeepLabV2VGG, "vgg16", 37_877_652),
    _variant(DeepLabV2ResNet, "resnet18", 11_563_668, **SHAPES[18]),
    _variant(DeepLabV2ResNet, "resnet34", 21_671_828, **SHAPES[34]),
    _variant(DeepLabV2ResNet, "resnet50", 25_056_404, **SHAPES[50]),
    _variant(DeepLabV2ResNet, "resnet101", 44_048_532, **SHAPES[101]),
)
