"""What classifiers share that end in global average pooling."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cvjax.models.maker import ModuleMaker
from cvjax.nn import BatchNorm, Dropout, gaussian
from cvjax.nn.initializers import Initializer


class Classifier(nn.Module):
    """A net whose last map is averaged, and classified by one dense layer; subclasses add `setup` and `features`.

    Attributes:
      num_classes: channels of the logits; 0 returns the pooled features [B, C].
      in_channels: of the images.
      dropout: on the pooled features, in training.
      dtype: of the computation; parameters, statistics and logits are float32.
      axis_name: the device axis under pmap, for global BatchNorm statistics and dropout's masks.
      bn_momentum: decay of BatchNorm's running averages.
      freeze_bn: normalise with the running statistics in training too, and leave them alone.
    """

    num_classes: int
    in_channels: int = 3
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    bn_momentum: float = 0.9
    freeze_bn: bool = False

    def features(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Named maps from shallow to deep."""
        raise NotImplementedError

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Logits [B, num_classes], or with `num_classes=0` pooled features [B, C]; float32.

        In training a net with auxiliary classifiers gives their logits beside its own.

        Args and errors: as for `features`.
        """
        *_, last = self.features(images, train).values()
        return self._classify(last, train)

    def _norm(self, **options: Any) -> ModuleMaker:
        """Maker of the net's BatchNorms."""
        return partial(
            BatchNorm,
            momentum=self.bn_momentum,
            axis_name=self.axis_name,
            frozen=self.freeze_bn,
            dtype=self.dtype,
            **options,
        )

    def _make_head(self, kernel_init: Initializer | None = None) -> None:
        """For `setup`: the layers behind the pooling. The kernel starts normal with deviation 0.01 by default."""
        if self.num_classes:
            self.drop = Dropout(self.dropout, self.axis_name)
            self.head = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=kernel_init or gaussian(0.01))

    def _through(self, names: Iterable[str], x: jax.Array, train: bool) -> dict[str, jax.Array]:
        """What leaves each of these stages, which are lists of blocks, one behind the other."""
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
