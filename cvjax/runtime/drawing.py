"""Draws the first parameters of a net without compiling the net, nor a program for each of its parameters.

Almost every parameter that is drawn is the same: random bits, a number for each element, and a formula of that number
alone. In one program for the whole net, each parameter had a loop and kernels of its own, which took longer to compile
than to run. Here one program makes the bits of any parameter, and one for each formula takes numbers in a row, whatever
parameters they belong to. A net has few formulas: one for each deviation that its initializers come to.
"""

import dataclasses
import functools
import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.extend.random import threefry_2x32

from cvjax.runtime.compiler import compiler_options
from cvjax.runtime.formulas import Formula, Value, constant_of, evaluate, formula_of, live, values_of

T = TypeVar("T")

_ROW = 1 << 16
"""Numbers that a program works on at a time, of a formula with fewer numbers a multiple of `_LEAST`."""
_LEAST = 1 << 12


def draw(function: Callable[[jax.Array], T], key: jax.Array) -> T:
    """Evaluates a function that draws arrays from a key, at little cost of compiling.

    On CPU the result is that of `jax.jit` with the options of a program that runs once, bit for bit. What is no formula
    of random bits is left to such a program, which has nothing else in it. Other platforms compile the whole function.

    Args:
      function: Function from a key to a tree of arrays. It may compute anything besides, which is left out.
      key: Random key.
    """
    options = compiler_options(jax.devices()[0].platform, once=True)
    config: Any = jax.config
    # Only there are the bits of an element a function of the key and its position alone.
    if not (options and config.jax_threefry_partitionable and str(jax.random.key_impl(key)) == "threefry2x32"):
        return jax.jit(function, compiler_options=options)(key)
    program, shapes = jax.make_jaxpr(function, return_shape=True)(key)
    (argument,), values = values_of(program)
    drawn: dict[int, Any] = {}
    alike: dict[Formula, list[_Wanted]] = defaultdict(list)
    keys = {argument: key}
    for number, value in enumerate(values):
        if (constant := constant_of(value)) is not None:
            drawn[number] = constant
        elif (found := formula_of(value)) is not None:
            formula, bits = found
            alike[formula].append(_Wanted(number, value.aval, _key(bits.inputs[0], keys)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for arrays in pool.map(_draw_alike, alike, alike.values()):
            drawn |= arrays
    # Put, not made by `jnp.array`, which compiles a copy for each shape.
    leaves = jax.device_put(_completed(drawn, program, options, key))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def fill(function: Callable[[Any], T], tree: Any) -> T:
    """Evaluates a function whose results are constants or arguments for the most part, as an optimizer's memory is.

    Operation by operation, as JAX evaluates it, each shape of zeros is a program to compile. Here constants are numpy
    arrays, and one program makes what is neither.

    Args:
      function: Function from a tree of arrays to another one.
      tree: What it is called with.
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(tree)
    arguments, values = values_of(program)
    given = jax.tree.leaves(tree)
    known = dict(zip(arguments, given, strict=True))
    made = {number: known[value] for number, value in enumerate(values) if value in known}
    for number, value in enumerate(values):
        if number not in made and (constant := constant_of(value)) is not None:
            made[number] = constant
    return jax.tree.unflatten(jax.tree.structure(shapes), _completed(made, program, {}, *given))


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """An array to draw: its number among the results, shape and dtype, and the key of its bits, uint32 [2]."""

    number: int
    aval: Any
    key: np.ndarray


def _key(value: Value, keys: dict[Value, jax.Array]) -> np.ndarray:
    """Returns a key as numbers; `keys` holds those that are known and takes those that are made on the way."""

    def made(inner: Value) -> Any:
        if inner.constant is not None:
            return inner.constant
        if inner not in keys:
            results = inner.made_by.primitive.bind(*map(made, inner.inputs), **inner.made_by.params)
            keys[inner] = results[inner.output] if inner.made_by.primitive.multiple_results else results
        return keys[inner]

    return np.asarray(jax.random.key_data(made(value)))


def _draw_alike(formula: Formula, members: Sequence[_Wanted]) -> dict[int, np.ndarray]:
    """Draws arrays of one formula, by their numbers."""
    sizes = [math.prod(member.aval.shape) for member in members]
    ends = np.cumsum(sizes).tolist()
    row = min(_ROW, _up(ends[-1], _LEAST))
    bits = np.zeros(_up(ends[-1], row), np.uint32)
    for member, size, end in zip(members, sizes, ends, strict=True):
        for start in range(0, size, _ROW):
            part = bits[end - size + start : min(end, end - size + start + _ROW)]
            part[:] = np.asarray(_bits(member.key, np.uint32(start)))[: len(part)]
    # Not optimized: LLVM would join products and sums, which round differently then.
    program = jax.jit(functools.partial(evaluate, formula), compiler_options=compiler_options("cpu", once=True))
    made = np.empty(bits.shape, members[0].aval.dtype)
    for start in range(0, len(bits), row):
        made[start : start + row] = program(bits[start : start + row])
    return {
        member.number: made[end - size : end].reshape(member.aval.shape)
        for member, size, end in zip(members, sizes, ends, strict=True)
    }


def _up(count: int, unit: int) -> int:
    """Returns the next multiple of a unit, at least one."""
    return max(1, -(-count // unit)) * unit


@jax.jit
def _bits(key: jax.Array, start: jax.Array) -> jax.Array:
    """Returns the bits of a row of elements from position `start` on, as `jax.random.bits` makes them, uint32."""
    positions = jax.lax.iota(np.uint32, _ROW) + start
    hashed = threefry_2x32(key, jnp.concatenate([jnp.zeros_like(positions), positions]))
    return hashed[:_ROW] ^ hashed[_ROW:]


def _completed(
    made: dict[int, Any], program: core.ClosedJaxpr, options: dict[str, str], *arguments: jax.Array
) -> list[Any]:
    """Returns all results of a traced function: those that are made, by number, and the rest by one program."""
    results = program.jaxpr.outvars
    rest = [number for number in range(len(results)) if number not in made]
    if rest:
        wanted = [results[number] for number in rest]
        some = program.jaxpr.replace(eqns=live(program.jaxpr, wanted), outvars=wanted)
        compute = jax.jit(core.jaxpr_as_fun(core.ClosedJaxpr(some, program.consts)), compiler_options=options)
        made |= zip(rest, compute(*arguments), strict=True)
    return [made[number] for number in range(len(results))]
