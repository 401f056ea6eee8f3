"""A trace is a model's inference as one jaxpr, which still knows the module that each equation came from."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive
from jax.interpreters import batching

from cvjax.models.detection.detector import beside_images
from cvjax.nn import DeformConv

LEAVE = Primitive("leave_module")
"""Identity on the results of a module. It only marks them in the jaxpr, so it has no lowering."""
LEAVE.def_abstract_eval(lambda x, **_: x)
batching.defvectorized(LEAVE)

_SCOPE = re.compile(r"call:(\d+)")


@dataclass
class Call:
    """Describes one call of a module.

    Attributes:
      path: Path of the module from the model down; () is the model itself.
      kind: Name of the module's class.
      deformable: Whether it is a `cvjax.nn.DeformConv`.
      children: Numbers of the calls within this one.
    """

    path: tuple[str, ...]
    kind: str
    deformable: bool
    children: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Trace:
    """Holds the traced inference of a model.

    Attributes:
      jaxpr: Jaxpr from (variables, images) to outputs with `train=False`, for one image.
      calls: Calls in the order in which they began. A method that calls another method of its module is one call with
        it.
      variables: Shapes of all collections, as `init` makes them.
    """

    jaxpr: ClosedJaxpr
    calls: list[Call]
    variables: Mapping[str, Any]


def trace(module: nn.Module, images: jax.ShapeDtypeStruct) -> Trace:
    """Traces `module.init` and `module.apply(..., train=False)` without computing anything.

    Args:
      module: Unbound module. Its `__call__` takes images and perhaps `train`, or it is a detector's.
      images: Shape and type of the input.
    """
    calls: list[Call] = []
    running: list[int] = []

    def note(method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        path = context.module.path
        if context.method_name == "setup" or (running and calls[running[-1]].path == path):
            return method(*args, **kwargs)
        number = len(calls)
        if running:
            calls[running[-1]].children.append(number)
        calls.append(Call(path, type(context.module).__name__, isinstance(context.module, DeformConv)))
        running.append(number)
        try:
            with jax.named_scope(f"call:{number}"):
                return _marked(method(*args, **kwargs), number)
        finally:
            running.pop()

    options: dict[str, Any] = {"train": False} if "train" in inspect.signature(type(module).__call__).parameters else {}
    options |= beside_images(module, images.shape)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda key, x: module.init(key, x, **options), key, images)
    with nn.intercept_methods(note):
        jaxpr = jax.make_jaxpr(lambda variables, x: module.apply(variables, x, **options))(variables, images)
    return Trace(jaxpr, calls, variables)


def scope(equation: JaxprEqn) -> int | None:
    """Returns the number of the innermost call that an equation was traced in, or None if it does not say."""
    found = _SCOPE.findall(str(equation.source_info.name_stack))
    return int(found[-1]) if found else None


def _marked(output: Any, number: int) -> Any:
    main = _main(output)

    def mark(leaf: Any) -> Any:
        return LEAVE.bind(leaf, call=number, main=leaf is main) if isinstance(leaf, jax.Array) else leaf

    if isinstance(output, dict):  # of maps, from shallow to deep, which `jax.tree.map` would sort by name
        return {name: jax.tree.map(mark, part) for name, part in output.items()}
    return jax.tree.map(mark, output)


def _main(output: Any) -> Any:
    """Returns the deepest of named maps, or the first of several results."""
    while isinstance(output, Mapping | tuple | list) and output:
        output = list(output.values())[-1] if isinstance(output, Mapping) else output[0]
    return output
