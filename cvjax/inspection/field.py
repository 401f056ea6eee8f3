"""Fields say what is known about the arrays of a jaxpr: the pixels that they see, or that they are constants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from jax.core import ShapedArray
from jax.extend.core import JaxprEqn, Literal, Var

from cvjax.inspection import span
from cvjax.inspection.span import Span


@dataclass(frozen=True)
class Field:
    """Holds what the elements of an array see of the image, along both axes of the image.

    Attributes:
      rows: Pixels that the elements see along the height of the image.
      columns: Pixels that the elements see along the width of the image.
    """

    rows: Span
    columns: Span

    @staticmethod
    def of_images(shape: Sequence[int]) -> "Field":
        """Returns the field of the images [B, H, W, C] themselves."""
        return Field(*(Span.of_image(dim, shape[dim]) for dim in (1, 2)))

    def each(self, change: Callable[[Span], Span]) -> "Field":
        """Returns the field with the same change along both axes."""
        return Field(change(self.rows), change(self.columns))

    def collapsed(self) -> "Field":
        """Returns the field of an array whose every element depends on all elements of this one."""
        return self.each(lambda s: s if s.dim is None else s.collapsed())

    @property
    def spans(self) -> tuple[Span, Span]:
        """Returns the spans of rows and columns."""
        return self.rows, self.columns


class Constant:
    """Stands for an array that depends on no input; its value is computed when a rule asks for it."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute = compute

    @cached_property
    def value(self) -> np.ndarray:
        """Returns the array itself."""
        return np.asarray(self._compute())

    @staticmethod
    def of(equation: JaxprEqn, inputs: Sequence["Constant"], result: int) -> "Constant":
        """Returns one result of an equation whose inputs are all constants."""

        def compute() -> Any:
            out = equation.primitive.bind(*(a.value for a in inputs), **equation.params)
            return out[result] if equation.primitive.multiple_results else out

        return Constant(compute)


Known = Field | Constant | None
"""Knowledge about an array. None stands for an array that depends on parameters and not on the image."""


def array_of(variable: Var | Literal) -> ShapedArray:
    """Returns the shape and type of a variable of a jaxpr."""
    return cast(ShapedArray, variable.aval)


def join(fields: Sequence[Field]) -> Field:
    """Returns the field of an elementwise function of several arrays of one shape."""
    if len(fields) == 1:
        return fields[0]
    return Field(span.join([f.rows for f in fields]), span.join([f.columns for f in fields]))
