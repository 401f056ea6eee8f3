"""ResNets for images of 32x32 pixels (He et al., 1512.03385, section 4.2): three stages of 16, 32 and 64 channels.

Depth 6n + 2 has n blocks of two 3x3 convolutions in each stage. Shortcuts are the paper's option A, which has no
parameters, so that a net and its plain twin have the same.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.classification.residual import SHORTCUTS, BasicBlock
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import BatchNorm, Dropout, TorchConv, gaussian


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of basic blocks, global average pooling.

    Attributes:
      num_classes: channels of the logits; 0 returns the pooled features [B, 4 * width].
      in_channels: of the images.
      blocks: in each stage.
      width: channels of the first stage; doubles at each.
      shortcut, norm_after, zero_gamma: of the blocks, see `ResidualBlock`.
      dropout: on the pooled features, in training.
      dtype: of the computation; parameters, statistics and logits are float32.
      axis_name: the device axis under pmap, for BatchNorm and dropout.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    in_channels: int = 3
    blocks: int = 3
    width: int = 16
    shortcut: str = "A"
    norm_after: bool = False
    zero_gamma: bool = False
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def setup(self) -> None:
        if self.shortcut not in SHORTCUTS:
            raise ConfigError(f"shortcut is one of {', '.join(SHORTCUTS)}, not {self.shortcut!r}")
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype)
        norm = partial(
            BatchNorm, momentum=self.bn_momentum, axis_name=self.axis_name, frozen=self.freeze_bn, dtype=self.dtype
        )
        block = partial(
            BasicBlock,
            dilations=(1, 1),
            conv=conv,
            norm=norm,
            shortcut=self.shortcut,
            norm_after=self.norm_after,
            zero_gamma=self.zero_gamma,
        )
        self.stem_conv, self.stem_bn = conv(self.width, 3), norm()
        self.stage1, self.stage2, self.stage3 = (
            [block(self.width * 2**stage, stride if i == 0 else 1) for i in range(self.blocks)]
            for stage, stride in enumerate((1, 2, 2))
        )
        if self.num_classes:
            self.drop = Dropout(self.dropout, self.axis_name)
            self.head = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=gaussian(0.01))

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps from shallow to deep.

        Args:
          images: [B, H, W, in_channels], floating point, normalised; any size.
          train: whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` and `stage1` (stride 1), `stage2` (2) and `stage3` (4); a side of n pixels becomes ceil(n / stride).

        Raises:
          ConfigError: images that it cannot take.
        """
        check_images(images, self.in_channels)
        x = nn.relu(self.stem_bn(self.stem_conv(images.astype(self.dtype)), use_running_average=not train))
        maps = {"stem": x}
        for name in ("stage1", "stage2", "stage3"):
            for block in getattr(self, name):
                x = block(x, train)
            maps[name] = x
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits [B, num_classes], or with `num_classes=0` pooled features [B, 4 * width]; float32.

        Args and errors: as for `features`.
        """
        pooled = self.features(images, train)["stage3"].mean(axis=(1, 2), dtype=jnp.float32)
        if not self.num_classes:
            return pooled
        return self.head(self.drop(pooled, train)).astype(jnp.float32)


def _variants(depth: int, params: int) -> list[Variant]:
    """The net and its plain twin."""
    return [
        Variant(
            ModelInfo(
                name=f"{kind}{depth}_cifar",
                task="classification",
                paper="1512.03385",
                year=2015,
                image_size=32,
                params=params,
                gmacs=None,
                params_classes=10,
            ),
            CifarResNet,
            {"blocks": (depth - 2) // 6, "shortcut": shortcut},
        )
        for kind, shortcut in (("resnet", "A"), ("plain", "none"))
    ]


VARIANTS = (
    *_variants(20, 269_722),
    *_variants(32, 464_154),
    *_variants(44, 658_586),
    *_variants(56, 853_018),
    *_variants(110, 1_727_962),
)
