"""Counts what a compiled program computes and moves, by kind of operation and by block of the net.

Bytes are counted twice over. "Accessed" is what all operations read and write together, as XLA's own cost analysis
counts it. An array that is copied into a memory on the core and then read there counts three times, and of a copied
slice the whole array counts. "Moved" counts only what crosses the border of the device's main memory (HBM), padding
included. Only that takes its bandwidth.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cvjax.inspection.hlo import ArrayType, Instruction, Program
from cvjax.inspection.products import flops_of, is_product, kind_of

_FREE = frozenset(
    "parameter constant bitcast tuple get-tuple-element after-all partition-id replica-id opt-barrier".split()
)
_CONTROL = frozenset({"while", "call", "conditional", "async-start"})
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_COPIES = frozenset({"copy-start", "slice-start", "copy"})
_SLICES = frozenset({"slice", "dynamic-slice", "gather"})
_POOLS = frozenset({"reduce-window", "select-and-scatter"})

POOL, COLLECTIVE, COPY = "pooling", "collective", "copy"
ELEMENTWISE, ELEMENTWISE_BACKWARD = "normalization and elementwise, forward", "normalization and elementwise, backward"
UPDATE = "update of parameters, and the rest"


@dataclasses.dataclass(frozen=True)
class Cost:
    """Holds what an instruction, or a kind of them, costs a device.

    Attributes:
      flops: Floating-point operations of convolutions and matrix products; others are not counted.
      accessed: Bytes read and written, in any memory.
      moved: Bytes that are read from and written to the main memory.
    """

    flops: int = 0
    accessed: int = 0
    moved: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.accessed + other.accessed, self.moved + other.moved)

    def times(self, number: int) -> "Cost":
        """Returns the cost of so many runs."""
        return Cost(self.flops * number, self.accessed * number, self.moved * number)


@dataclasses.dataclass(frozen=True)
class Collective:
    """Describes what devices exchange in one instruction.

    Attributes:
      kind: Kind of the exchange, such as "all-reduce".
      bytes: Bytes of its result on a device; of a reduce-scatter those of its operand.
      group: Number of devices that exchange; 0 where the text does not say.
      op_name: What it was traced from.
      times: Number of times that it runs.
    """

    kind: str
    bytes: int
    group: int
    op_name: str
    times: int = 1


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """Holds the costs of one run of a program, on each device.

    Attributes:
      kinds: Costs by kind of operation. Copies between memories count with the operation that they serve.
      blocks: Costs by block of the net; "" holds what belongs to none.
      collectives: What devices exchange, in the order of the program.
    """

    kinds: dict[str, Cost]
    blocks: dict[str, Cost]
    collectives: tuple[Collective, ...]

    @property
    def total(self) -> Cost:
        """Returns the sum over all kinds."""
        return sum(self.kinds.values(), Cost())


def cost_of(program: Program) -> ProgramCost:
    """Counts the costs of a compiled program."""
    kinds: defaultdict[str, Cost] = defaultdict(Cost)
    blocks: defaultdict[str, Cost] = defaultdict(Cost)
    collectives: list[Collective] = []
    seen: set[tuple[Any, ...]] = set()
    places: dict[str, _Place] = {}
    for computation, instruction, times in _running(program, program.entry, 1):
        if computation not in places:
            places[computation] = _Place(program, computation)
        where = places[computation]
        cost = where.cost(instruction).times(times)
        kinds[where.kind(instruction)] += cost
        blocks[where.block(instruction)] += cost
        for name, inner in _exchanging(program, computation, instruction):
            channel = re.search(r"channel_id=\d+", inner.attributes)
            if name != computation and channel:  # a fusion that starts an exchange, one that goes on, one that ends it
                same = channel[0], *((one.dtype, one.shape) for one in inner.results)
                if same in seen:
                    continue
                seen.add(same)
            kind = "reduce-scatter" if name.startswith("all-reduce-scatter") else _collective(inner.opcode) or ""
            moved = _exchanged(inner, where if name == computation else _Place(program, name))
            collectives.append(Collective(kind, moved, _group(inner.attributes), inner.op_name, times))
    return ProgramCost(dict(kinds), dict(blocks), tuple(collectives))


def _exchanging(program: Program, computation: str, instruction: Instruction) -> Iterator[tuple[str, Instruction]]:
    """Yields what devices exchange in an instruction, which TPU's compiler may have fused, with its computation."""
    if _collective(instruction.opcode):
        yield computation, instruction
    elif instruction.opcode == "fusion":
        for name, inner in program.inside(instruction):
            if _collective(inner.opcode):
                yield name, inner


def _running(program: Program, computation: str, times: int) -> Iterator[tuple[str, Instruction, int]]:
    """Yields the instructions that a device executes one after another, with the number of times."""
    for instruction in program.computations[computation]:
        if instruction.opcode in _CONTROL:
            for name in instruction.called:
                yield from _running(program, name, times * instruction.trips)
        elif instruction.opcode not in _FREE and not instruction.opcode.endswith("-done"):
            yield computation, instruction, times


