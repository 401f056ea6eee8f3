"""ResNets for images of 32x32 pixels (He et al., 1512.03385, section 4.2): three stages of 16, 32 and 64 channels.

Depth 6n + 2 has n blocks of two 3x3 convolutions in each stage. Shortcuts are the paper's option A, which has no
parameters. So a net and its plain counterpart have the same number of parameters.
"""

from functools import partial

import flax.linen as nn
import jax

from cvjax.errors import ConfigError
from cvjax.models.blocks.residual import SHORTCUTS, BasicBlock
from cvjax.models.classification.classifier import Classifier
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import SqueezeExcite, TorchConv


class CifarResNet(Classifier):
    """Classifies images by a 3x3 convolution, three stages of basic blocks and global average pooling.

    Its other attributes are those of `Classifier`.

    Attributes:
      blocks: Number of blocks in each stage.
      width: Channels of the first stage; doubles at each stage.
      shortcut, norm_after, zero_gamma: Fields of the blocks, see `ResidualBlock`.
      squeeze_excite: Reduction of channels in a gate on every block (1709.01507); 0 has no gates.
    """

    blocks: int = 3
    width: int = 16
    shortcut: str = "A"
    norm_after: bool = False
    zero_gamma: bool = False
    squeeze_excite: int = 0

    def setup(self) -> None:
        if self.shortcut not in SHORTCUTS:
            raise ConfigError(f"shortcut is one of {', '.join(SHORTCUTS)}, not {self.shortcut!r}")
        conv = partial(TorchConv, use_bias=False, dtype=self.dtype)
        norm = self.norm.maker(dtype=self.dtype)
        block = partial(
            BasicBlock,
            dilations=(1, 1),
            conv=conv,
            norm=norm,
            gate=partial(SqueezeExcite, self.squeeze_excite, dtype=self.dtype) if self.squeeze_excite else None,
            shortcut=self.shortcut,
            norm_after=self.norm_after,
            zero_gamma=self.zero_gamma,
        )
        self.stem_conv, self.stem_bn = conv(self.width, 3), norm()
        self.stage1, self.stage2, self.stage3 = (
            [block(self.width * 2**stage, stride if i == 0 else 1) for i in range(self.blocks)]
            for stage, stride in enumerate((1, 2, 2))
        )
        self._make_head()

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Whether BatchNorm uses the batch's statistics.

        Returns:
          `stem` and `stage1` (stride 1), `stage2` (2) and `stage3` (4). A side of n pixels becomes ceil(n / stride).

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels)
        x = nn.relu(self.stem_bn(self.stem_conv(images.astype(self.dtype)), use_running_average=not train))
        maps = {"stem": x}
        return maps | self._through(("stage1", "stage2", "stage3"), x, train)


def _variants(depth: int, params: int, gmacs: float | None = None) -> list[Variant]:
    """Makes the lines of a net and of its plain counterpart, which has the same number of parameters."""
    return [
        Variant(
            ModelInfo(
                name=f"{kind}{depth}_cifar",
                task="classification",
                paper="1512.03385",
                year=2015,
                image_size=32,
                params=params,
                gmacs=gmacs,
                params_classes=10,
            ),
            CifarResNet,
            {"blocks": (depth - 2) // 6, "shortcut": shortcut},
        )
        for kind, shortcut in (("resnet", "A"), ("plain", "none"))
    ]


# GMACs are those that pruning papers start from, such as HRank (2002.10179).
VARIANTS = (
    *_variants(20, 269_722),
    *_variants(32, 464_154),
    *_variants(44, 658_586),
    *_variants(56, 853_018, 0.12549),
    *_variants(110, 1_727_962, 0.25289),
)
