"""Names initializers as papers name them."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from cvjax.ops.upsample import bilinear_filter

Initializer = Callable[..., jax.Array]
Fan = Literal["fan_in", "fan_out", "fan_avg"]


def he_normal(mode: Fan = "fan_out") -> Initializer:
    """Returns a normal initializer with variance 2 / fan (He et al., 1502.01852).

    ResNets of torchvision and most later nets use the number of outputs (`fan_out`), which keeps the size of gradients.
    The paper's first choice, `fan_in`, keeps the size of activations.
    """
    return initializers.variance_scaling(2.0, mode, "normal")


def he_uniform(mode: Fan = "fan_in") -> Initializer:
    """Returns a uniform initializer with variance 2 / fan (He et al., 1502.01852)."""
    return initializers.variance_scaling(2.0, mode, "uniform")


def xavier_uniform() -> Initializer:
    """Returns a uniform initializer with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    return initializers.glorot_uniform()


def xavier_normal() -> Initializer:
    """Returns a normal initializer with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).

    It is cut off at two deviations.
    """
    return initializers.glorot_normal()


def lecun_normal() -> Initializer:
    """Returns a normal initializer with variance 1 / fan_in (LeCun et al., Efficient BackProp, 1998).

    It is cut off at its tails, and is Flax's default.
    """
    return initializers.lecun_normal()


def gaussian(std: float = 0.01) -> Initializer:
    """Returns a normal initializer of a fixed deviation, as for the last layer of most classifiers (1706.02677)."""
    return initializers.normal(std)


def zero_gamma() -> Initializer:
    """Returns an initializer of zeros, for the scale of a residual branch's last BatchNorm (1706.02677).

    With them the block starts as the identity.
    """
    return initializers.zeros


def bilinear() -> Initializer:
    """Returns an initializer for transposed convolution as bilinear upsampling, channel by channel (FCN, 1411.4038).

    For stride s use kernel size 2 * s - s % 2. The initializer raises ValueError where the numbers of input and output
    channels differ.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        height, width, channels, features = shape
        if channels != features:
            raise ValueError(f"bilinear upsampling keeps the channels; the kernel has {channels} in, {features} out")
        kernel = np.zeros(shape)
        profile = np.outer(bilinear_filter(height), bilinear_filter(width))
        kernel[:, :, range(channels), range(channels)] = profile[..., None]
        return jnp.asarray(kernel, dtype)

    return init
