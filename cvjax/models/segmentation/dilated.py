"""The dilated backbones under DeepLab's heads.

A head is a subclass of `DilatedNet` that calls `make_backbone`; a model inherits from a head and, behind it, from one
of the backbones here.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.classification.resnet import ResNet
from cvjax.models.classification.xception import SHORT, Entry, Xception


class DilatedNet(nn.Module):
    """A net whose backbone dilates its late layers instead of striding.

    What may come from ImageNet lies under `backbone` in `params` and `batch_stats`; the rest is head.

    Attributes:
      num_classes: channels of the logits.
      output_stride: pixels of the input per pixel of the deepest map: 8, 16 or 32. Rates of the head follow it, and
        parameters do not depend on it, so a model may train at 16 and be evaluated at 8.
      dtype: of the computation; parameters, statistics, resizing and logits are float32.
      axis_name: the device axis under pmap: global BatchNorm statistics, and the same dropout masks.
      bn_momentum: decay of BatchNorm's running averages (DeepLab: 0.9997).
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    output_stride: int = 16
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def make_backbone(self) -> nn.Module:
        """The backbone, at the output stride; it has `features(images, train)`."""
        raise NotImplementedError

    def layer_options(self) -> dict[str, Any]:
        """The fields that every block of layers takes."""
        return {
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "bn_momentum": self.bn_momentum,
            "freeze_bn": self.freeze_bn,
        }

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """The backbone's maps, see its class."""
        return self.backbone.features(images, train)


class OnResNet(DilatedNet):
    """On a ResNet.

    Attributes: those of `DilatedNet`, and
      stage_sizes, bottleneck, width, multi_grid, deep_stem, zero_gamma: of the backbone, see `ResNet`.
    """

    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    multi_grid: tuple[int, ...] = (1, 1, 1)
    deep_stem: bool = False
    zero_gamma: bool = False

    def make_backbone(self) -> nn.Module:
        """The ResNet."""
        return ResNet(
            num_classes=0,
            stage_sizes=self.stage_sizes,
            bottleneck=self.bottleneck,
            width=self.width,
            output_stride=self.output_stride,
            multi_grid=self.multi_grid,
            deep_stem=self.deep_stem,
            zero_gamma=self.zero_gamma,
            **self.layer_options(),
        )


class OnXception(DilatedNet):
    """On an Xception.

    Attributes: those of `DilatedNet`, and
      entry, middle_blocks, width_coefficient, multi_grid: of the backbone, see `Xception`.
    """

    entry: tuple[Entry, ...] = SHORT
    middle_blocks: int = 16
    width_coefficient: float = 1.0
    multi_grid: tuple[int, int, int] = (1, 1, 1)

    def make_backbone(self) -> nn.Module:
        """The Xception."""
        return Xception(
            num_classes=0,
            entry=self.entry,
            middle_blocks=self.middle_blocks,
            width_coefficient=self.width_coefficient,
            output_stride=self.output_stride,
            multi_grid=self.multi_grid,
            **self.layer_options(),
        )
