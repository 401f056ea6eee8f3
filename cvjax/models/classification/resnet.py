"""ResNet (He et al., 1512.03385), version 1.5: the stride sits in the 3x3 convolution, as in torchvision.

With `output_stride` and `multi_grid` the last stages are dilated instead of strided, which is the backbone of
DeepLab v3 (1706.05587). `deep_stem` is ResNet-C of the bag of tricks (1812.01187).

ResNeXt (Xie et al., 1611.05431) splits the 3x3 convolution of a bottleneck into groups; Wide ResNet (Zagoruyko and
Komodakis, 1605.07146), as torchvision has it, doubles that convolution's channels. Both keep a stage's output as wide.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNorm, TorchConv, gaussian, max_pool

ModuleMaker = Callable[..., nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (ResNet-18 and 34).

    Attributes:
      features: channels of the output (`expansion` is 1).
      stride: of the first convolution, in pixels.
      dilations: of the two convolutions, in pixels.
      conv, norm: makers of the layers, already told of dtype and momentum.
      zero_gamma: the last BatchNorm's scale starts at 0, so the block starts as the identity.
    """

    features: int
    stride: int
    dilations: tuple[int, int]
    conv: ModuleMaker
    norm: ModuleMaker
    zero_gamma: bool = False
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features * expansion]."""
        first, second = self.dilations
        y = self.conv(self.features, 3, self.stride, kernel_dilation=first, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, not train))
        y = self.conv(self.features, 3, kernel_dilation=second, name="conv2")(y)
        y = self.norm(name="bn2", scale_init=_last_scale(self.zero_gamma))(y, not train)
        return nn.relu(y + _shortcut(self, x, y, train))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut, four times as wide at its ends (ResNet-50 and deeper).

    The 3x3 convolution alone is dilated (by the first of `dilations`) and strided. It has `groups` groups of
    `features * width_per_group / 64` channels: with the defaults, `features` channels in one group.

    Attributes: those of `BasicBlock`, and
      groups: of the 3x3 convolution.
      width_per_group: channels of a group in a stage of 64 features.
    """

    features: int
    stride: int
    dilations: tuple[int, int]
    conv: ModuleMaker
    norm: ModuleMaker
    zero_gamma: bool = False
    groups: int = 1
    width_per_group: int = 64
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features * expansion]."""
        inner = self.features * self.width_per_group // 64 * self.groups
        grouped = partial(self.conv, kernel_dilation=self.dilations[0], feature_group_count=self.groups)
        y = self.conv(inner, 1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, not train))
        y = grouped(inner, 3, self.stride, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, not train))
        y = self.conv(self.features * self.expansion, 1, name="conv3")(y)
        y = self.norm(name="bn3", scale_init=_last_scale(self.zero_gamma))(y, not train)
        return nn.relu(y + _shortcut(self, x, y, train))


class ResNet(nn.Module):
    """A residual network of four stages.

    Attributes:
      num_classes: channels of the logits; 0 returns the pooled features [B, C].
      stage_sizes: blocks in each of the four stages.
      bottleneck: three-layer blocks instead of two-layer ones.
      width: channels of the stem and of the first stage's 3x3 convolutions; doubles at each stage.
      groups, width_per_group: of the bottlenecks' 3x3 convolutions, see `Bottleneck`.
      output_stride: pixels of the input per pixel of stage4: 32, or 16 or 8, where later stages dilate
        instead of striding. Parameters are the same at every output stride.
      multi_grid: factors on the dilation of the last stage's blocks, repeated if there are more blocks. With
        (1, 1, 1) the first block of a dilated stage keeps the dilation of the stage before, as torchvision
        does; otherwise each block has dilation stage x factor, as in the paper.
      deep_stem: three 3x3 convolutions instead of the 7x7 one.
      zero_gamma: the last BatchNorm scale of every block starts at 0 (1706.02677).
      dtype: of the computation; parameters, statistics and logits are float32.
      axis_name: the device axis under pmap, for global BatchNorm statistics.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    groups: int = 1
    width_per_group: int = 64
    output_stride: int = 32
    multi_grid: tuple[int, ...] = (1, 1, 1)
    deep_stem: bool = False
    zero_gamma: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def setup(self) -> None:
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            momentum=self.bn_momentum,
            axis_name=self.axis_name,
            frozen=self.freeze_bn,
            dtype=self.dtype,
        )
        if self.deep_stem:
            half = self.width // 2
            self.stem_conv = [conv(half, 3, 2), conv(half, 3), conv(self.width, 3)]
            self.stem_bn = [norm() for _ in range(3)]
        else:
            self.stem_conv = [conv(self.width, 7, 2)]
            self.stem_bn = [norm()]
        grouping = {"groups": self.groups, "width_per_group": self.width_per_group}
        if not self.bottleneck and grouping != {"groups": 1, "width_per_group": 64}:
            raise ConfigError("groups and width_per_group need bottlenecks; set bottleneck=True or leave them out")
        if self.width * self.width_per_group < 64:
            raise ConfigError(
                f"a width of {self.width} leaves nothing in groups of {self.width_per_group}; "
                f"width times width_per_group must be at least 64"
            )
        block = partial(Bottleneck, **grouping) if self.bottleneck else BasicBlock
        stages = [
            [
                block(self.width * 2**stage, stride, dilations, conv, norm, zero_gamma=self.zero_gamma)
                for stride, dilations in plan
            ]
            for stage, plan in enumerate(stage_plan(self.stage_sizes, self.output_stride, self.multi_grid))
        ]
        self.stage1, self.stage2, self.stage3, self.stage4 = stages
        if self.num_classes:
            self.head = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=gaussian(0.01))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps from shallow to deep.

        Args:
          images: [B, H, W, C], floating point, normalised; any size.
          train: whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` (stride 2, `width` channels, before the pooling), `stage1` (stride 4), `stage2` (8), `stage3`
          (16) and `stage4` (32), none above `output_stride`; a side of n pixels becomes ceil(n / stride).
          Stages have width x (1, 2, 4, 8) channels, times 4 with bottlenecks.

        Raises:
          ConfigError: images that are not four-dimensional floating point, or empty ones.
        """
        check_images(images)
        x = images.astype(self.dtype)
        for conv, norm in zip(self.stem_conv, self.stem_bn):
            x = nn.relu(norm(conv(x), use_running_average=not train))
        maps = {"stem": x}
        x = max_pool(x, 3, 2, padding=1)
        for name in ("stage1", "stage2", "stage3", "stage4"):
            for block in getattr(self, name):
                x = block(x, train)
            maps[name] = x
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits [B, num_classes], or with `num_classes=0` pooled features [B, C]; float32.

        Args and errors: as for `features`.
        """
        pooled = self.features(images, train)["stage4"].mean(axis=(1, 2), dtype=jnp.float32)
        if not self.num_classes:
            return pooled
        return self.head(pooled).astype(jnp.float32)


def stage_plan(
    stage_sizes: tuple[int, ...], output_stride: int, multi_grid: tuple[int, ...] = (1, 1, 1)
) -> list[list[tuple[int, tuple[int, int]]]]:
    """Stride and dilations of every block: one list a stage of (stride, (first, second dilation)).

    Raises:
      ConfigError: an output stride other than 8, 16 or 32, four stages missing, or no multi-grid factor.
    """
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride is 8, 16 or 32, not {output_stride}")
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
        rows[0] = (stride, (before, dilation))
        if stage == 3 and set(multi_grid) != {1}:
            grid = [dilation * multi_grid[i % len(multi_grid)] for i in range(blocks)]
            rows = [(stride if i == 0 else 1, (d, d)) for i, d in enumerate(grid)]
        plan.append(rows)
    return plan


def check_images(images: jax.Array) -> None:
    """Raises ConfigError unless images are a non-empty floating-point [B, H, W, C]."""
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ConfigError(
            f"models take floating-point images [B, H, W, C], got {images.dtype} {images.shape}; "
            "normalise uint8 images and add the batch axis first"
        )
    if 0 in images.shape:
        height, width = (max(1, side) for side in images.shape[1:3])
        raise ConfigError(
            f"images of shape {images.shape} are empty; the nearest usable size is {height}x{width}"
        )
    chex.assert_rank(images, 4)


def _shortcut(block: BasicBlock | Bottleneck, x: jax.Array, y: jax.Array, train: bool) -> jax.Array:
    if block.stride == 1 and x.shape == y.shape:
        return x
    x = block.conv(y.shape[-1], 1, block.stride, name="downsample_conv")(x)
    return block.norm(name="downsample_bn")(x, not train)


def _last_scale(zero: bool) -> Callable[..., jax.Array]:
    return nn.initializers.zeros if zero else nn.initializers.ones


def _variant(
    name: str,
    sizes: tuple[int, int, int, int],
    params: int,
    gmacs: float,
    paper: tuple[str, int] = ("1512.03385", 2015),
    **settings: Any,
) -> Variant:
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
    return Variant(info, ResNet, {"stage_sizes": sizes, **settings})


_RESNEXT, _WIDE = ("1611.05431", 2016), ("1605.07146", 2016)
VARIANTS = (
    _variant("resnet18", (2, 2, 2, 2), 11_689_512, 1.81, bottleneck=False),
    _variant("resnet34", (3, 4, 6, 3), 21_797_672, 3.66, bottleneck=False),
    _variant("resnet50", (3, 4, 6, 3), 25_557_032, 4.089),
    _variant("resnet101", (3, 4, 23, 3), 44_549_160, 7.80),
    _variant("resnet152", (3, 8, 36, 3), 60_192_808, 11.51),
    _variant("resnext50_32x4d", (3, 4, 6, 3), 25_028_904, 4.23, _RESNEXT, groups=32, width_per_group=4),
    _variant("resnext101_32x8d", (3, 4, 23, 3), 88_791_336, 16.41, _RESNEXT, groups=32, width_per_group=8),
    _variant("wide_resnet50_2", (3, 4, 6, 3), 68_883_240, 11.40, _WIDE, width_per_group=128),
    _variant("wide_resnet101_2", (3, 4, 23, 3), 126_886_696, 22.75, _WIDE, width_per_group=128),
)
