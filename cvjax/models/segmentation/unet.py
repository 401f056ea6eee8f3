"""U-Net (1505.04597) as it is mostly used: padded convolutions, BatchNorm, logits of the image's size.

Images may have any size. They are continued by mirroring, at the bottom and on the right, until every level halves
evenly, and the logits are cropped. So no map is ever odd, and skips need no cropping. Other implementations differ in
borders, widths, upsampling and heads; options have theirs.
"""

from functools import partial
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.models.segmentation.doubling import Doubling, any_doubling, doubled
from cvjax.models.segmentation.heads import FCNHead, with_auxiliary
from cvjax.nn import BatchNormOptions, ConvBNReLU, Dropout, TorchConv, gaussian, max_pool, mirror_pad
from cvjax.ops.geometry import pair

OddSides = Literal["mirror", "zeros", "crop"]


class UNet(nn.Module):
    """Segments images by levels of two 3x3 convolutions, down to a bottom and up again.

    On the way up, each level joins the map of the same scale.

    Attributes:
      num_classes: Channels of the logits.
      in_channels: Channels of the images.
      width: Channels of the first level; doubled from level to level.
      depth: Number of times that maps are halved.
      upsampling: Way in which the decoder doubles its maps, see `cvjax.models.segmentation.doubling.Doubling`.
      narrow: Whether the bottom, and the second convolution of each level on the way up, have the channels of the level
        above, as in milesial's bilinear U-Net, whose upsampling keeps the number of channels.
      odd_sides: What happens where a side does not halve evenly. "mirror" continues the image; "zeros" drops the last
        row or column on the way down and has zeros in its place on the way up, as in milesial's U-Nets; "crop" drops it
        on both ways, and the last logits continue to the image's border.
      dropout: Rate of dropout at the bottom.
      head_width: Channels of a 3x3 convolution with BatchNorm and ReLU before the classifier; None has none.
        mmsegmentation's FCN-UNet has 64.
      head_dropout: Rate of dropout behind that convolution, and in the auxiliary head.
      aux: Have a second head on the decoder's map of stride 2, whose logits come with `train=True`, as in
        mmsegmentation's FCN-UNet. Its convolution has `head_width` channels, or a quarter of its input's.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms.
    """

    num_classes: int
    in_channels: int = 3
    width: int = 64
    depth: int = 4
    upsampling: Doubling = "transposed"
    narrow: bool = False
    odd_sides: OddSides = "mirror"
    dropout: float = 0.0
    head_width: int | None = None
    head_dropout: float = 0.1
    aux: bool = False
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def setup(self) -> None:
        if self.depth < 1 or self.width < 1:
            raise ConfigError(f"a U-Net has a depth and a width of at least 1, not {self.depth} and {self.width}")
        if self.odd_sides not in get_args(OddSides):
            raise ConfigError(f"odd_sides is {', '.join(get_args(OddSides))}, not {self.odd_sides!r}")
        if self.head_width is not None and self.head_width < 1:
            raise ConfigError(f"head_width is None or at least 1, not {self.head_width}")
        layer = partial(ConvBNReLU, dtype=self.dtype, norm=self.norm)
        widths = [self.width * 2**level for level in range(self.depth + 1)]
        above = [self.width, *widths[:-1]] if self.narrow else widths
        self.down = [[layer(width), layer(width)] for width in (*widths[:-1], above[-1])]
        self.up = [any_doubling(width, self.upsampling, self.dtype, self.norm) for width in widths[:-1]]
        self.join = [[layer(width), layer(last)] for width, last in zip(widths[:-1], above)]
        self.drop = Dropout(self.dropout)
        head = partial(FCNHead, self.num_classes, self.head_dropout, self.dtype, self.norm, self.head_width)
        if self.head_width is None:
            self.classifier = TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01))
        else:
            self.head = head()
        if self.aux:
            self.aux_head = head()

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps of the contracting path, from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels] of any size, floating point, normalized.
          train: Use the batch's BatchNorm statistics, and dropout (stream `dropout`).

        Returns:
          `level1`, `level2`, ... with strides 1, 2, ..., of the image continued to a multiple of the last stride. With
          `odd_sides` "zeros" and "crop" sides are rounded down.

        Raises:
          ConfigError: Images that it cannot take.
        """
        mirrors = self.odd_sides == "mirror"
        check_images(images, self.in_channels, smallest=1 if mirrors else 2**self.depth)
        x, maps = images.astype(self.dtype), {}
        x = pad_to_multiple(x, 2**self.depth) if mirrors else x
        for level, layers in enumerate(self.down, start=1):
            x = _through(layers, x if level == 1 else max_pool(x, 2, 2), train)
            maps[f"level{level}"] = x
        maps[f"level{len(self.down)}"] = self.drop(x, train)
        return maps

    def decoded(self, images: jax.Array, train: bool = False) -> list[jax.Array]:
        """Returns the maps of the expanding path, from the bottom to stride 1; arguments are those of `features`."""
        *skips, x = self.features(images, train).values()
        maps = [x]
        for skip, up, layers in zip(reversed(skips), reversed(self.up), reversed(self.join)):
            x = doubled(up, x, train)
            if self.odd_sides == "crop":
                skip = skip[:, : x.shape[1], : x.shape[2]]
            x = _with_zeros(x, skip)
            x = _through(layers, jnp.concatenate([skip, x], axis=-1), train)
            maps.append(x)
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Returns logits [B, H, W, num_classes], float32; arguments and errors are those of `features`.

        With `train` and `aux` it is (logits, {"aux": logits}).
        """
        *_, half, x = self.decoded(images, train)
        x = self.classifier(x) if self.head_width is None else self.head(x, train)
        output = with_auxiliary(self, x.astype(jnp.float32), half, train)
        return jax.tree.map(lambda x: _continued(x[:, : images.shape[1], : images.shape[2]], images), output)


def _with_zeros(x: jax.Array, skip: jax.Array) -> jax.Array:
    """Puts zeros around a map up to the size of its skip, the odd one below and on the right."""
    missing = [have - want for have, want in zip(skip.shape[1:3], x.shape[1:3])]
    if not any(missing):
        return x
    return jnp.pad(x, ((0, 0), *((side // 2, side - side // 2) for side in missing), (0, 0)))


def _continued(x: jax.Array, images: jax.Array) -> jax.Array:
    """Repeats the last row and column of a map up to the size of the images."""
    missing = [want - have for want, have in zip(images.shape[1:3], x.shape[1:3])]
    return jnp.pad(x, ((0, 0), *((0, side) for side in missing), (0, 0)), mode="edge") if any(missing) else x


def pad_to_multiple(x: jax.Array, multiple: int, smallest: int = 1) -> jax.Array:
    """Continues images by mirroring, at the bottom and on the right, to sides that `multiple` divides.

    Args:
      x: Images [B, H, W, C].
      multiple: Number that will divide the sides.
      smallest: Least side in pixels.
    """
    sides = (-(-max(side, smallest) // multiple) * multiple for side in x.shape[1:3])
    return mirror_pad(x, pair((0, side - have) for side, have in zip(sides, x.shape[1:3])))


def _through(layers: list[ConvBNReLU], x: jax.Array, train: bool) -> jax.Array:
    for layer in layers:
        x = layer(x, train)
    return x


VARIANTS = (
    Variant(
        ModelInfo(
            name="unet",
            task="segmentation",
            paper="1505.04597",
            year=2015,
            image_size=512,
            params=31_037_698,
            gmacs=None,
            params_classes=2,
        ),
        UNet,
        {},
    ),
)
