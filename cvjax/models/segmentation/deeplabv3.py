"""DeepLab v3 (Chen et al., 1706.05587): a dilated ResNet, ASPP with image pooling, and a small head.

The defaults are torchvision's: output stride 8, no multi-grid. The paper trains at output stride 16 with
`multi_grid=(1, 2, 4)` and evaluates at 8. Its other design is in `cvjax.models.segmentation.deeplabv3_cascade`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.backbone import configure_backbone
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.aspp import ASPP, PAPER_RATES, aspp_rates
from cvjax.models.segmentation.fcn_head import FCNHead
from cvjax.nn import BatchNormOptions, ConvBNReLU, TorchConv, gaussian
from cvjax.ops.resize import resize


class DeepLabV3(nn.Module):
    """Classifies the pixels of ASPP's output at the output stride, and enlarges the logits bilinearly.

    With `train=True` ASPP's image pooling needs at least two images in the batch of all devices.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Net with maps `stage3` and `stage4`, which may start from ImageNet's weights.
      in_channels: Channels of the images.
      output_stride: Pixels of the image per pixel of the deepest map: 8, 16 or 32. Rates of ASPP follow it, and
        parameters do not depend on it, so a model may train at 16 and be evaluated at 8.
      multi_grid: Factors on the dilations of the backbone's last blocks, see `ResNet` and `Xception`.
      aspp_features: Channels of ASPP and of the layer after it.
      aspp_rates: Dilations of ASPP's atrous branches at output stride 16. The paper's suit crops of about 513 pixels;
        on a map that a rate does not fit, its branch is a 1x1 convolution.
      separable_aspp: Makes ASPP's atrous convolutions separable.
      dropout: Dropout rate after ASPP.
      aux: Adds an auxiliary head on `stage3`, whose logits come with `train=True`; evaluation never computes them.
      aux_dropout: Dropout rate in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the BatchNorms; the backbone keeps its own epsilon.
    """

    num_classes: int
    backbone: nn.Module
    in_channels: int = 3
    output_stride: int = 8
    multi_grid: tuple[int, ...] = (1, 1, 1)
    aspp_features: int = 256
    aspp_rates: tuple[int, ...] = PAPER_RATES
    separable_aspp: bool = False
    dropout: float = 0.5
    aux: bool = True
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
        common = {"dtype": self.dtype, "norm": self.norm}
        rates = aspp_rates(self.output_stride, self.aspp_rates)
        self.aspp = ASPP(self.aspp_features, rates, self.separable_aspp, self.dropout, **common)
        self.head = ConvBNReLU(self.aspp_features, 3, **common)
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, **common)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see its class."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Turns on the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          Logits [B, H, W, num_classes], float32; with `train` and `aux` a pair of them and {"aux": logits}.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels; a training batch of one
            image.
        """
        size = images.shape[1:3]
        maps = self.backbone.features(images, train)
        x = self.head(self.aspp(maps["stage4"], train), train)
        logits = resize(self.classifier(x).astype(jnp.float32), size)
        # While initializing, the head runs in evaluation, too, so that its parameters exist.
        if not self.aux or not (train or self.is_initializing()):
            return logits
        aux = resize(self.aux_head(maps["stage3"], train).astype(jnp.float32), size)
        return (logits, {"aux": aux}) if train else logits


def _variant(depth: int, params: int, gmacs: float | None = None) -> Variant:
    info = ModelInfo(
        name=f"deeplabv3_resnet{depth}",
        task="segmentation",
        paper="1706.05587",
        year=2017,
        image_size=513 if gmacs is None else 520,
        params=params,
        gmacs=gmacs,
        params_classes=21,
    )
    return Variant(info, DeepLabV3, {"backbone": ResNet(num_classes=0, **SHAPES[depth], parent=None)})


# GMACs are torchvision's, at 520 pixels, with the auxiliary head.
VARIANTS = (
    _variant(18, 16_053_034),
    _variant(34, 26_161_194),
    _variant(50, 42_004_074, 178.722),
    _variant(101, 60_996_202, 258.743),
)
