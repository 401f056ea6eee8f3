"""The walk goes over a traced model's equations once, counts them by layer, and carries receptive fields along."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from cvjax.errors import ConfigError
from cvjax.inspection.count import describe, describe_global_pool, multiply_adds
from cvjax.inspection.field import Constant, Field, Known, array_of
from cvjax.inspection.report import LayerInfo
from cvjax.inspection.rules import propagate
from cvjax.inspection.span import NOTHING
from cvjax.inspection.trace import LEAVE, Call, Trace, scope
from cvjax.ops.geometry import pair

_LOOPS = ("scan", "while")


def layers_and_blocks(trace: Trace, images: jax.ShapeDtypeStruct) -> tuple[list[LayerInfo], list[LayerInfo]]:
    """Returns the layers of a model, and the modules that are made of layers, each in the order in which they end.

    A layer is a module that computes something and holds parameters of its own or no other modules. Pools and products
    outside of such modules are layers, too. Of the blocks, only name, kind, shape, field and stride are filled in.

    Raises:
      ConfigError: Maps that run out of pixels.
    """
    walk = _Walk(trace, pair(images.shape[1:3]))
    variables = [None] * (len(trace.jaxpr.jaxpr.invars) - 1)
    walk.run(trace.jaxpr, [*variables, Field.of_images(images.shape)], None)
    return walk.layers, walk.blocks


@dataclass
class _Tally:
    """Adds up the equations of one call."""

    equations: int = 0
    macs: int = 0
    activations: int = 0
    kind: str | None = None
    kind_macs: int = -1

    def add(self, kind: str | None, macs: int, activations: int) -> None:
        self.equations += 1
        self.macs += macs
        self.activations += activations
        if kind is not None and macs > self.kind_macs:
            self.kind, self.kind_macs = kind, macs


class _Walk:
    def __init__(self, trace: Trace, image_size: tuple[int, int]) -> None:
        self.calls = trace.calls
        self.parameters: Mapping[str, Any] = trace.variables.get("params", {})
        self.image_size = image_size
        self.tallies: dict[int | None, _Tally] = defaultdict(_Tally)
        self.fields: dict[int, Known] = {}
        self.layers: list[LayerInfo] = []
        self.blocks: list[LayerInfo] = []
        self.named: Counter[str] = Counter()
        self.counted: set[tuple[str, ...]] = set()
        self.rounds = 1

    def run(self, program: ClosedJaxpr | Jaxpr, inputs: Sequence[Known], outside: int | None) -> list[Known]:
        """Walks a (sub)program that was called in the call `outside`, and returns what is known of its results."""
        jaxpr, values = (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())
        known: dict[Any, Known] = dict(zip(jaxpr.invars, inputs))
        known |= {var: Constant(lambda value=value: value) for var, value in zip(jaxpr.constvars, values)}

        def read(var: Any) -> Known:
            return Constant(lambda: var.val) if isinstance(var, Literal) else known[var]

        for equation in jaxpr.eqns:
            number = scope(equation)
            results = self.step(equation, [read(v) for v in equation.invars], outside if number is None else number)
            known |= zip(equation.outvars, results)
        return [read(var) for var in jaxpr.outvars]

    def step(self, equation: JaxprEqn, inputs: list[Known], number: int | None) -> Sequence[Known]:
        """Walks one equation, which belongs to the call of this number, and returns what is known of its results."""
        if equation.primitive is LEAVE:
            return [self.leave(equation, inputs[0])]
        name, p = equation.primitive.name, equation.params
        if "branches" in p:
            return self.run(p["branches"][-1], inputs[1:], number)
        program = next((p[key] for key in ("jaxpr", "call_jaxpr", "body_jaxpr") if key in p), None)
        if program is not None and name not in _LOOPS:
            return self.run(program, inputs, number)
        if program is not None:
            self.loop(equation, program, inputs, number)
        else:
            self.work(equation, inputs, number)
        return propagate(equation, inputs)

    def loop(self, equation: JaxprEqn, program: ClosedJaxpr, inputs: list[Known], number: int | None) -> None:
        """Counts the work of a loop: all rounds of a scan, and one round of a loop whose length depends on the data."""
        inputs = inputs[equation.params.get("cond_nconsts", 0) :]
        rounds, self.rounds = self.rounds, self.rounds * equation.params.get("length", 1)
        self.run(program, [known.collapsed() if isinstance(known, Field) else None for known in inputs], number)
        self.rounds = rounds

    def work(self, equation: JaxprEqn, inputs: list[Known], number: int | None) -> None:
        """Counts the work of an equation, for its layer or, outside of layers, as an entry of its own."""
        output = array_of(equation.outvars[0])
        if 0 in getattr(output, "shape", ()) and any(isinstance(known, Field) for known in inputs):
            height, width = self.image_size
            after = f" after {self.layers[-1].name}" if self.layers else ""
            raise ConfigError(f"images of {height}x{width} pixels leave empty maps{after}; give larger ones")
        macs = self.rounds * multiply_adds(equation, inputs)
        activations = self.rounds * output.size if macs else 0
        kind = describe(equation) or describe_global_pool(equation, inputs)
        if number is not None and self.is_layer(self.calls[number]):
            self.tallies[number].add(kind, macs, activations)
        elif kind is not None and (macs or "Pool" in kind):
            known = propagate(equation, inputs)[0]
            path = () if number is None else self.calls[number].path
            name = "/".join((*path, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.split()[0]).lower()))
            self.named[name] += 1
            if self.named[name] > 1:
                name += f"_{self.named[name]}"
            self.layers.append(self.info(name, kind, output.shape, known, 0, macs, activations))

    def leave(self, equation: JaxprEqn, known: Known) -> Known:
        """Ends a call that has this result, and adds it to the layers or blocks."""
        number, shape = equation.params["call"], array_of(equation.invars[0]).shape
        call = self.calls[number]
        if not equation.params["main"]:
            return known
        if call.deformable:
            # Offsets start at zero: then every tap reads where those of the convolution that predicts them do.
            known = self.fields.get(call.children[0])
        self.fields[number] = known
        tally, params = self.tallies[number], self.own_params(call)
        name = "/".join(call.path) or call.kind
        if not self.is_layer(call):
            if call.path:
                self.blocks.append(self.info(name, call.kind, shape, known, 0, 0, 0))
        elif tally.equations or params:
            kind, macs, activations = tally.kind or call.kind, tally.macs, tally.activations
            if call.deformable:
                kernel = _at(self.parameters, call.path)["kernel"]
                macs, activations = math.prod(shape[1:3]) * kernel.size, math.prod(shape)
                kind = f"Deform{self.tallies[call.children[0]].kind}"
            params = 0 if call.path in self.counted else params
            self.counted.add(call.path)
            self.layers.append(self.info(name, kind, shape, known, params, macs, activations))
        return known

    def is_layer(self, call: Call) -> bool:
        return not call.children or self.own_params(call) > 0

    def own_params(self, call: Call) -> int:
        own = _at(self.parameters, call.path)
        return sum(leaf.size for leaf in own.values() if not isinstance(leaf, Mapping))

    def info(
        self, name: str, kind: str, shape: Sequence[int], known: Known, params: int, macs: int, activations: int
    ) -> LayerInfo:
        field = stride = None
        gated = whole = False
        if isinstance(known, Field):
            field = known.rows.size, known.columns.size
            whole = all(s.covers(pixels) for s, pixels in zip(known.spans, self.image_size))
            if all(s.dim is not None for s in known.spans):
                stride = known.rows.pace, known.columns.pace
                gated = any(s.gate != NOTHING for s in known.spans)
        return LayerInfo(name, kind, tuple(shape[1:]), params, macs, activations, field, stride, gated, whole)


def _at(tree: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    for name in path:
        tree = tree.get(name, {})
    return tree
