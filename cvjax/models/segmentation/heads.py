"""Several segmentation nets share the auxiliary head."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError
from cvjax.nn import BatchNormOptions, ConvBNReLU, Dropout, TorchConv, gaussian
from cvjax.ops.geometry import pair
from cvjax.ops.resize import resize


class FCNHead(nn.Module):
    """Applies torchvision's auxiliary head: a 3x3 convolution to a quarter of the channels, dropout and a classifier.

    Attributes:
      num_classes: Channels of the logits.
      dropout: Rate of dropout before the classifier.
      dtype: Type of the computation.
      norm: Options of the BatchNorm.
      width: Channels of the 3x3 convolution; None takes a quarter of the input's.
      layers: Number of 3x3 convolutions, `conv`, `conv2` and so on; mmsegmentation's FCN has 2.
      join_input: Join the input with the last convolution's output, and convolve both once more before the classifier,
        as mmsegmentation's FCN does.
    """

    num_classes: int
    dropout: float = 0.1
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()
    width: int | None = None
    layers: int = 1
    join_input: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Turns x [B, H, W, C] into [B, H, W, num_classes].

        Raises:
          ConfigError: Fewer than one convolution.
        """
        if self.layers < 1:
            raise ConfigError(f"a head has at least 1 convolution before its classifier, not {self.layers}")
        seen, layer = x, partial(ConvBNReLU, self.width or x.shape[-1] // 4, 3, dtype=self.dtype, norm=self.norm)
        for number in range(1, self.layers + 1):
            x = layer(name="conv" if number == 1 else f"conv{number}")(x, train)
        if self.join_input:
            x = layer(name="join")(jnp.concatenate([seen, x], axis=-1), train)
        x = Dropout(self.dropout, name="dropout")(x, train)
        return TorchConv(self.num_classes, 1, dtype=self.dtype, kernel_init=gaussian(0.01), name="classifier")(x)


def with_auxiliary(
    net: nn.Module, logits: jax.Array, stage3: jax.Array, train: bool
) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the logits of a net, in training with those of its auxiliary head on stage3.

    Args:
      net: Net with a field `aux` and, if that is set, a submodule `aux_head`. A field `align_corners` says how the
        logits are enlarged.
      logits: Logits of the net, float32 [B, H, W, num_classes].
      stage3: Map that the auxiliary head sees.
      train: Whether the net trains; evaluation never computes the head.

    Returns:
      The logits. With `train` and `aux` it is (logits, {"aux": logits}).
    """
    # While initializing the head runs whatever `train` is, so that its parameters exist.
    if not net.aux or not (train or net.is_initializing()):
        return logits
    aligned = getattr(net, "align_corners", False)
    aux = resize(net.aux_head(stage3, train).astype(jnp.float32), pair(logits.shape[1:3]), align_corners=aligned)
    return (logits, {"aux": aux}) if train else logits
