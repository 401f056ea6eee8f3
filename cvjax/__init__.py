"""cvjax: classic convolutional vision in JAX."""
