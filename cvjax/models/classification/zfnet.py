"""ZF-5, the fast net of Zeiler and Fergus (Visualizing and Understanding Convolutional Networks, 1311.2901).

As SPPnet (1406.4729, table 1) and Faster R-CNN (1506.01497) have it: AlexNet with a smaller window and stride in its
first layer, no groups, and more room for detail. Windows are padded by half their side, so that pixel j of a map of
stride s lies on pixel s * j of the image.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.classification.dense_head import DenseHead
from cvjax.models.images import check_images
from cvjax.models.info import ModelInfo, Variant
from cvjax.nn import LocalResponseNorm, TorchConv, adaptive_max_pool, he_normal, max_pool


class ZFNet(nn.Module):
    """Five convolutions, two poolings on the way, and three dense layers on 6x6 pixels.

    Attributes:
      num_classes: channels of the logits; 0 returns the second dense layer's output [B, hidden].
      in_channels: of the images.
      channels: of the five convolutions.
      hidden: channels of the dense layers.
      dropout: of the two hidden dense layers, in training.
      dtype: of the computation; parameters and logits are float32.
      axis_name: the device axis under pmap, for dropout's masks.
    """

    num_classes: int
    in_channels: int = 3
    channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    hidden: int = 4096
    dropout: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        kernel_init = he_normal("fan_in")
        self.conv = [
            TorchConv(features, side, stride, dtype=self.dtype, kernel_init=kernel_init)
            for features, side, stride in zip(self.channels, (7, 5, 3, 3, 3), (2, 2, 1, 1, 1))
        ]
        self.normalize = LocalResponseNorm(size=3, alpha=5e-5 / 3, beta=0.75, k=1.0)
        self.head = DenseHead(
            self.num_classes,
            window=6,
            hidden=self.hidden,
            dropout=self.dropout,
            kernel_init=kernel_init,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Maps from shallow to deep.

        Args:
          images: [B, H, W, in_channels], floating point, normalised; any size.
          train: has no influence here; it is what every model takes.

        Returns:
          `conv1` (stride 2), `conv2` (8), and `conv3`, `conv4` and `conv5` (16), each after its rectifier; sides are
          rounded up.

        Raises:
          ConfigError: images that it cannot take.
        """
        check_images(images, self.in_channels)
        x, maps = images.astype(self.dtype), {}
        for number, conv in enumerate(self.conv, start=1):
            x = nn.relu(conv(x))
            maps[f"conv{number}"] = x
            if number <= 2:
                x = max_pool(self.normalize(x), 3, 2, 1)
        return maps

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits [B, num_classes], or with `num_classes=0` features [B, hidden]; float32.

        Args and errors: as for `features`.
        """
        pooled = adaptive_max_pool(self.features(images, train)["conv5"], (6, 6))
        return self.head(pooled, train)[:, 0, 0].astype(jnp.float32)


VARIANTS = (
    Variant(
        ModelInfo(
            name="zfnet",
            task="classification",
            paper="1311.2901",
            year=2013,
            image_size=224,
            params=62_357_608,
            gmacs=None,
            params_classes=1000,
        ),
        ZFNet,
        {},
    ),
)
