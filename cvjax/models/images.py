"""Models check their images and their output stride here."""

import chex
import jax
import jax.numpy as jnp

from cvjax.errors import ConfigError


def check_images(images: jax.Array, channels: int = 3, smallest: int = 1) -> None:
    """Makes sure that a model can take these images.

    Args:
      images: Images, which have to be floating point [B, H, W, C].
      channels: Number of channels that C has to be.
      smallest: Least height and width in pixels that leave something of every map.

    Raises:
      ConfigError: Images of another rank, dtype or number of channels, or images that are too small. The message names
        the fix.
    """
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ConfigError(
            f"models take floating-point images [B, H, W, C], got {images.dtype} {images.shape}; "
            "normalize uint8 images and add the batch axis first"
        )
    chex.assert_rank(images, 4)
    batch, height, width, found = images.shape
    if found != channels:
        transposed = " (channels are the last axis)" if images.shape[1] == channels else ""
        raise ConfigError(
            f"this model takes images of {channels} channels, got {images.shape}{transposed}; "
            f"bring them to [B, H, W, {channels}], or build the model with in_channels={found}"
        )
    if batch == 0 or min(height, width) < smallest:
        nearest = f"{max(height, smallest)}x{max(width, smallest)}"
        raise ConfigError(f"images of shape {images.shape} are too small or none; the nearest usable size is {nearest}")


def check_output_stride(output_stride: int) -> None:
    """Raises ConfigError for an output stride other than 8, 16 and 32."""
    if output_stride not in (8, 16, 32):
        raise ConfigError(f"output_stride is 8, 16 or 32, not {output_stride}")