class _Place:
    """Looks at the instructions of a computation among their neighbors."""

    def __init__(self, program: Program, computation: str) -> None:
        self.program, self.computation = program, computation
        self.instructions = program.by_name(computation)
        self.users: defaultdict[str, list[Instruction]] = defaultdict(list)
        for instruction in program.computations[computation]:
            for name in instruction.operands:
                self.users[name].append(instruction)

    def cost(self, instruction: Instruction) -> Cost:
        if instruction.opcode == "custom-call" and "ConcatBitcast" in instruction.attributes:
            return Cost()  # neighbors in memory that are called one array
        arrays = [*self._read(instruction), *_written(instruction)]
        source = instruction.results[0].bytes - arrays[0].bytes if instruction.opcode == "slice-start" else 0
        return Cost(
            flops=sum(flops_of(self.program, name, inner) for name, inner in self._products(instruction)),
            accessed=sum(array.bytes for array in arrays) + source,
            moved=sum(array.stored_bytes for array in arrays if array.space == 0),
        )

    def _read(self, instruction: Instruction) -> Iterator[ArrayType]:
        if instruction.opcode == "slice-start":
            yield dataclasses.replace(instruction.results[1], space=instruction.results[0].space)
            return
        if instruction.opcode in _SLICES:
            yield instruction.result
            return
        for number, name in enumerate(instruction.operands):
            operand = self.instructions.get(name)
            if operand is None or not operand.results:
                continue
            parts = self._sliced(instruction, number) if instruction.opcode == "fusion" else []
            if parts:
                yield from (dataclasses.replace(part, space=operand.result.space) for part in parts)
            else:
                yield operand.result

    def _sliced(self, fusion: Instruction, number: int) -> list[ArrayType]:
        """Returns the parts of an operand that a fusion reads, if it reads nothing but slices of it."""
        for computation in fusion.called:
            body = self.program.computations.get(computation, ())
            wanted = [one for one in body if one.opcode == "parameter" and one.attributes == str(number)]
            users = [one for one in body if wanted and wanted[0].name in one.operands]
            if users and all(one.opcode in _SLICES and one.operands[0] == wanted[0].name for one in users):
                return [one.result for one in users]
        return []

    def _products(self, instruction: Instruction) -> Iterator[tuple[str, Instruction]]:
        if is_product(instruction):
            yield self.computation, instruction
        elif instruction.opcode == "fusion":
            for name, inner in self.program.inside(instruction):
                if is_product(inner):
                    yield name, inner

    def kind(self, instruction: Instruction) -> str:
        served = self._served(instruction)
        if served is None:
            return COPY
        if _collective(served.opcode):
            return COLLECTIVE
        products = [inner for _, inner in self._products(served)]
        if products:
            return kind_of(products[0], products[0].op_name or served.op_name)
        opcodes = {served.opcode} | {inner.opcode for _, inner in self.program.inside(served)}
        if opcodes & _POOLS:
            return POOL
        if "jvp(" not in served.op_name:
            return UPDATE
        return ELEMENTWISE_BACKWARD if "transpose(" in served.op_name else ELEMENTWISE

    def block(self, instruction: Instruction) -> str:
        served = self._served(instruction)
        return "" if served is None else block_of(served.op_name)

    def _served(self, instruction: Instruction) -> Instruction | None:
        """Returns the operation that a copy is for: the one that reads it, else the one that made the array."""
        if instruction.opcode not in _COPIES:
            return instruction
        return self._reader(instruction, 0) or self._maker(instruction)

    def _reader(self, instruction: Instruction, depth: int) -> Instruction | None:
        for user in self.users[instruction.name]:
            if user.opcode in _FREE or user.opcode.endswith("-done") or user.opcode in {*_COPIES, "custom-call"}:
                found = self._reader(user, depth + 1) if depth < 16 else None
                if found is not None:
                    return found
            elif user.opcode not in _CONTROL:
                return user
        return None

    def _maker(self, instruction: Instruction) -> Instruction | None:
        for name in instruction.operands:
            operand = self.instructions.get(name)
            if operand is None or operand.opcode == "parameter":
                continue
            if operand.opcode in _FREE or operand.opcode.endswith("-done") or operand.opcode in _COPIES:
                return self._maker(operand)
            return operand
        return None


def block_of(op_name: str) -> str:
    """Returns the block of the net that an operation was traced in, such as "stage1_0" or "backbone/stage1_0".

    Parts of a path that are methods, such as "ResNet.features", are no blocks, and neither is its last part.
    """
    path = op_name.partition("jvp(")[2].partition(")/")[2].split("/")[:-1]
    modules = [part for part in path if re.fullmatch(r"\w+", part)]
    return "/".join(modules[: 2 if modules[:1] == ["backbone"] else 1])


def _written(instruction: Instruction) -> Sequence[ArrayType]:
    if instruction.opcode == "copy-start":
        return instruction.results[:1]
    if instruction.opcode == "slice-start":
        return instruction.results[1:2]
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        return instruction.results[1:2]
    return instruction.results


def _collective(opcode: str) -> str | None:
    kind = opcode.removesuffix("-start")
    return kind if kind in _COLLECTIVES else None


def _exchanged(instruction: Instruction, where: _Place) -> int:
    if instruction.opcode.startswith("reduce-scatter"):
        return sum(where.instructions[name].result.bytes for name in instruction.operands)
    results: Iterable[ArrayType] = instruction.results
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        results = instruction.results[1:2]  # the first one is the operand
    return sum(array.bytes for array in results)


def _group(attributes: str) -> int:
    """Returns the number of devices of a group, in any of the ways in which HLO writes groups down."""
    found = re.search(r"replica_groups=\{\{([\d,]*)\}", attributes)
    if found:
        return len(found[1].split(","))
    found = re.search(r"replica_groups=\[\d+,(\d+)\]", attributes)
    if found:
        return int(found[1])
    found = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes)
    if found:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        group = 1
        for axis in re.findall(r"'(\w+)'", found[2]):
            group *= int(sizes.get(axis, 1))
        return group
    return 0
