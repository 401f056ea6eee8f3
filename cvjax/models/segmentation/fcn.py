"""FCN-32s, FCN-16s and FCN-8s on VGG-16 (Shelhamer, Long and Darrell, 1411.4038; journal version 1605.06211).

VGG-16 slides over the image, a 1x1 convolution scores each position, and the scores are upsampled to pixels. The finer
nets score the maps after the fourth and the third pooling, too, and add those scores on the way up. Score layers start
at zero and upsampling starts as interpolation. So a finer net starts with about the results of the coarser one. Train
32s, start 16s from it and 8s from that (`cvjax.weights.warm_start`, or `--init` with the run's folder), or train all at
once.
"""

from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.backbones import adopt
from cvjax.models.classification.vgg import VGG
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.schema import default_module
from cvjax.nn import BatchNormOptions, TorchConv, Upsample, Upsampling

Alignment = Literal["paper", "same"]
_POOL5_STRIDE = 32
_WINDOW = 7  # of fc6, in pixels of pool5


class FCN(nn.Module):
    """Segments images by a convolutional VGG, and by the sum of scores at one or several depths.

    The net tracks where each map lies on the image. The edge of a map is the first pixel of the image in the area of
    the map's first pixel. The crops follow from the edges. With the alignment `paper` they are 19 pixels for FCN-32s, 5
    and 27 for FCN-16s, and 5, 9 and 31 for FCN-8s, as in the authors' nets.

    Attributes:
      num_classes: Channels of the logits.
      backbone: VGG, whose dense layers slide over its last map.
      in_channels: Channels of the images.
      skips: Poolings whose maps are scored too, from deep to shallow. 32s has (), 16s has ("pool4",), and 8s has
        ("pool4", "pool3").
      alignment: Way in which maps are aligned with the image. `paper` surrounds the image with 100 pixels of zeros (99,
        and one of the first convolution), and fc6 slides without padding. The added border makes it slow on small
        images. `same` adds no border; each layer pads by half its window, so that maps cover the image.
      upsampling: Upsampling of all steps. `transposed` is a transposed convolution that starts as bilinear and is
        learned. `transposed_fixed` stays bilinear. `nearest` and `bilinear` enlarge, and a convolution follows.
      last_upsampling: Upsampling of the last step, to the image; None takes `upsampling`. The paper fixes the last step
        and learns the others.
      skip_scales: Factors on the maps of `skips`, which take the place of training in stages. The authors' net that
        learns all at once has (0.01, 0.0001).
      dropout: Rate of dropout behind the two hidden dense layers.
      dtype: Type of the backbone's and the score layers' computation; parameters, upsampling and logits are float32.
      norm: Options of the BatchNorms, where the backbone has some.
    """

    num_classes: int
    backbone: VGG = default_module(VGG(0, ceil_mode=True, fully_convolutional=True))
    in_channels: int = 3
    skips: tuple[str, ...] = ("pool4", "pool3")
    alignment: Alignment = "paper"
    upsampling: Upsampling = "transposed"
    last_upsampling: Upsampling | None = None
    skip_scales: tuple[float, ...] = (1.0, 1.0)
    dropout: float = 0.5
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def __post_init__(self) -> None:
        adopt(self, in_channels=self.in_channels, dropout=self.dropout, dtype=self.dtype, norm=self.norm)
        super().__post_init__()

    def setup(self) -> None:
        if self.alignment not in get_args(Alignment):
            raise ConfigError(f"alignment is {' or '.join(get_args(Alignment))}, not {self.alignment!r}")
        if self.skips not in ((), ("pool4",), ("pool4", "pool3")):
            raise ConfigError(f"skips are (), ('pool4',) or ('pool4', 'pool3'), not {self.skips}")
        if len(self.skip_scales) < len(self.skips):
            raise ConfigError(f"skip_scales has a factor for each of {self.skips}, not only {self.skip_scales}")
        layers: dict[str, nn.Module] = {"score": self._score()}
        for skip in self.skips:
            layers |= {f"score_{skip}": self._score(), f"up_{skip}": Upsample(self.num_classes, 2, self.upsampling)}
        # The stride is in the name, because a finer net cannot start its last step from a coarser net's.
        last = self.last_upsampling or self.upsampling
        layers[f"up_image{self._stride}"] = Upsample(self.num_classes, self._stride, last)
        for name, layer in layers.items():
            setattr(self, name, layer)

    @property
    def _stride(self) -> int:
        """Returns the pixels of the image per pixel of the finest scores."""
        return _POOL5_STRIDE >> len(self.skips)

    @property
    def _margin(self) -> int:
        """Returns the width of the zeros around the image, without those of the first convolution."""
        return 99 if self.alignment == "paper" else 0

    def _score(self) -> TorchConv:
        return TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=nn.initializers.zeros)

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns the backbone's maps of the padded images, see `VGG.features`, and `fc7`.

        The map `fc7` is the output of the second dense layer.

        Raises:
          ConfigError: Images of another rank, type or number of channels, or without pixels.
        """
        check_images(images, self.in_channels)
        maps = self.backbone.features(_pad(images, self._margin), train)
        around = 0 if self.alignment == "paper" else _WINDOW // 2
        return maps | {"fc7": self.backbone.head(_pad(maps["pool5"], around), train)}

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Segments images of any size.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized.
          train: Use dropout (stream `dropout`), and the batch's statistics where there is BatchNorm.

        Returns:
          Logits [B, H, W, num_classes], float32.

        Raises:
          ConfigError: Images that it cannot take, see `features`.
        """
        maps = self.features(images, train)
        paper = self.alignment == "paper"
        scores = self.score(maps["fc7"]).astype(jnp.float32)
        # Without padding, fc6's first window starts where pool5 does, and its score belongs to the window's middle.
        edge = -self._margin + (_WINDOW // 2 * _POOL5_STRIDE if paper else 0)
        stride = _POOL5_STRIDE
        for skip, scale in zip(self.skips, self.skip_scales):
            stride //= 2
            fine = maps[skip]
            # The paper keeps the pixel by which a transposed convolution's result is larger on either side.
            size = tuple(2 * side + 2 for side in scores.shape[1:3]) if paper else fine.shape[1:3]
            scores = getattr(self, f"up_{skip}")(scores, size, (-1, -1) if paper else (0, 0))
            edge -= stride if paper else 0
            first = (edge + self._margin) // stride
            fine = fine[:, first : first + size[0], first : first + size[1]]
            scores += getattr(self, f"score_{skip}")(scale * fine).astype(jnp.float32)
        return getattr(self, f"up_image{stride}")(scores, images.shape[1:3], (-edge, -edge))


def _pad(maps: jax.Array, margin: int) -> jax.Array:
    return jnp.pad(maps, ((0, 0), (margin, margin), (margin, margin), (0, 0)))


def _variant(stride: int, skips: tuple[str, ...], params: int) -> Variant:
    info = ModelInfo(
        name=f"fcn{stride}s_vgg16",
        task="segmentation",
        paper="1411.4038",
        year=2014,
        image_size=500,
        params=params,
        gmacs=None,
        params_classes=21,
    )
    return Variant(info, FCN, {"skips": skips})


VARIANTS = (
    _variant(32, (), 136_152_917),
    _variant(16, ("pool4",), 134_815_994),
    _variant(8, ("pool4", "pool3"), 134_489_759),
)
