"""Initialisers under the names that papers use."""

from collections.abc import Callable

import jax
from jax.nn import initializers

Initializer = Callable[..., jax.Array]


def he_normal(mode: str = "fan_out") -> Initializer:
    """Normal with variance 2 / fan (He et al., 1502.01852).

    ResNets of torchvision and most later nets use the number of outputs (`fan_out`), which keeps the size of
    gradients; the paper's first choice, `fan_in`, keeps the size of activations.
    """
    return initializers.variance_scaling(2.0, mode, "normal")


def xavier_uniform() -> Initializer:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    return initializers.glorot_uniform()


def gaussian(std: float = 0.01) -> Initializer:
    """Normal with a fixed standard deviation, as for the last layer of most classifiers (1706.02677)."""
    return initializers.normal(std)
