"""DeepLab v3 (Chen et al., 1706.05587): dilated ResNet, ASPP with image pooling, and a small head; or a deeper ResNet.

The defaults of `deeplabv3_*` are torchvision's: output stride 8, no multi-grid. The paper trains at output stride 16
with `multi_grid=(1, 2, 4)` and evaluates at 8. `deeplabv3_cascade_*` are the paper's other design. It has copies of the
last stage instead of ASPP, each at twice the rate of the one before.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.blocks.residual import BasicBlock, Bottleneck
from cvjax.models.classification.resnet import SHAPES, ResNet
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.models.segmentation.aspp import ASPP, PAPER_RATES, aspp_rates
from cvjax.models.segmentation.heads import FCNHead, with_auxiliary
from cvjax.nn import BatchNormOptions, ConvBNReLU, TorchConv, gaussian
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize


class DeepLabV3(nn.Module):
    """Segments images by a dilated backbone, ASPP on its last map, one 3x3 convolution and a classifier.

    The layers that may come from ImageNet lie under `backbone` in `params` and `batch_stats`. The rest is the head.
    With `train=True` the image-pooling branch of ASPP needs at least two images in the (global) batch.

    Attributes:
      num_classes: Channels of the logits.
      backbone: Net whose `features(images, train)` has maps `stage3` and `stage4`, such as a ResNet.
      output_stride: Pixels of the input per pixel of the deepest map: 8, 16 or 32. Rates of ASPP follow it. Parameters
        do not depend on it, so a model may train at 16 and be evaluated at 8.
      multi_grid: Factors on the dilations of the backbone's last blocks.
      aux: Have an auxiliary FCN head on stage3, whose logits come with `train=True`.
      aspp_features: Channels of ASPP and of the layers after it.
      aspp_rates: Dilations of ASPP's atrous branches at output stride 16. The paper's suit crops of about 513 pixels.
        On a map that a rate does not fit, its branch is a 1x1 convolution.
      aspp_project_kernel: Side of the kernel of ASPP's projection, in pixels; mmsegmentation has 3.
      conv_after_aspp: Have the 3x3 convolution between ASPP and the classifier; mmsegmentation has none.
      align_corners: Enlarge the logits so that the centers of the corner pixels stay in the corners, as
        segmentation_models_pytorch does; otherwise the edges do, see `cvjax.ops.resize`.
      dropout: Rate of dropout after ASPP.
      aux_dropout: Rate of dropout in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the BatchNorms (DeepLab's momentum is 0.9997).
    """

    num_classes: int
    backbone: nn.Module = default_module(ResNet(0, **SHAPES[50]))
    output_stride: int = 8
    multi_grid: tuple[int, ...] = (1, 1, 1)
    aux: bool = True
    aspp_features: int = 256
    aspp_rates: tuple[int, ...] = PAPER_RATES
    aspp_project_kernel: int = 1
    conv_after_aspp: bool = True
    align_corners: bool = False
    dropout: float = 0.5
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, output_stride=self.output_stride, multi_grid=self.multi_grid, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    def setup(self) -> None:
        rates = aspp_rates(self.output_stride, self.aspp_rates)
        common = {"dtype": self.dtype, "norm": self.norm}
        self.aspp = ASPP(
            self.aspp_features, rates, dropout=self.dropout, project_kernel=self.aspp_project_kernel, **common
        )
        if self.conv_after_aspp:
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
          images: Images [B, H, W, C], floating point, normalized.
          train: Use the batch's BatchNorm statistics, dropout (stream `dropout`) and the auxiliary head.

        Returns:
          Logits [B, H, W, num_classes], float32. With `train` and `aux` it is (logits, {"aux": logits}).

        Raises:
          ConfigError: Images of another rank, type or without pixels; a training batch of one image.
        """
        maps = self.features(images, train)
        x = self.aspp(maps["stage4"], train)
        if self.conv_after_aspp:
            x = self.head(x, train)
        scores = self.classifier(x).astype(jnp.float32)
        logits = resize(scores, pair(images.shape[1:3]), align_corners=self.align_corners)
        return with_auxiliary(self, logits, maps["stage3"], train)


class DeepLabV3Cascade(nn.Module):
    """Segments images by a dilated ResNet and copies of its last stage, at twice, four times and eight times its rate.

    The copies, `block5` to `block7`, start fresh even where the backbone comes from ImageNet. By default there is no
    auxiliary head, as in the paper.

    Attributes:
      num_classes: Channels of the logits.
      backbone: ResNet, whose last stage is copied.
      output_stride: Pixels of the input per pixel of the deepest map: 8, 16 or 32.
      multi_grid: Factors on the dilations of the blocks of the last stage and of its copies.
      copies: Number of copies of the last stage; the paper's best net has 3.
      aux: Have an auxiliary FCN head on stage3, whose logits come with `train=True`.
      aux_dropout: Rate of dropout in the auxiliary head.
      dtype: Type of the computation; parameters, statistics, resizing and logits are float32.
      norm: Options of the BatchNorms.
    """

    num_classes: int
    backbone: ResNet = default_module(ResNet(0, **SHAPES[50]))
    output_stride: int = 16
    multi_grid: tuple[int, ...] = (1, 2, 1)
    copies: int = 3
    aux: bool = False
    aux_dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, output_stride=self.output_stride, multi_grid=self.multi_grid, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    def setup(self) -> None:
        if self.copies < 1:
            raise ConfigError(f"a cascade has at least 1 copy of the last stage, not {self.copies}")
        net = self.backbone
        block = partial(
            Bottleneck if net.bottleneck else BasicBlock,
            conv=partial(TorchConv, use_bias=False, dtype=self.dtype),
            norm=self.norm.maker(dtype=self.dtype),
            zero_gamma=net.zero_gamma,
        )
        for copy in range(1, self.copies + 1):
            base = 32 // self.output_stride * 2**copy  # the backbone's own last stage has half of the first copy's rate
            rates = [base * self.multi_grid[i % len(self.multi_grid)] for i in range(net.stage_sizes[3])]
            setattr(self, f"block{4 + copy}", [block(8 * net.width, 1, (rate, rate)) for rate in rates])
        self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        if self.aux:
            self.aux_head = FCNHead(self.num_classes, self.aux_dropout, self.dtype, self.norm)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps, see its class."""
        return self.backbone.features(images, train)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Segments images of any size; arguments, result and errors are those of `DeepLabV3`."""
        maps = self.features(images, train)
        x = maps["stage4"]
        for copy in range(1, self.copies + 1):
            for block in getattr(self, f"block{4 + copy}"):
                x = block(x, train)
        logits = resize(self.classifier(x).astype(jnp.float32), pair(images.shape[1:3]))
        return with_auxiliary(self, logits, maps["stage3"], train)


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
    return Variant(info, kind, {"backbone": ResNet(0, **SHAPES[depth])})


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
