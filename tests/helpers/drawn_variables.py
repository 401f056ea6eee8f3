"""Variables of a net without compiling its initialization, which takes longer than what most tests look at."""

import jax
import jax.numpy as jnp
import numpy as np


def drawn_variables(model, *inputs, **options):
    """As `model.init` shapes them: kernels normal with variance 2 / fan_in, biases small."""
    shapes = jax.eval_shape(lambda key: model.init(key, *inputs, **options), jax.random.key(0))
    random = np.random.default_rng(0)

    def draw(leaf):
        spread = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim > 1 else 0.1
        return jnp.asarray(random.normal(0, spread, leaf.shape), leaf.dtype)

    return jax.tree.map(draw, shapes)
