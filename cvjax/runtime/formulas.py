"""Finds out which of the arrays that a function draws are formulas of random bits, element by element."""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

_INNER = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
"""Operations that stand for a program, and the option that holds it."""
_RESHAPING = ("broadcast_in_dim", "reshape", "squeeze")
_ELEMENTWISE = frozenset(
    "abs add and bitcast_convert_type clamp convert_element_type copy div eq erf erf_inv exp ge gt integer_pow le log"
    " log1p lt max min mul ne neg nextafter not or pow rsqrt select_n shift_left shift_right_logical sign sqrt square"
    " stop_gradient sub tanh xor".split()
)
"""Operations that act element by element, and whose options say nothing of shapes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A value of a traced function: an argument, a constant, or what an operation makes of others.

    Attributes:
      aval: Shape and dtype.
      constant: The value itself, where it is known.
      made_by: Operation that makes it, where one does.
      inputs: What the operation takes.
      output: Number of it among the operation's results.
    """

    aval: Any
    constant: Any = None
    made_by: Any = None
    inputs: tuple["Value", ...] = ()
    output: int = 0

    @property
    def operation(self) -> str:
        """Returns the name of the operation that makes it, or an empty text."""
        return "" if self.made_by is None else self.made_by.primitive.name


@dataclasses.dataclass(frozen=True)
class Number:
    """A constant of a formula, by its dtype and bytes: two zeros of different signs differ."""

    dtype: np.dtype[Any]
    content: bytes


@dataclasses.dataclass(frozen=True)
class Step:
    """An operation of a formula, with its options; an input is a number or an earlier step's place, 0 for the bits."""

    primitive: Any
    options: tuple[tuple[str, Hashable], ...]
    inputs: tuple[Number | int, ...]


Formula = tuple[Step, ...]
"""A function of random bits, element by element; the last step makes the result."""


def values_of(program: core.ClosedJaxpr) -> tuple[list[Value], list[Value]]:
    """Returns the arguments of a traced function and its results; what they do not need is left out."""
    arguments = [Value(var.aval) for var in program.jaxpr.invars]
    return arguments, _results(program, arguments)


def live(jaxpr: core.Jaxpr, results: Sequence[Any]) -> list[core.JaxprEqn]:
    """Returns the operations of a program that some of its results need, in order."""
    needed, kept = set(filter(_is_variable, results)), []
    for eqn in reversed(jaxpr.eqns):
        if not needed.isdisjoint(eqn.outvars):
            kept.append(eqn)
            needed.update(filter(_is_variable, eqn.invars))
    return kept[::-1]


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)


def _results(program: core.ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
    jaxpr = program.jaxpr
    known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
    known |= {var: Value(var.aval, constant) for var, constant in zip(jaxpr.constvars, program.consts, strict=True)}

    def read(atom: Any) -> Value:
        return Value(atom.aval, atom.val) if isinstance(atom, core.Literal) else known[atom]

    for eqn in live(jaxpr, jaxpr.outvars):
        inputs = tuple(map(read, eqn.invars))
        inner = eqn.params.get(_INNER.get(eqn.primitive.name, ""))
        if isinstance(inner, core.ClosedJaxpr):
            made = _results(inner, inputs)
        else:
            made = [Value(var.aval, None, eqn, inputs, number) for number, var in enumerate(eqn.outvars)]
        known |= dict(zip(eqn.outvars, made, strict=True))
    return list(map(read, jaxpr.outvars))


def constant_of(value: Value) -> np.ndarray | None:
    """Returns a copy of a value that is known, or one number over and over; None for any other."""
    if value.operation == "broadcast_in_dim" and value.inputs[0].constant is not None:
        number = _array(value.inputs[0])
        return np.full(value.aval.shape, number.ravel()[0]) if number.size == 1 else None
    return None if value.constant is None else _array(value).copy()


def formula_of(value: Value) -> tuple[Formula, Value] | None:
    """Returns the formula that makes a value of random bits, and these bits; None where it is made in another way."""
    found = _Search(value.aval.shape)
    try:
        found.place(value)
    except _NoFormulaError:
        return None
    return None if found.bits is None else (tuple(found.steps), found.bits)


def evaluate(formula: Formula, bits: Any) -> Any:
    """Returns what a formula makes of random bits, uint32 [N]."""
    made, shapes = [bits], [bits.shape]
    for step in formula:
        inputs = [np.frombuffer(x.content, x.dtype)[0] if isinstance(x, Number) else made[x] for x in step.inputs]
        shape = max((shapes[x] for x in step.inputs if isinstance(x, int)), key=len, default=())
        made.append(step.primitive.bind(*(jnp.broadcast_to(x, shape) for x in inputs), **dict(step.options)))
        shapes.append(shape)
    return made[-1]


class _NoFormulaError(Exception):
    """Says that a value is no formula of random bits."""


class _Search:
    """Collects the steps of a formula for arrays of a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.steps: list[Step] = []
        self.bits: Value | None = None
        self._places: dict[Value, Number | int] = {}
        self._elements = {0}
        """Places of what has a number for each element."""

    def place(self, value: Value) -> Number | int:
        """Returns where a value stands in the formula, of which it becomes a part.

        Raises:
          _NoFormulaError: It can be no part of one.
        """
        if value not in self._places:
            self._places[value] = self._new_place(value)
        return self._places[value]

    def _new_place(self, value: Value) -> Number | int:
        name, shape = value.operation, value.aval.shape
        if value.constant is not None and value.aval.size == 1:
            number = _array(value)
            return Number(number.dtype, number.tobytes())
        if name == "random_bits" and self.bits is None and shape == self.shape:
            options = value.made_by.params
            if options["bit_width"] == 32 and value.inputs[0].aval.shape == ():
                self.bits = value
                return 0
        if name in _RESHAPING and value.inputs[0].aval.size == 1:
            place = self.place(value.inputs[0])
            if place not in self._elements:
                return place
        if name in _ELEMENTWISE:
            inputs = tuple(map(self.place, value.inputs))
            each = not self._elements.isdisjoint(inputs)
            options = tuple(sorted(value.made_by.params.items()))
            if (shape == self.shape if each else value.aval.size == 1) and _is_hashable(options):
                self.steps.append(Step(value.made_by.primitive, options, inputs))
                if each:
                    self._elements.add(len(self.steps))
                return len(self.steps)
        raise _NoFormulaError


def _is_hashable(options: tuple[Any, ...]) -> bool:
    try:
        hash(options)
    except TypeError:
        return False
    return True


def _array(value: Value) -> np.ndarray:
    """Returns a constant as numpy holds it.

    Raises:
      _NoFormulaError: It is a random key.
    """
    if jnp.issubdtype(value.aval.dtype, jax.dtypes.extended):
        raise _NoFormulaError
    return np.asarray(value.constant, value.aval.dtype)
