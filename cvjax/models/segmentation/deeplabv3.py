"""DeepLab v3 (Chen et al., 1706.05587): dilated ResNet, ASPP with image pooling, and a small head; or a deeper ResNet.

The defaults of `deeplabv3_*` are torchvision's: output stride 8, no multi-grid. The paper trains at output stride 16
with `multi_grid=(1, 2, 4)` and evaluates at 8. `deeplabv3_cascade_*` are the paper's other design: the last stage again
and again, each at twice the rate of the one before, instead of ASPP.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from cvjax.errors import ConfigError
from cvjax.models.classification.residual import BasicBlock, Bottleneck
from cvjax.models.classification.resnet import SHAPES
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.deeplab import DeepLab, PyramidDeepLab
from cvjax.models.segmentation.dilated import OnResNet
from cvjax.nn import BatchNorm, ConvBNReLU, TorchConv


class DeepLabV3(PyramidDeepLab, OnResNet):
    """See `PyramidDeepLab` and `OnResNet` for the fields."""

    output_stride: int = 8

    def setup(self) -> None:
        super().setup()
        self.head = ConvBNReLU(self.aspp_features, 3, **self.layer_options())

    def decode(self, maps: dict[str, jax.Array], train: bool) -> jax.Array:
        """One 3x3 convolution on ASPP's output, at the output stride."""
        return self.head(self.aspp(maps["stage4"], train), train)


class DeepLabV3Cascade(DeepLab, OnResNet):
    """Copies of the last stage behind it, at twice, four times and eight times its rate.

    The copies, `block5` to `block7`, start fresh also where the backbone comes from ImageNet. By default there is no
    auxiliary head, as in the paper.

    Attributes: those of `DeepLab` and `OnResNet`, and
      copies: of the last stage; the paper's best net has 3. Their blocks have the factors of `multi_grid`, too.
    """

    aux: bool = False
    multi_grid: tuple[int, ...] = (1, 2, 1)
    copies: int = 3

    def setup(self) -> None:
        super().setup()
        if self.copies < 1:
            raise ConfigError(f"a cascade has at least 1 copy of the last stage, not {self.copies}")
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype)
        norm = partial(
            BatchNorm, momentum=self.bn_momentum, axis_name=self.axis_name, frozen=self.freeze_bn, dtype=self.dtype
        )
        block = partial(Bottleneck if self.bottleneck else BasicBlock, conv=conv, norm=norm, zero_gamma=self.zero_gamma)
        for copy in range(1, self.copies + 1):
            rates = [self._rate(copy) * self.multi_grid[i % len(self.multi_grid)] for i in range(self.stage_sizes[3])]
            setattr(self, f"block{4 + copy}", [block(8 * self.width, 1, (rate, rate)) for rate in rates])

    def _rate(self, copy: int) -> int:
        """Of a copy's convolutions, in pixels of the map; copy 0 is the backbone's last stage."""
        return 32 // self.output_stride * 2**copy

    def decode(self, maps: dict[str, jax.Array], train: bool) -> jax.Array:
        """The copies, one behind the other, at the output stride."""
        x = maps["stage4"]
        for copy in range(1, self.copies + 1):
            for block in getattr(self, f"block{4 + copy}"):
                x = block(x, train)
        return x


def _variant(kind: type[nn.Module], name: str, depth: int, params: int, gmacs: float | None = None) -> Variant:
    info = ModelInfo(
        name=f"{name}_resnet{depth}",
        task="segmentation",
        paper="1706.05587",
        year=2017,
        image_size=513 if gmacs is None else 520,
        params=params,
        gmacs=gmacs,
        params_classes=21,
    )
    settings: dict[str, Any] = SHAPES[depth]
    return Variant(info, kind, settings)


# GMACs are torchvision's, at 520 pixels, with the auxiliary head. A cascade is a ResNet without its classifier
# (23,508,032 and 42,500,160 parameters), 9 bottlenecks of 4,462,592 and a classifier of 2,049 weights a class.
VARIANTS = (
    _variant(DeepLabV3, "deeplabv3", 18, 16_053_034),
    _variant(DeepLabV3, "deeplabv3", 34, 26_161_194),
    _variant(DeepLabV3, "deeplabv3", 50, 42_004_074, 178.722),
    _variant(DeepLabV3, "deeplabv3", 101, 60_996_202, 258.743),
    _variant(DeepLabV3Cascade, "deeplabv3_cascade", 50, 63_714_389),
    _variant(DeepLabV3Cascade, "deeplabv3_cascade", 101, 82_706_517),
)
