"""What annotations of shapes are made of.

`Float[Array, "batch height width channels"]` is an array of floats with four axes (jaxtyping). A name stands for one
length throughout a function's arguments and result; a number is that length, `*rows` any number of axes, `#` an axis
that may also be 1 and broadcast, and `...` whatever. The annotations are for readers. The tests check them, too.
"""

from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    Array = jax.Array
else:
    Array = jax.Array | np.ndarray
    """What is an array to JAX's own functions; results are `jax.Array`."""
