"""EfficientNet (Tan and Le, 1905.11946): inverted bottlenecks with squeeze-and-excitation, scaled as a whole.

B0 is the net that the authors' search found. B1 to B7 multiply its width and depth, and the size of its images
(`compound_scale`). EfficientNetV2 (2104.00298) fuses the first two convolutions of its early blocks into a dense one,
which is faster than a depthwise one where maps are large. The layers pad evenly, as torchvision's do, so that weights
fit. The authors' own code pads as TensorFlow's "SAME" does, see `padded_for`.
"""

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from cvjax.errors import ConfigError
from cvjax.models.blocks.mbconv import MBConv, spatial_conv
from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images, check_output_stride
from cvjax.models.info import ModelInfo, Preprocessing, Variant
from cvjax.nn import BatchNormOptions
from cvjax.ops.geometry import Pads


class Stage(NamedTuple):
    """Describes blocks of one kind; the first of them may have a stride.

    Attributes:
      expansion: Channels within a block, in multiples of its input's.
      kernel_size: Side of the spatial kernel in pixels.
      stride: Stride of the first block in pixels.
      features: Output channels.
      blocks: Number of blocks.
      fused: Whether the first two convolutions of a block are fused, see `MBConv`.
    """

    expansion: int
    kernel_size: int
    stride: int
    features: int
    blocks: int
    fused: bool = False


