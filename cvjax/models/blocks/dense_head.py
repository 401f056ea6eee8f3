"""The head of AlexNet and VGG has three dense layers, which may slide over larger maps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import dtypes

from cvjax.nn import Dropout, gaussian
from cvjax.nn.initializers import Initializer
from cvjax.ops.conv import conv2d
from cvjax.ops.dense import dense


class WindowDense(nn.Module):
    """Applies a dense layer to windows of a map: to the whole map as one window, or to every window of a larger map.

    The second case is a convolution. Both have the same parameters: `kernel` [window * window * C, features], in the
    order of a flattened [window, window, C], and `bias` [features].

    Attributes:
      features: Output channels.
      window: Side of the window in pixels.
      rate: Distance between the pixels of a window. Maps that are n times as dense take a rate of n.
      dtype: Type of the computation.
      kernel_init, bias_init: Initializers of the kernel and of the bias.
      use_bias: Whether the parameter `bias` exists.
    """

    features: int
    window: int = 1
    rate: int = 1
    dtype: Any = jnp.float32
    kernel_init: Initializer = gaussian(0.01)
    bias_init: Initializer = nn.initializers.zeros
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Turns x [B, H, W, C] into [B, H - reach + 1, W - reach + 1, features].

        The reach is (window - 1) * rate + 1.
        """
        shape = (self.window**2 * x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32) if self.use_bias else jnp.zeros(())
        x, kernel, bias = dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        reach = (self.window - 1) * self.rate + 1
        if x.shape[1:3] == (reach, reach) and self.rate == 1:
            return (dense(x.reshape(x.shape[0], -1), kernel) + bias.reshape(1, -1))[:, None, None]
        kernel = kernel.reshape(self.window, self.window, x.shape[-1], self.features)
        return conv2d(x, kernel, dilation=(self.rate, self.rate)) + bias.reshape(1, 1, 1, -1)


class DenseHead(nn.Module):
    """Applies two hidden layers, called fc6 and fc7 as in Caffe's nets, and the layer of logits.

    Attributes:
      num_classes: Channels of the logits; 0 leaves that layer out.
      window: Side in pixels of the maps that fc6 sees.
      rate: Distance between the pixels that fc6 sees, as in `WindowDense`.
      hidden: Channels of fc6 and fc7; one number for both, or a pair.
      dropout: Rate of dropout of fc6 and fc7, in training.
      drop_inputs: Drop the inputs of these two layers instead of their outputs.
      activation: Activation of fc6 and fc7.
      ranks: Ranks of fc6 and fc7. None is a full layer. A rank t divides a layer into two thin ones: `fc6_svd` to t
        channels without a bias, and `fc6` from there (Fast R-CNN, 1504.08083, section 3.1). `cvjax.weights.compress`
        makes such weights of full ones.
      kernel_init, bias_init: Initializers of fc6 and fc7. The last kernel starts normal with deviation 0.01.
      dtype: Type of the computation.
    """

    num_classes: int
    window: int
    rate: int = 1
    hidden: int | tuple[int, int] = 4096
    dropout: float = 0.5
    drop_inputs: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    ranks: tuple[int | None, int | None] = (None, None)
    kernel_init: Initializer = gaussian(0.01)
    bias_init: Initializer = nn.initializers.zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Turns x [B, H, W, C] into [B, H', W', num_classes], or without classes into [B, H', W', hidden].

        H' and W' are 1 for maps of `window` pixels.
        """
        widths = (self.hidden, self.hidden) if isinstance(self.hidden, int) else self.hidden
        for name, window, width, rank in zip(("fc6", "fc7"), (self.window, 1), widths, self.ranks):
            dense = partial(WindowDense, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init)
            rate = self.rate if window > 1 else 1
            drop = Dropout(self.dropout)
            if self.drop_inputs:
                x = drop(x, train)
            if rank is None:
                x = dense(width, window, rate, name=name)(x)
            else:
                x = dense(rank, window, rate, use_bias=False, name=f"{name}_svd")(x)
                x = dense(width, name=name)(x)
            x = self.activation(x)
            if not self.drop_inputs:
                x = drop(x, train)
        if not self.num_classes:
            return x
        return WindowDense(self.num_classes, dtype=self.dtype, name="head")(x)
