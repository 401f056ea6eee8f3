"""EfficientNet (Tan and Le, 1905.11946): inverted bottlenecks with squeeze-and-excitation, scaled as a whole.

B0 is the net that the authors' search found; B1 to B7 multiply its width and depth, and the size of its images. The
layers pad evenly, as torchvision's do, so that weights fit; the authors' own code pads as TensorFlow's "SAME" does.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.classification.resnet import ModuleMaker, check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNorm, Conv, Dropout, DropPath, SqueezeExcite, he_normal

# Of B0, a stage each: (expansion, kernel size, stride of the first block, channels, blocks).
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _TOP = 32, 1280


class MBConv(nn.Module):
    """Inverted bottleneck: widen by a 1x1 convolution, filter depthwise, gate, narrow by a 1x1 convolution.

    Where shapes allow, the input is added; in training whole examples are then dropped from the branch (drop-connect,
    as EfficientNet's code calls the stochastic depth of 1603.09382).

    Attributes:
      features: channels of the output.
      expansion: channels of the depthwise convolution, in multiples of the input's; 1 leaves out the widening.
      kernel_size: side of the depthwise kernel, in pixels.
      stride: of the depthwise convolution, in pixels.
      drop_rate: probability of dropping an example from the branch.
      norm: maker of the BatchNorms, already told of dtype and momentum.
      dtype: of the computation.
      axis_name: the device axis under pmap, so that all devices drop as one would.
    """

    features: int
    expansion: int
    kernel_size: int
    stride: int
    drop_rate: float
    norm: ModuleMaker
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""
        channels = x.shape[-1]
        inner = channels * self.expansion
        pointwise = partial(_conv, size=1, dtype=self.dtype)
        y = x
        if self.expansion > 1:
            y = pointwise(inner, name="expand_conv")(y)
            y = nn.swish(self.norm(name="expand_bn")(y, not train))
        depthwise = _conv(inner, self.kernel_size, self.stride, inner, self.dtype, name="depthwise_conv")
        y = nn.swish(self.norm(name="depthwise_bn")(depthwise(y), not train))
        hidden = max(1, channels // 4)  # of the input, not of the widened map
        y = SqueezeExcite(hidden=hidden, activation=nn.swish, dtype=self.dtype, name="squeeze_excite")(y)
        y = self.norm(name="project_bn")(pointwise(self.features, name="project_conv")(y), not train)
        if y.shape != x.shape:
            return y
        return x + DropPath(self.drop_rate, self.axis_name)(y, train)


class EfficientNet(nn.Module):
    """Seven stages of inverted bottlenecks between a stem and a wide 1x1 convolution.

    Attributes:
      num_classes: channels of the logits; 0 returns the pooled features [B, C].
      width_coefficient: multiplies B0's channels, which are then rounded to multiples of 8.
      depth_coefficient: multiplies B0's blocks a stage, rounded up.
      dropout: on the pooled features, in training.
      drop_connect: drop rate of a block after the last; it grows from 0 at the first in equal steps.
      dtype: of the computation; parameters, statistics and logits are float32.
      axis_name: the device axis under pmap, for global BatchNorm statistics and drop masks.
      bn_momentum: decay of BatchNorm's running averages.
      bn_epsilon: added to BatchNorm's variances: 1e-3 in the paper's code; torchvision's B0 to B4 have 1e-5.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    width_coefficient: float = 1.0
    depth_coefficient: float = 1.0
    dropout: float = 0.2
    drop_connect: float = 0.2
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    freeze_bn: bool = False

    def setup(self) -> None:
        norm = partial(
            BatchNorm,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            axis_name=self.axis_name,
            frozen=self.freeze_bn,
            dtype=self.dtype,
        )
        width = partial(round_channels, coefficient=self.width_coefficient)
        counts = [math.ceil(blocks * self.depth_coefficient) for *_, blocks in _STAGES]
        rate, before = self.drop_connect / sum(counts), 0
        stages = []
        for count, (expansion, size, stride, channels, _) in zip(counts, _STAGES):
            block = partial(
                MBConv, width(channels), expansion, size, norm=norm, dtype=self.dtype, axis_name=self.axis_name
            )
            stages.append([block(stride if i == 0 else 1, drop_rate=rate * (before + i)) for i in range(count)])
            before += count
        self.stem_conv, self.stem_bn = _conv(width(_STEM), 3, 2, dtype=self.dtype), norm()
        self.stage1, self.stage2, self.stage3, self.stage4, self.stage5, self.stage6, self.stage7 = stages
        self.top_conv, self.top_bn = _conv(width(_TOP), 1, dtype=self.dtype), norm()
        if self.num_classes:
            self.drop = Dropout(self.dropout, self.axis_name)
            # Uniform in +-1 / sqrt(classes), as in the paper's code.
            init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
            self.head = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps from shallow to deep.

        Args:
          images: [B, H, W, C], floating point, normalised; any size.
          train: whether BatchNorm uses the batch's statistics, and blocks are dropped (`dropout` stream).

        Returns:
          `stem` (stride 2), `stage1` (2), `stage2` (4), `stage3` (8), `stage4` and `stage5` (16), `stage6` and
          `stage7` (32), and `top`, the last 1x1 convolution's; a side of n pixels becomes ceil(n / stride).

        Raises:
          ConfigError: images that are not four-dimensional floating point, or empty ones.
        """
        check_images(images)
        x = images.astype(self.dtype)
        x = nn.swish(self.stem_bn(self.stem_conv(x), use_running_average=not train))
        maps = {"stem": x}
        for name in ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7"):
            for block in getattr(self, name):
                x = block(x, train)
            maps[name] = x
        maps["top"] = nn.swish(self.top_bn(self.top_conv(x), use_running_average=not train))
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits [B, num_classes], or with `num_classes=0` pooled features [B, C]; float32.

        Args and errors: as for `features`.
        """
        pooled = self.features(images, train)["top"].mean(axis=(1, 2), dtype=jnp.float32)
        if not self.num_classes:
            return pooled
        return self.head(self.drop(pooled, train)).astype(jnp.float32)


def round_channels(channels: int, coefficient: float) -> int:
    """B0's channels at another width: the nearest multiple of 8, or the next if that loses more than a tenth."""
    wanted = channels * coefficient
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _conv(
    features: int, size: int, stride: int = 1, groups: int = 1, dtype: Any = jnp.float32, name: str | None = None
) -> Conv:
    """Padded evenly, without bias. A depthwise kernel's fan is that of one channel."""
    pad = size // 2
    return Conv(
        features,
        (size, size),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal("fan_in" if groups > 1 else "fan_out"),
        name=name,
    )


def _variant(
    number: int, width: float, depth: float, size: int, dropout: float, params: int, gmacs: float, epsilon: float
) -> Variant:
    info = ModelInfo(
        name=f"efficientnet_b{number}",
        task="classification",
        paper="1905.11946",
        year=2019,
        image_size=size,
        params=params,
        gmacs=gmacs,
        params_classes=1000,
    )
    settings = {"width_coefficient": width, "depth_coefficient": depth, "dropout": dropout, "bn_epsilon": epsilon}
    return Variant(info, EfficientNet, settings)


# Epsilons are torchvision's, so that its weights give its numbers.
VARIANTS = (
    _variant(0, 1.0, 1.0, 224, 0.2, 5_288_548, 0.386, 1e-5),
    _variant(1, 1.0, 1.1, 240, 0.2, 7_794_184, 0.687, 1e-5),
    _variant(2, 1.1, 1.2, 260, 0.3, 9_109_994, 1.0, 1e-5),
    _variant(3, 1.2, 1.4, 300, 0.3, 12_233_232, 1.827, 1e-5),
    _variant(4, 1.4, 1.8, 380, 0.4, 19_341_616, 4.39, 1e-5),
    _variant(5, 1.6, 2.2, 456, 0.4, 30_389_784, 10.27, 1e-3),
    _variant(6, 1.8, 2.6, 528, 0.5, 43_040_704, 19.07, 1e-3),
    _variant(7, 2.0, 3.1, 600, 0.5, 66_347_960, 37.75, 1e-3),
)
