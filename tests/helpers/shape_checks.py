"""How the tests check annotations of shapes (`cvjax.shapes`): see `conftest.py`."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import beartype
from jaxtyping import AbstractArray


def after_the_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """A type checker for jaxtyping's import hook that looks at the annotations of arrays' shapes, and at no others.

    jaxtyping has a function's arguments checked before the call, and all again with its result after it. Only the
    second is done here, so that what a function says itself of wrong arguments is what its caller sees.
    """
    hints = function.__annotations__
    if hints.get("return") is Any:  # jaxtyping's function for the arguments alone
        return function
    shaped = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    if not shaped:
        return function
    function.__annotations__ = shaped
    return beartype.beartype(function)


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shape, get_args(hint)))
