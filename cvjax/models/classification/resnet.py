"""ResNet (He et al., 1512.03385), version 1.5: the stride sits in the 3x3 convolution, as in torchvision.

With `output_stride` and `multi_grid` the last stages are dilated instead of strided. This is the backbone of DeepLab v3
(1706.05587). `deep_stem` is ResNet-C of the bag of tricks (1812.01187). `plain*` are the nets without shortcuts that
the paper compares with. `deformable` stages are those of 1703.06211 and 1811.11168.

ResNeXt (Xie et al., 1611.05431) splits the 3x3 convolution of a bottleneck into groups. Wide ResNet (Zagoruyko and
Komodakis, 1605.07146), as torchvision has it, doubles that convolution's channels. In both, the outputs of stages have
the channels of a ResNet.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from cvjax.errors import ConfigError
from cvjax.models.blocks.residual import SHORTCUTS, BasicBlock, Bottleneck
from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images, check_output_stride
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.maker import ModuleMaker
from cvjax.nn import DeformConv, SqueezeExcite, TorchConv, max_pool, norm_and_pool

STAGES = ("stage1", "stage2", "stage3", "stage4")
_STEM_POOLS: dict[str, dict[str, Any]] = {
    "padded": {"padding": 1},
    "ceil": {"padding": 0, "ceil_mode": True},
    "ceil_padded": {"padding": 1, "ceil_mode": True},
}


class ResNet(Classifier):
    """Classifies images by four stages of residual blocks.

    Its other attributes are those of `Classifier`.

    Attributes:
      stage_sizes: Number of blocks in each of the four stages.
      bottleneck: Use three-layer blocks instead of two-layer ones.
      width: Channels of the stem and of the first stage's 3x3 convolutions; doubles at each stage.
      groups, width_per_group: Groups of the bottlenecks' 3x3 convolutions, and their width, see `Bottleneck`.
      output_stride: Pixels of the input per pixel of stage4: 32, 16 or 8. At 16 and 8, later stages dilate instead of
        striding. Parameters are the same at every output stride.
      multi_grid: Factors on the dilation of the last stage's blocks, repeated if there are more blocks. With (1, 1, 1)
        the first block of a dilated stage keeps the dilation of the stage before, as torchvision does. Otherwise each
        block has dilation stage x factor, as in the paper.
      dilate_first: Whether the first block of a dilated stage has the stage's full dilation, as in DeepLab v2's release
        and segmentation_models_pytorch, instead of the dilation of the stage before.
      deep_stem: Use three 3x3 convolutions instead of the 7x7 one.
      stem_pool: Borders of the stem's pooling: "padded" by one pixel on each side, as in torchvision; "ceil" without
        padding, where the last window may reach beyond the map, as in the authors' release, in SENet's and in timm's
        legacy_* nets; "ceil_padded" with both, as in DeepLab v2's release.
      stride_in_1x1: Whether a bottleneck strides in its first 1x1 convolution, as in the authors' release, in SENet's
        and in DeepLab v2's, instead of in the 3x3 one.
      zero_gamma, shortcut, norm_after: Fields of the blocks, see `ResidualBlock`.
      fold_norms: Whether in training BatchNorms are folded into 1x1 convolutions that add channels, see
        `cvjax.nn.folded_conv_norm`, and the stem is pooled before it is normalized, see `cvjax.nn.norm_and_pool`. The
        net, its parameters and statistics are the same; training needs less memory, and less of its bandwidth.
      squeeze_excite: Reduction of channels in a gate on every block (1709.01507); 0 has no gates.
      deformable: Stages, from 1 to 4, whose blocks have a deformable 3x3 convolution. Its offsets start at zero, so the
        net starts as the plain one.
      modulated: Whether deformable convolutions are of version 2, which also weighs the values that it reads.
    """

    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    groups: int = 1
    width_per_group: int = 64
    output_stride: int = 32
    multi_grid: tuple[int, ...] = (1, 1, 1)
    dilate_first: bool = False
    deep_stem: bool = False
    stem_pool: str = "padded"
    stride_in_1x1: bool = False
    zero_gamma: bool = False
    shortcut: str = "B"
    norm_after: bool = False
    fold_norms: bool = False
    squeeze_excite: int = 0
    deformable: tuple[int, ...] = ()
    modulated: bool = False

    def setup(self) -> None:
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype)
        norm = self.norm.maker(dtype=self.dtype)
        if self.deep_stem:
            half = self.width // 2
            self.stem_conv = [conv(half, 3, 2), conv(half, 3), conv(self.width, 3)]
            self.stem_bn = [norm() for _ in range(3)]
        else:
            self.stem_conv = [conv(self.width, 7, 2)]
            self.stem_bn = [norm()]
        self.stage1, self.stage2, self.stage3, self.stage4 = self._stages(conv, norm)
        self._make_head()

    def _stages(self, conv: ModuleMaker, norm: ModuleMaker) -> list[list[nn.Module]]:
        self._check_fields()
        gate = partial(SqueezeExcite, self.squeeze_excite, least=8, dtype=self.dtype)  # 8 as in timm
        block = partial(
            Bottleneck,
            groups=self.groups,
            width_per_group=self.width_per_group,
            stride_in_1x1=self.stride_in_1x1,
        )
        block = partial(
            block if self.bottleneck else BasicBlock,
            conv=conv,
            norm=norm,
            gate=gate if self.squeeze_excite else None,
            shortcut=self.shortcut,
            norm_after=self.norm_after,
            fold_norms=self.fold_norms,
            zero_gamma=self.zero_gamma,
        )
        deformed = partial(DeformConv, modulated=self.modulated, use_bias=False, dtype=self.dtype)
        plans = stage_plan(self.stage_sizes, self.output_stride, self.multi_grid, self.dilate_first)
        return [
            [
                block(self.width * 2**stage, *row, spatial=deformed if stage + 1 in self.deformable else None)
                for row in plan
            ]
            for stage, plan in enumerate(plans)
        ]

    def _check_fields(self) -> None:
        if not self.bottleneck and (self.groups, self.width_per_group) != (1, 64):
            raise ConfigError("groups and width_per_group need bottlenecks; set bottleneck=True or leave them out")
        if self.width * self.width_per_group < 64:
            raise ConfigError(
                f"a width of {self.width} leaves nothing in groups of {self.width_per_group}; "
                f"width times width_per_group must be at least 64"
            )
        if self.stem_pool not in _STEM_POOLS:
            raise ConfigError(f"stem_pool is one of {', '.join(_STEM_POOLS)}, not {self.stem_pool!r}")
        if self.stride_in_1x1 and not self.bottleneck:
            raise ConfigError("stride_in_1x1 needs bottlenecks; set bottleneck=True or leave it out")
        if self.fold_norms and (self.norm_after or not self.bottleneck):
            raise ConfigError("fold_norms needs bottlenecks that end in a BatchNorm; leave it out")
        if self.shortcut not in SHORTCUTS:
            raise ConfigError(f"shortcut is one of {', '.join(SHORTCUTS)}, not {self.shortcut!r}")
        if self.zero_gamma and (self.norm_after or self.shortcut == "none"):
            raise ConfigError("zero_gamma needs a shortcut past the last BatchNorm, else nothing passes; leave it out")
        if not set(self.deformable) <= {1, 2, 3, 4}:
            raise ConfigError(f"deformable holds stages of 1 to 4, not {self.deformable}")

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` (stride 2, `width` channels, before the pooling), `stage1` (stride 4), `stage2` (8), `stage3` (16) and
          `stage4` (32). No stride exceeds `output_stride`, and a side of n pixels becomes ceil(n / stride). Stages have
          width x (1, 2, 4, 8) channels, times 4 with bottlenecks.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels)
        x = images.astype(self.dtype)
        for conv, norm in zip(self.stem_conv[:-1], self.stem_bn):
            x = nn.relu(norm(conv(x), use_running_average=not train))
        x, norm = self.stem_conv[-1](x), self.stem_bn[-1]
        pool = partial(max_pool, window_shape=3, strides=2, **_STEM_POOLS[self.stem_pool])
        if self.fold_norms and train and not norm.frozen:
            stem, x = map(nn.relu, norm_and_pool(norm, x, pool))
        else:
            stem = nn.relu(norm(x, use_running_average=not train))
            x = pool(stem)
        return {"stem": stem} | self._through(STAGES, x, train)


def stage_plan(
    stage_sizes: tuple[int, ...],
    output_stride: int,
    multi_grid: tuple[int, ...] = (1, 1, 1),
    dilate_first: bool = False,
) -> list[list[tuple[int, tuple[int, int]]]]:
    """Returns stride and dilations of every block: one list a stage of (stride, (first, second dilation)).

    Args:
      stage_sizes: Number of blocks in each of the four stages.
      output_stride: Pixels of the input per pixel of the last stage: 8, 16 or 32.
      multi_grid: Factors on the dilation of the last stage's blocks, see `ResNet`.
      dilate_first: Whether the first block of a stage has the stage's dilation, see `ResNet`.

    Raises:
      ConfigError: An output stride other than 8, 16 or 32, a number of stages other than four, or no multi-grid factor.
    """
    check_output_stride(output_stride)
    if len(stage_sizes) != 4 or min(stage_sizes) < 1:
        raise ConfigError(f"stage_sizes are four numbers of blocks, each at least 1, not {stage_sizes}")
    if not multi_grid or min(multi_grid) < 1:
        raise ConfigError(f"multi_grid holds factors of at least 1, not {multi_grid}")
    plan = []
    reached, dilation = 4, 1  # after the stem and its pooling
    for stage, blocks in enumerate(stage_sizes):
        stride, before = 1, dilation
        if stage > 0 and reached < output_stride:
            stride, reached = 2, reached * 2
        elif stage > 0:
            dilation *= 2
        rows = [(1, (dilation, dilation))] * blocks
        rows[0] = (stride, (dilation if dilate_first else before, dilation))  # as in torchvision, see `multi_grid`
        if stage == 3 and set(multi_grid) != {1}:
            grid = [dilation * multi_grid[i % len(multi_grid)] for i in range(blocks)]
            rows = [(stride if i == 0 else 1, (d, d)) for i, d in enumerate(grid)]
        plan.append(rows)
    return plan


def imagenet_variant(
    name: str, params: int, gmacs: float | None, paper: tuple[str, int] = ("1512.03385", 2015), **settings: Any
) -> Variant:
    """Makes a line of a table of ResNets for ImageNet."""
    info = ModelInfo(
        name=name,
        task="classification",
        paper=paper[0],
        year=paper[1],
        image_size=224,
        params=params,
        gmacs=gmacs,
        params_classes=1000,
    )
    return Variant(info, ResNet, settings)


SHAPES: dict[int, dict[str, Any]] = {
    18: {"stage_sizes": (2, 2, 2, 2), "bottleneck": False},
    34: {"stage_sizes": (3, 4, 6, 3), "bottleneck": False},
    50: {"stage_sizes": (3, 4, 6, 3)},
    101: {"stage_sizes": (3, 4, 23, 3)},
    152: {"stage_sizes": (3, 8, 36, 3)},
}
"""Fields of the nets by depth."""
_RESNEXT, _WIDE = ("1611.05431", 2016), ("1605.07146", 2016)
_PLAIN: dict[str, Any] = {"shortcut": "none"}
VARIANTS = (
    imagenet_variant("resnet18", 11_689_512, 1.81, **SHAPES[18]),
    imagenet_variant("resnet34", 21_797_672, 3.66, **SHAPES[34]),
    imagenet_variant("resnet50", 25_557_032, 4.089, **SHAPES[50]),
    imagenet_variant("resnet101", 44_549_160, 7.80, **SHAPES[101]),
    imagenet_variant("resnet152", 60_192_808, 11.51, **SHAPES[152]),
    imagenet_variant("plain18", 11_515_688, None, **SHAPES[18], **_PLAIN),
    imagenet_variant("plain34", 21_623_848, None, **SHAPES[34], **_PLAIN),
    imagenet_variant("plain50", 22_780_456, None, **SHAPES[50], **_PLAIN),
    imagenet_variant("plain101", 41_772_584, None, **SHAPES[101], **_PLAIN),
    imagenet_variant("plain152", 57_416_232, None, **SHAPES[152], **_PLAIN),
    imagenet_variant("resnext50_32x4d", 25_028_904, 4.23, _RESNEXT, **SHAPES[50], groups=32, width_per_group=4),
    imagenet_variant("resnext101_32x8d", 88_791_336, 16.41, _RESNEXT, **SHAPES[101], groups=32, width_per_group=8),
    imagenet_variant("resnext101_64x4d", 83_455_272, 15.46, _RESNEXT, **SHAPES[101], groups=64, width_per_group=4),
    imagenet_variant("wide_resnet50_2", 68_883_240, 11.40, _WIDE, **SHAPES[50], width_per_group=128),
    imagenet_variant("wide_resnet101_2", 126_886_696, 22.75, _WIDE, **SHAPES[101], width_per_group=128),
)
