"""The head of torchvision's FCN, which is the auxiliary head of its DeepLab v3, too."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.nn import BatchNormOptions, ConvBNReLU, Dropout, TorchConv, gaussian


class FCNHead(nn.Module):
    """A 3x3 convolution to a quarter of the channels, dropout, and a classifier.

    Attributes:
      num_classes: Channels of the logits.
      dropout: Dropout rate before the classifier.
      dtype: Type of the computation.
      norm: Options of the BatchNorm.
    """

    num_classes: int
    dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Returns the logits [B, H, W, num_classes] of a map [B, H, W, C]."""
        x = ConvBNReLU(x.shape[-1] // 4, 3, dtype=self.dtype, norm=self.norm, name="conv")(x, train)
        x = Dropout(self.dropout, name="dropout")(x, train)
        return TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01), name="classifier")(x)