B0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
V2_S = (
    Stage(1, 3, 1, 24, 2, fused=True),
    Stage(4, 3, 2, 48, 4, fused=True),
    Stage(4, 3, 2, 64, 4, fused=True),
    Stage(4, 3, 2, 128, 6),
    Stage(6, 3, 1, 160, 9),
    Stage(6, 3, 2, 256, 15),
)
V2_M = (
    Stage(1, 3, 1, 24, 3, fused=True),
    Stage(4, 3, 2, 48, 5, fused=True),
    Stage(4, 3, 2, 80, 5, fused=True),
    Stage(4, 3, 2, 160, 7),
    Stage(6, 3, 1, 176, 14),
    Stage(6, 3, 2, 304, 18),
    Stage(6, 3, 1, 512, 5),
)
V2_L = (
    Stage(1, 3, 1, 32, 4, fused=True),
    Stage(4, 3, 2, 64, 7, fused=True),
    Stage(4, 3, 2, 96, 7, fused=True),
    Stage(4, 3, 2, 192, 10),
    Stage(6, 3, 1, 224, 19),
    Stage(6, 3, 2, 384, 25),
    Stage(6, 3, 1, 640, 7),
)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Says how much wider, deeper and larger than B0 a net is.

    Attributes:
      width_coefficient: Argument of `create_model`, the factor on channels.
      depth_coefficient: Argument of `create_model`, the factor on the number of blocks.
      image_size: Side of the images in pixels.
    """

    width_coefficient: float
    depth_coefficient: float
    image_size: int


def compound_scale(phi: float, *, width: bool = True, depth: bool = True, resolution: bool = True) -> Scaling:
    """Returns the scaling of the paper's equation 3: depth 1.2 ** phi, width 1.1 ** phi, resolution 1.15 ** phi.

    The cost is about 2 ** phi. B1 to B7 were rounded by hand from phi = 0.5, 1, 2, 3.5, 5, 6, 7.

    Args:
      phi: Exponent; 0 is B0.
      width, depth, resolution: Whether to scale each of them. The paper's figure 3 compares with scaling one alone.

    Returns:
      Coefficients for `create_model("efficientnet_b0", ...)`, and the side of the images in pixels.
    """
    return Scaling(
        width_coefficient=1.1**phi if width else 1.0,
        depth_coefficient=1.2**phi if depth else 1.0,
        image_size=round(224 * 1.15**phi) if resolution else 224,
    )


# Epsilon is that of the paper's code. torchvision's B0 to B4 have 1e-5.
_NORM = BatchNormOptions(momentum=0.99, epsilon=1e-3)


class EfficientNet(Classifier):
    """Classifies images by stages of inverted bottlenecks between a stem and a wide 1x1 convolution.

    Its other attributes are those of `Classifier`.

    Attributes:
      stages: Stages of the net that is scaled.
      stem_features: Channels of the first convolution, before scaling.
      top_features: Channels of the last convolution, before scaling.
      width_coefficient: Factor on channels, which are then rounded to multiples of 8.
      depth_coefficient: Factor on the number of blocks of a stage, rounded up.
      phi: Exponent of the paper's compound scaling, in place of the two coefficients. `compound_scale` also gives the
        size of the images.
      output_stride: Pixels of the input per pixel of the last stage: 32, 16 or 8. At 16 and 8, later stages dilate
        instead of striding. Parameters are the same.
      drop_connect: Rate of dropping the last block for an example; earlier blocks have it in proportion.
      padded_for: Side in pixels of the images for which convolutions are padded as TensorFlow's "SAME" does, whatever
        size they see, as in EfficientNet-PyTorch and segmentation_models_pytorch; None pads evenly.
      block_maps: Single blocks whose outputs `features` returns too, each before its stage's.
        segmentation_models_pytorch takes "stage5_0" of B0.
    """

    stages: tuple[Stage, ...] = B0
    stem_features: int = 32
    top_features: int = 1280
    width_coefficient: float = 1.0
    depth_coefficient: float = 1.0
    phi: float | None = None
    output_stride: int = 32
    dropout: float = 0.2
    drop_connect: float = 0.2
    padded_for: int | None = None
    block_maps: tuple[str, ...] = ()
    norm: BatchNormOptions = _NORM

    def setup(self) -> None:
        check_output_stride(self.output_stride)
        if self.padded_for is not None and self.padded_for < 1:
            raise ConfigError(f"padded_for is None or at least 1 pixel, not {self.padded_for}")
        scaling = self if self.phi is None else compound_scale(self.phi)
        norm = self.norm.maker(dtype=self.dtype)
        width = partial(round_channels, coefficient=scaling.width_coefficient)
        counts = [math.ceil(stage.blocks * scaling.depth_coefficient) for stage in self.stages]
        rate, before = self.drop_connect / sum(counts), 0
        reached, dilation, side = 2, 1, self.padded_for
        stem_padding, side = _same_padding(side, 3, 2)
        for number, (count, stage) in enumerate(zip(counts, self.stages), start=1):
            stride, first_dilation = stage.stride, dilation
            if reached * stride > self.output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            shape = (width(stage.features), stage.expansion, stage.kernel_size, stage.fused)
            block = partial(MBConv, *shape, norm=norm, dtype=self.dtype)
            padding, side = _same_padding(side, stage.kernel_size, stride, first_dilation)
            blocks = [block(stride, first_dilation, rate * before, padding=padding)]
            blocks += [block(1, dilation, rate * (before + i)) for i in range(1, count)]
            setattr(self, f"stage{number}", blocks)
            before += count
        known = [f"stage{n}_{i}" for n, count in enumerate(counts, start=1) for i in range(count)]
        if not set(self.block_maps) <= set(known):
            raise ConfigError(f"block_maps names blocks from {known[0]} to {known[-1]}, not {self.block_maps}")
        stem = spatial_conv(width(self.stem_features), 3, 2, dtype=self.dtype, padding=stem_padding)
        self.stem_conv, self.stem_bn = stem, norm()
        self.top_conv, self.top_bn = spatial_conv(width(self.top_features), 1, dtype=self.dtype), norm()
        # The paper's code starts the head uniform in +-1 / sqrt(classes): large first losses where classes are few.
        self._make_head()

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Whether BatchNorm uses the batch's statistics, and blocks are dropped (`dropout` stream).

        Returns:
          `stem` (stride 2), `stage1`, `stage2`, ... (2, 4, 8, 16, 16, 32, 32, none above `output_stride`), and `top`,
          the output of the last 1x1 convolution, and the `block_maps`. A side of n pixels becomes ceil(n / stride);
          with `padded_for` it may lack one where the stride does not divide n.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels)
        x = images.astype(self.dtype)
        x = nn.swish(self.stem_bn(self.stem_conv(x), use_running_average=not train))
        maps = {"stem": x}
        for stage in (f"stage{number}" for number in range(1, len(self.stages) + 1)):
            for place, block in enumerate(getattr(self, stage)):
                x = block(x, train)
                if f"{stage}_{place}" in self.block_maps:
                    maps[f"{stage}_{place}"] = x
            maps[stage] = x
        return maps | {"top": nn.swish(self.top_bn(self.top_conv(x), use_running_average=not train))}


def _same_padding(side: int | None, size: int, stride: int, dilation: int = 1) -> tuple[Pads | None, int | None]:
    """Returns the padding with which TensorFlow keeps ceil(side / stride) pixels, and their number.

    Args:
      side: Height and width of the map in pixels; None gives None for both.
      size, stride, dilation: Kernel's side, stride and distance of its taps, in pixels.
    """
    if side is None:
        return None, None
    after = math.ceil(side / stride)
    total = max(0, (after - 1) * stride + (size - 1) * dilation + 1 - side)
    along = (total // 2, total - total // 2)
    return (along, along), after


def round_channels(channels: int, coefficient: float) -> int:
    """Returns B0's channels at another width: the nearest multiple of 8, or the next if it loses more than a tenth."""
    wanted = channels * coefficient
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _variant(name: str, size: int, dropout: float, params: int, gmacs: float, **settings: Any) -> Variant:
    info = ModelInfo(
        name=f"efficientnet_{name}",
        task="classification",
        paper="2104.00298" if "stages" in settings else "1905.11946",
        year=2021 if "stages" in settings else 2019,
        image_size=size,
        params=params,
        gmacs=gmacs,
        params_classes=1000,
        preprocessing=Preprocessing(size, round(size * 8 / 7), interpolation="bicubic"),
    )
    return Variant(info, EfficientNet, {"dropout": dropout, **settings})


