"""Varies the colors of training images on the device: brightness, contrast, saturation, exposure, PCA noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cvjax.data.config import DataConfig
from cvjax.shapes import Array

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as every photo library uses for saturation
# Principal components of ImageNet's pixels, a row each, and the standard deviations along them, in units of 0..255.
_PCA_DIRECTIONS = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))
_PCA_DEVIATIONS = (55.46, 4.794, 1.148)


def varies_colors(colors: DataConfig) -> bool:
    """Returns whether any random change of colors is on."""
    widths = colors.brightness, colors.contrast, colors.saturation, colors.pca_noise
    return any(widths) or max(colors.exposure, colors.hsv_saturation) > 1


def recolor(
    colors: DataConfig, image: Float[Array, "height width 3"], key: jax.Array
) -> Float[jax.Array, "height width 3"]:
    """Changes the colors of one image at random.

    Args:
      colors: Ranges of the random changes.
      image: Image, float [H, W, 3] in 0..255.
      key: Random key of this example.

    Returns:
      float [H, W, 3] in 0..255.
    """
    widths = jnp.asarray([colors.brightness, colors.contrast, colors.saturation])
    bright, contrast, saturation = 1.0 + widths * jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
    image = image * bright
    luma = image @ jnp.asarray(_LUMA)
    image = (image - luma.mean()) * contrast + luma.mean()
    luma = (image @ jnp.asarray(_LUMA))[..., None]
    image = (image - luma) * saturation + luma
    if colors.pca_noise:
        amounts = colors.pca_noise * jax.random.normal(jax.random.fold_in(key, 1), (3,))
        noise = (amounts * jnp.asarray(_PCA_DEVIATIONS)) @ jnp.asarray(_PCA_DIRECTIONS)
        image = image + noise[None, None]
    image = jnp.clip(image, 0.0, 255.0)
    if max(colors.exposure, colors.hsv_saturation) > 1:
        drawn = jax.random.uniform(jax.random.fold_in(key, 2), (2,), minval=-1.0, maxval=1.0)
        factors = 1 + jnp.abs(drawn) * (jnp.asarray([colors.exposure, colors.hsv_saturation]) - 1)
        # A factor is as likely as its inverse.
        image = scale_hsv(image, *jnp.where(drawn < 0, 1 / factors, factors))
    return image


def scale_hsv(
    images: Float[Array, "*pixels 3"], exposure: jax.Array | float, saturation: jax.Array | float
) -> Float[jax.Array, "*pixels 3"]:
    """Scales the value and the saturation of images in HSV, clipped to their bounds; the hue does not change.

    Args:
      images: RGB images, float [..., 3] in 0..255.
      exposure, saturation: Factors on value and saturation, not negative.

    Returns:
      [..., 3] in 0..255.
    """
    value = images.max(axis=-1, keepdims=True)
    chroma = value - images.min(axis=-1, keepdims=True)
    colored = chroma > 0
    # A channel's distance below the value, as a fraction of the chroma, depends on the hue alone.
    fall = (value - images) / jnp.where(colored, chroma, 1)
    brighter = jnp.minimum(value * exposure, 255.0)
    stronger = jnp.minimum(chroma / jnp.where(colored, value, 1) * saturation, 1.0)
    return brighter * (1 - stronger * fall)
