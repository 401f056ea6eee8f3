"""What the pixels of a map depend on, measured by gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cvjax.inspection.field import Field
from cvjax.inspection.trace import Trace
from cvjax.inspection.walk import _Walk

Interval = tuple[int, int]


def theoretical(function: Callable[[jax.Array], jax.Array], size: tuple[int, int], channels: int = 1) -> Field:
    """The field of a function of images [1, *size, channels], by the walk over its jaxpr."""
    images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    trace = Trace(jax.make_jaxpr(function)(images), [], {})
    (field,) = _Walk(trace, size).run(trace.jaxpr, [Field.of_images(images.shape)], None)
    return field


class Measured:
    """Hulls of what is not zero among the gradients of single elements, for functions that grow with every pixel.

    Of the equal or unequal pixels of a window the maximum has a gradient for one alone. On maps that grow to the lower
    right it is the window's last pixel, on maps that fall it is the first, and growing functions keep them so.
    """

    def __init__(self, function: Callable[[jax.Array], jax.Array], size: tuple[int, int], channels: int = 1) -> None:
        ramp = 1.0 + np.add.outer(np.arange(size[0]), np.arange(size[1])) / sum(size)
        self._images = [
            jnp.asarray(np.repeat(image[None, :, :, None], channels, 3), jnp.float32)
            for image in (ramp, ramp[::-1, ::-1])
        ]
        self._gradient = jax.jit(lambda x, ct: jax.vjp(function, x)[1](ct)[0])
        self._out = jax.eval_shape(function, self._images[0])

    def __call__(self, *place: int) -> tuple[Interval, Interval] | None:
        """Rows and columns that the element (0, *place) depends on; None if it depends on none."""
        one = jnp.zeros(self._out.shape, self._out.dtype).at[0, *place].set(1.0)
        used = sum(np.abs(np.asarray(self._gradient(x, one))) for x in self._images)[0].sum(-1) > 0
        rows, columns = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
        if not len(rows):
            return None
        return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))
