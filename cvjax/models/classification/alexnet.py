"""AlexNet (Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012).

`alexnet_grouped` is the net of that paper. Its convolutions 2, 4 and 5 are split in two groups, which ran on two GPUs.
Responses are normalized locally after the first two layers, and pooling windows overlap. `alexnet` is the one-tower net
of the author's later paper (1404.5997) as torchvision has it: fewer channels, no groups, no normalization.
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
from cvjax.nn import Conv, LocalResponseNorm, adaptive_avg_pool, gaussian, he_normal, max_pool

ACTIVATIONS = {"relu": nn.relu, "sigmoid": nn.sigmoid, "tanh": nn.tanh}
_POOLED = (1, 2, 5)  # the convolutions that pooling follows


class AlexNet(nn.Module):
    """Classifies images by five convolutions, three poolings and three dense layers.

    Attributes:
      num_classes: Channels of the logits; 0 returns the second dense layer's output [B, hidden].
      in_channels: Channels of the images.
      channels: Channels of the five convolutions.
      grouped: Whether convolutions 2, 4 and 5 have two groups.
      response_norm: Whether `LocalResponseNorm` follows the first two convolutions.
      lrn: Its size, alpha, beta and k. The default is the paper's. Caffe divides alpha by the size and has k = 1: the
        weights of BVLC's AlexNet and CaffeNet, of R-CNN and of Fast R-CNN expect (5, 2e-5, 0.75, 1.0).
      pool_first: Whether pooling comes before `LocalResponseNorm`, as in CaffeNet, R-CNN and Fast R-CNN; the paper
        pools what is normalized.
      stem_padding: Number of zeros on each side of the image.
      pool_padding: Number of pixels around the maps that are pooled. With 1 here and 5 in the stem, every window is
        padded by half its side. Pixel j of `conv5` is then centered on pixel 16 * j of the image, as detectors want it.
      ceil_mode: Keep the last row and column of an even map in poolings, as Caffe's nets (Fast R-CNN's CaffeNet) do.
      activation: Activation, "relu", "sigmoid" or "tanh". The paper's first figure compares "relu" with "tanh".
      hidden: Channels of the dense layers.
      dropout: Rate of dropout of the two hidden dense layers, in training.
      drop_inputs: Drop the inputs of these layers instead of their outputs, as torchvision does.
      paper_init: Start with normal kernels of deviation 0.01, and with biases of 1 where the paper has them, so that
        rectifiers start with positive inputs. Otherwise kernels start such that activations keep their size, and
        training makes progress at once.
      dtype: Type of the computation; parameters and logits are float32.
    """

    num_classes: int
    in_channels: int = 3
    channels: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)
    grouped: bool = False
    response_norm: bool = False
    lrn: tuple[int, float, float, float] = (5, 1e-4, 0.75, 2.0)
    pool_first: bool = False
    stem_padding: int = 2
    pool_padding: int = 0
    ceil_mode: bool = False
    activation: str = "relu"
    hidden: int = 4096
    dropout: float = 0.5
    drop_inputs: bool = True
    paper_init: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation is one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")
        kernel_init = gaussian(0.01) if self.paper_init else he_normal("fan_in")
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        self.conv = [
            Conv(
                features,
                (size, size),
                (stride, stride),
                padding=((pad, pad), (pad, pad)),
                feature_group_count=2 if self.grouped and number in (2, 4, 5) else 1,
                kernel_init=kernel_init,
                bias_init=ones if self.paper_init and number in (2, 4, 5) else zeros,
                dtype=self.dtype,
            )
            for number, features, size, stride, pad in zip(
                range(1, 6), self.channels, (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (self.stem_padding, 2, 1, 1, 1)
            )
        ]
        self.normalize = LocalResponseNorm(*self.lrn)
        self.head = DenseHead(
            self.num_classes,
            window=6,
            hidden=self.hidden,
            dropout=self.dropout,
            drop_inputs=self.drop_inputs,
            activation=ACTIVATIONS[self.activation],
            kernel_init=kernel_init,
            bias_init=ones if self.paper_init else zeros,
            dtype=self.dtype,
        )

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep.

        Args:
          images: Images [B, H, W, in_channels], floating point, normalized. Sides are at least 63 pixels, or 67 without
            padding in the stem.
          train: Ignored here; every model takes it.

        Returns:
          `conv1` (stride 4), `conv2` (8), `conv3`, `conv4` and `conv5` (16), each after activation, and `pool5` (32).

        Raises:
          ConfigError: Images that it cannot take.
        """
        check_images(images, self.in_channels, smallest=67 - 2 * self.stem_padding)
        x, maps = images.astype(self.dtype), {}
        activation = ACTIVATIONS[self.activation]
        for number, conv in enumerate(self.conv, start=1):
            x = activation(conv(x))
            maps[f"conv{number}"] = x
            normalized = self.response_norm and number in (1, 2)
            if normalized and not self.pool_first:
                x = self.normalize(x)
            if number in _POOLED:
                x = max_pool(x, 3, 2, self.pool_padding, self.ceil_mode)
            if normalized and self.pool_first:
                x = self.normalize(x)
        return maps | {"pool5": x}

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits [B, num_classes], or with `num_classes=0` features [B, hidden]; float32.

        The dense layers see 6x6 pixels, which is the map of the default image size. Maps of another size are averaged
        to it.

        Arguments and errors are those of `features`.
        """
        pooled = adaptive_avg_pool(self.features(images, train)["pool5"], (6, 6))
        return self.head(pooled, train)[:, 0, 0].astype(jnp.float32)


CAFFENET = {
    "channels": (96, 256, 384, 384, 256),
    "grouped": True,
    "response_norm": True,
    "lrn": (5, 1e-4 / 5, 0.75, 1.0),
    "pool_first": True,
    "drop_inputs": False,
}
"""Options of Caffe's own AlexNet, from which R-CNN and Fast R-CNN start: bvlc_reference_caffenet and CaffeNet.v2."""
_info = partial(ModelInfo, task="classification", params_classes=1000)
_GROUPED = {
    "channels": (96, 256, 384, 384, 256),
    "grouped": True,
    "response_norm": True,
    "stem_padding": 0,
    "drop_inputs": False,
    "paper_init": True,
}
VARIANTS = (
    Variant(
        _info("alexnet", paper="1404.5997", year=2014, image_size=224, params=61_100_840, gmacs=0.714), AlexNet, {}
    ),
    Variant(
        _info("alexnet_grouped", paper="NIPS 2012", year=2012, image_size=227, params=60_965_224, gmacs=0.724),
        AlexNet,
        _GROUPED,
    ),
)
