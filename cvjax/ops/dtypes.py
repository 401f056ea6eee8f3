"""Promotes dtypes where the code asks for it by name."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def wider(*dtypes: DTypeLike) -> np.dtype:
    """Returns the dtype that JAX promotes all of these to, also where promotion has to be explicit.

    So `wider(x.dtype, jnp.float32)` is the dtype for sums of x: float32, or float64 for float64.
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)
