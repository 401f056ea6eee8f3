"""What tasks share: their classes, and what happens to images on the device before the net sees them."""

import dataclasses
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cvjax.errors import ConfigError
from cvjax.imagenet import IMAGENET_MEAN, IMAGENET_STD

Batch = Mapping[str, jax.Array]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as every photo library uses for saturation
# Principal components of ImageNet's pixels, a row each, and the standard deviations along them, in units of 0..255.
_PCA_DIRECTIONS = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))
_PCA_DEVIATIONS = (55.46, 4.794, 1.148)


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """Classes, normalisation and random colours.

    Attributes:
      class_names: one name a class.
      mean, std: per channel, in units of 0..255; what `normalize` subtracts and divides by.
      brightness, contrast, saturation: half-widths of the uniform factors around 1 in training; 0 is off.
      pca_noise: standard deviation of AlexNet's noise along the principal components of ImageNet's colours, as a
        multiple of theirs; 0.1 in the paper, 0 is off.
      exposure, hsv_saturation: largest factor on value and saturation of HSV, or divisor, one as likely as the other;
        1.5 in YOLO, 1 is off.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, float, float] = tuple(255 * level for level in IMAGENET_MEAN)
    std: tuple[float, float, float] = tuple(255 * level for level in IMAGENET_STD)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    pca_noise: float = 0.0
    exposure: float = 1.0
    hsv_saturation: float = 1.0

    @property
    def num_classes(self) -> int:
        """Number of classes, what is ignored not being one."""
        return len(self.class_names)

    def normalize(self, images: jax.Array) -> jax.Array:
        """uint8 or float images [..., 3] in 0..255 to float32 of about zero mean and unit variance."""
        images = images.astype(jnp.float32)
        return (images - jnp.asarray(self.mean)) / jnp.asarray(self.std)

    def preprocess(self, batch: Batch, key: jax.Array, train: bool) -> jax.Array:
        """Images of a batch, recoloured in training, normalised.

        The colours of an example depend on the key and on the example's index alone, so they are the same
        however the batch is laid out over devices.

        Args:
          batch: `image` [B, H, W, 3] in 0..255 and `index` [B].
          key: a key of this step.
          train: whether to vary the colours.

        Returns:
          float32 [B, H, W, 3].

        Raises:
          ConfigError: a largest factor below 1.
        """
        images = batch["image"]
        chex.assert_rank(images, 4)
        images = images.astype(jnp.float32)
        factors = self.exposure, self.hsv_saturation
        if min(factors) < 1:
            raise ConfigError(f"exposure and hsv_saturation are largest factors, 1 or more, not {factors}")
        if train and (self.brightness or self.contrast or self.saturation or self.pca_noise or max(factors) > 1):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
            images = jax.vmap(self._recolour)(images, keys)
        return self.normalize(images)

    def targets(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch as `loss` compares with it, under the key that `preprocess` had in training."""
        del key
        return batch

    def keep(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Arrays of an evaluation's batch, a row an example, for `examine`; nothing by default."""
        del outputs, batch
        return {}

    def examine(self, kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sums on the host over what `keep` gave of the whole batch, for scores that no accelerator computes well."""
        del kept
        return {}

    def collect(self, kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows on the host of what `keep` gave of the whole batch, for scores that are no sum, such as a ranking."""
        del kept
        return {}

    def _recolour(self, image: jax.Array, key: jax.Array) -> jax.Array:
        widths = jnp.asarray([self.brightness, self.contrast, self.saturation])
        bright, contrast, saturation = 1.0 + widths * jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        image = image * bright
        luma = image @ jnp.asarray(_LUMA)
        image = (image - luma.mean()) * contrast + luma.mean()
        luma = (image @ jnp.asarray(_LUMA))[..., None]
        image = (image - luma) * saturation + luma
        if self.pca_noise:
            amounts = self.pca_noise * jax.random.normal(jax.random.fold_in(key, 1), (3,))
            image = image + (amounts * jnp.asarray(_PCA_DEVIATIONS)) @ jnp.asarray(_PCA_DIRECTIONS)
        image = jnp.clip(image, 0.0, 255.0)
        if max(self.exposure, self.hsv_saturation) > 1:
            drawn = jax.random.uniform(jax.random.fold_in(key, 2), (2,), minval=-1.0, maxval=1.0)
            factors = 1 + jnp.abs(drawn) * (jnp.asarray([self.exposure, self.hsv_saturation]) - 1)
            image = scale_hsv(image, *jnp.where(drawn < 0, 1 / factors, factors))
        return image


def scale_hsv(images: jax.Array, exposure: jax.Array | float, saturation: jax.Array | float) -> jax.Array:
    """Images with value and saturation of HSV multiplied, up to their bounds; hues stay.

    Args:
      images: float [..., 3], RGB in 0..255.
      exposure, saturation: factors on value and saturation, not negative.

    Returns:
      [..., 3] in 0..255.
    """
    value = images.max(axis=-1, keepdims=True)
    chroma = value - images.min(axis=-1, keepdims=True)
    coloured = chroma > 0
    # How far a channel lies below the value, by how far the lowest does, is what the hue says.
    fall = (value - images) / jnp.where(coloured, chroma, 1)
    brighter = jnp.minimum(value * exposure, 255.0)
    stronger = jnp.minimum(chroma / jnp.where(coloured, value, 1) * saturation, 1.0)
    return brighter * (1 - stronger * fall)
