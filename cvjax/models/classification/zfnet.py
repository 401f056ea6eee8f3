"""ZFNet (Zeiler and Fergus, 1311.2901) as SPPnet has it (He et al., 1406.4729: ZF-5), for one size or for any.

It is AlexNet with a smaller first window and stride, so that the first maps keep more of the image. Every window but
the last pooling's is padded by half its side. So pixel j of `conv5` is centered on pixel 16 * j of the image, as
detectors want it. An image of 224 pixels leaves 14x14 pixels there, and 6x6 behind the last pooling.

`zfnet_spp` takes the maximum over the bins of a pyramid of grids in the place of the last pooling. This gives a vector
of one length for images of any size, so the same weights can be trained and evaluated at any size.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.models.blocks.dense_head import DenseHead
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import Conv, LocalResponseNorm, SpatialPyramidPool, adaptive_avg_pool, he_normal, max_pool

_WINDOW = 6  # of the first dense layer, in pixels of pool5


class ZFNet(nn.Module):
    """Classifies images by five convolutions, poolings, and three dense layers.

    Attributes:
      num_classes: Channels of the logits; 0 returns the second dense layer's output [B, hidden].
      in_channels: Channels of the images.
      channels: Channels of the five convolutions.
      pyramid: Number of bins along each side of the grids that `conv5` is pooled over, in the order of the vector. ()
        pools by 3x3 windows, and the dense layers see 6x6 pixels.
      pyramid_windows: Side and stride of the windows of each grid, for images of one size; () divides maps of any size.
        SPP_net's ImageNet definition has ((3, 2), (5, 4), (7, 7), (13, 13)), for images of 224 pixels.
      lrn: Size, alpha, beta and k of `LocalResponseNorm`. SPP_net and py-faster-rcnn have (3, 5e-5 / 9, 0.75, 1.0), as
        Caffe divides alpha by the number of summands.
      lrn_within: Normalize over pixels of one channel, as SPP_net and py-faster-rcnn do, instead of over channels.
      paddings: Number of zeros on each side before the first and the second convolution; (1, 0) in SPP_net.
      pool_padding: Number of pixels around the maps that are pooled; 0 in SPP_net.
      ceil_mode: Keep the last row and column of an odd map in poolings, as SPP_net and py-faster-rcnn do.
      hidden: Channels of the dense layers; one number for both, or a pair. VGG_CNN_M_1024 has (4096, 1024).
      dropout: Rate of dropout of the two hidden dense layers, in training.
      dtype: Type of the computation; parameters and logits are float32.
    """

    num_classes: int
    in_channels: int = 3
    channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    pyramid: tuple[int, ...] = ()
    pyramid_windows: tuple[tuple[int, int], ...] = ()
    lrn: tuple[int, float, float, float] = (5, 1e-4, 0.75, 2.0)
    lrn_within: bool = False
    paddings: tuple[int, int] = (3, 2)
    pool_padding: int = 1
    ceil_mode: bool = False
    hidden: int | tuple[int, int] = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32

    def setup(self) -> None:
        if self.pyramid and min(self.pyramid) < 1:
            raise ConfigError(
                f"pyramid names the bins along each side of its grids, such as (6, 3, 2, 1): {self.pyramid}"
            )
        if self.pyramid_windows and len(self.pyramid_windows) != len(self.pyramid):
            raise ConfigError(
                f"pyramid_windows has a side and a stride for each grid of the pyramid {self.pyramid}, not "
                f"{self.pyramid_windows}"
            )
        if min(*self.paddings, self.pool_padding) < 0 or self.pool_padding > 1:
            raise ConfigError(
                f"paddings are 0 or more, and pool_padding is 0 or 1; they are {self.paddings} and {self.pool_padding}"
            )
        self.conv = [
            Conv(
                features,
                (size, size),
                (stride, stride),
                padding=((pad, pad),) * 2,
                kernel_init=he_normal("fan_in"),
                dtype=self.dtype,
            )
            for features, size, stride, pad in zip(
                self.channels, (7, 5, 3, 3, 3), (2, 2, 1, 1, 1), (*self.paddings, 1, 1, 1)
            )
        ]
        self.normalize = LocalResponseNorm(*self.lrn, within_channels=self.lrn_within)
        if self.pyramid:
            self.pool = SpatialPyramidPool(self.pyramid, windows=self.pyramid_windows)
        self.head = DenseHead(
            self.num_classes,
            window=1 if self.pyramid else _WINDOW,
            hidden=self.hidden,
            dropout=self.dropout,
            kernel_init=he_normal("fan_in"),
            dtype=self.dtype,
        )

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized. Sides are at least 33 pixels.
          train: Ignored here; every model takes it.

        Returns:
          `conv1` (stride 2), `conv2` (8), `conv3`, `conv4` and `conv5` (16), each after its rectifier, and `pool5`
          (32). Sides are those of the image divided by the stride, rounded up, with the default padding. Sides of
          `pool5` are about half of `conv5`'s.

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels, smallest=33)
        x, maps = images.astype(self.dtype), {}
        for number, conv in enumerate(self.conv, start=1):
            x = nn.relu(conv(x))
            maps[f"conv{number}"] = x
            if number <= 2:
                x = max_pool(self.normalize(x), 3, 2, self.pool_padding, self.ceil_mode)
        return maps | {"pool5": max_pool(x, 3, 2, 0, self.ceil_mode)}

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes], or with `num_classes=0` features [B, hidden]; float32.

        Without a pyramid, maps of another size than 6x6 are averaged to it.

        Arguments and errors are those of `features`.
        """
        maps = self.features(images, train)
        if self.pyramid:
            x = self.pool(maps["conv5"])[:, None, None]
        else:
            x = adaptive_avg_pool(maps["pool5"], (_WINDOW, _WINDOW))
        return self.head(x, train)[:, 0, 0].astype(jnp.float32)


RELEASED = {"lrn": (3, 5e-5 / 9, 0.75, 1.0), "lrn_within": True, "ceil_mode": True}
"""Options of the ZF nets of py-faster-rcnn: each channel is normalized within its neighborhood, and pooling takes in
what sticks out."""
SPP_NET = RELEASED | {"paddings": (1, 0), "pool_padding": 0}
"""Options of SPP_net's ZF-5."""
_info = partial(ModelInfo, task="classification", image_size=224, gmacs=None, params_classes=1000)
VARIANTS = (
    Variant(_info("zfnet", paper="1311.2901", year=2013, params=62_357_608), ZFNet, {}),
    Variant(_info("zfnet_spp", paper="1406.4729", year=2014, params=77_037_672), ZFNet, {"pyramid": (6, 3, 2, 1)}),
)
