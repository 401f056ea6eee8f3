"""What is known about the arrays of a jaxpr: what they see of the image, or that they are constants."""

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
    """What the elements of an array see of the image, along either of its axes."""

    rows: Span
    columns: Span

    @staticmethod
    def of_images(shape: Sequence[int]) -> "Field":
        """Of the images [B, H, W, C] themselves."""
        return Field(*(Span.of_image(dim, shape[dim]) for dim in (1, 2)))

    def each(self, change: Callable[[Span], Span]) -> "Field":
        """The same change along both axes."""
        return Field(change(self.rows), change(self.columns))

    def collapsed(self) -> "Field":
        """Of an array each of whose elements depends on all of this one's."""
        return self.each(lambda s: s if s.dim is None else s.collapsed())

    @property
    def spans(self) -> tuple[Span, Span]:
        """Rows and columns."""
        return self.rows, self.columns


class Constant:
    """An array that depends on nothing; its value is computed if a rule asks for it."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute = compute

    @cached_property
    def value(self) -> np.ndarray:
        """The array itself."""
        return np.asarray(self._compute())

    @staticmethod
    def of(equation: JaxprEqn, inputs: Sequence["Constant"], result: int) -> "Constant":
        """One result of an equation of constants."""

        def compute() -> Any:
            out = equation.primitive.bind(*(a.value for a in inputs), **equation.params)
            return out[result] if equation.primitive.multiple_results else out

        return Constant(compute)


Known = Field | Constant | None
"""What is known about an array; None: it depends on parameters and not on the image."""


def array_of(variable: Var | Literal) -> ShapedArray:
    """Shape and type of what a variable of a jaxpr stands for."""
    return cast(ShapedArray, variable.aval)


def join(fields: Sequence[Field]) -> Field:
    """Of a function, element by element, of arrays of one shape."""
    if len(fields) == 1:
        return fields[0]
    return Field(span.join([f.rows for f in fields]), span.join([f.columns for f in fields]))
