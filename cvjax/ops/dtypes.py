"""Promotion of dtypes, said aloud where it is meant."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def wider(*dtypes: DTypeLike) -> np.dtype:
    """The dtype that JAX promotes all of these to, also where promotion has to be explicit.

    So `wider(x.dtype, jnp.float32)` is what sums of x are made in: float32, or float64 for that.
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)