def _b(number: int, width: float, depth: float, *published: Any, epsilon: float = 1e-5) -> Variant:
    scaling = {
        "width_coefficient": width,
        "depth_coefficient": depth,
        "norm": dataclasses.replace(_NORM, epsilon=epsilon),
    }
    return _variant(f"b{number}", *published, **scaling)


def _v2(size: str, stages: tuple[Stage, ...], *published: Any) -> Variant:
    return _variant(f"v2_{size}", *published, stages=stages, stem_features=stages[0].features)


# Epsilons are torchvision's, so that its weights give its numbers.
VARIANTS = (
    _b(0, 1.0, 1.0, 224, 0.2, 5_288_548, 0.386),
    _b(1, 1.0, 1.1, 240, 0.2, 7_794_184, 0.687),
    _b(2, 1.1, 1.2, 260, 0.3, 9_109_994, 1.0),
    _b(3, 1.2, 1.4, 300, 0.3, 12_233_232, 1.827),
    _b(4, 1.4, 1.8, 380, 0.4, 19_341_616, 4.39),
    _b(5, 1.6, 2.2, 456, 0.4, 30_389_784, 10.27, epsilon=1e-3),
    _b(6, 1.8, 2.6, 528, 0.5, 43_040_704, 19.07, epsilon=1e-3),
    _b(7, 2.0, 3.1, 600, 0.5, 66_347_960, 37.75, epsilon=1e-3),
    _v2("s", V2_S, 384, 0.2, 21_458_488, 8.366),
    _v2("m", V2_M, 480, 0.3, 54_139_356, 24.582),
    _v2("l", V2_L, 480, 0.4, 118_515_272, 56.08),
)
