"""Classifiers that end in global average pooling share this class."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.nn import BatchNormOptions, Dropout, gaussian
from cvjax.nn.initializers import Initializer


class Classifier(nn.Module):
    """Averages the last map of a net and classifies it by one dense layer; subclasses add `setup` and `features`.

    Attributes:
      num_classes: Channels of the logits; 0 returns the pooled features [B, C].
      in_channels: Channels of the images.
      dropout: Rate of dropout on the pooled features, in training.
      dtype: Type of the computation; parameters, statistics and logits are float32.
      norm: Options of the BatchNorms, where there are some.
    """

    num_classes: int
    in_channels: int = 3
    dropout: float = 0.0
    dtype: Any = jnp.float32
    norm: BatchNormOptions = BatchNormOptions()

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Returns named maps from shallow to deep."""
        raise NotImplementedError

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Returns logits [B, num_classes], or with `num_classes=0` pooled features [B, C]; float32.

        In training, a net with auxiliary classifiers returns their logits beside its own.

        Arguments and errors are those of `features`.
        """
        *_, last = self.features(images, train).values()
        return self._classify(last, train)

    def _make_head(self, kernel_init: Initializer | None = None) -> None:
        """Makes the layers behind the pooling, for `setup`. The kernel starts normal with deviation 0.01 by default."""
        if self.num_classes:
            self.drop = Dropout(self.dropout)
            self.head = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=kernel_init or gaussian(0.01))

    def _through(self, names: Iterable[str], x: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Returns the output of each of these stages, which are lists of blocks that run one after the other."""
        maps = {}
        for name in names:
            for block in getattr(self, name):
                x = block(x, train)
            maps[name] = x
        return maps

    def _classify(self, x: jax.Array, train: bool) -> jax.Array:
        pooled = x.mean(axis=(1, 2), dtype=jnp.float32)
        if not self.num_classes:
            return pooled
        return self.head(self.drop(pooled, train)).astype(jnp.float32)
