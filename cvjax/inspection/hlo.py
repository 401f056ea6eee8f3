"""Reads the text of a compiled program (HLO), as `compiled.as_text()` gives it."""

import dataclasses
import math
import re
from collections.abc import Iterator

_ARRAY = re.compile(r"([a-z]+[0-9]*[a-z0-9]*)\[([\d,<= ]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BITS = re.compile(r"\d+")


@dataclasses.dataclass(frozen=True)
class ArrayType:
    """Describes an array in a program.

    Attributes:
      dtype: Name of the element's type, such as "bf16".
      shape: Sizes of the dimensions.
      order: Dimensions from the innermost to the outermost in memory; empty where the text does not say.
      tile: Sizes to which the innermost dimensions are rounded up; empty without tiles.
      space: Number of the memory that holds it: 0 is the device's main memory (HBM), 1 of a TPU that on the core.
    """

    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = 0

    @property
    def elements(self) -> int:
        """Returns the number of elements."""
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """Returns the bits of an element; 0 for tokens."""
        if self.dtype == "pred":
            return 8
        found = _BITS.search(self.dtype)
        return int(found[0]) if found else 0

    @property
    def bytes(self) -> int:
        """Returns the bytes of all elements, without padding."""
        return math.ceil(self.elements * self.bits / 8)

    @property
    def stored_bytes(self) -> int:
        """Returns the bytes with the padding of the tiles, as they lie in memory."""
        outside_in = [self.shape[axis] for axis in reversed(self.order)] or list(self.shape)
        padded = [1] * (len(self.tile) - len(outside_in)) + outside_in
        for place, size in enumerate(reversed(self.tile), 1):
            padded[-place] = math.ceil(padded[-place] / size) * size
        return math.ceil(math.prod(padded) * self.bits / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """Describes an instruction.

    Attributes:
      name: Its name, which is unique in its computation.
      opcode: Its kind, such as "fusion".
      results: Arrays that it gives, the items of a tuple one by one.
      operands: Names of the instructions that it reads.
      called: Names of the computations that it calls.
      op_name: What it was traced from, such as "jit(train_step)/jvp(ResNet)/head/dot_general"; "" where unknown.
      attributes: The text behind its operands, without the compiler's own settings; of a parameter its number.
      trips: Number of times that a loop runs, where the compiler knows it; 1 otherwise.
    """

    name: str
    opcode: str
    results: tuple[ArrayType, ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    op_name: str
    attributes: str
    trips: int = 1

    @property
    def result(self) -> ArrayType:
        """Returns the first array that it gives."""
        return self.results[0]


@dataclasses.dataclass(frozen=True)
class Program:
    """Holds the computations of a compiled program.

    Attributes:
      computations: Instructions of each computation in their order, by name.
      entry: Name of the computation that runs.
    """

    computations: dict[str, tuple[Instruction, ...]]
    entry: str

    def by_name(self, computation: str) -> dict[str, Instruction]:
        """Returns the instructions of a computation by their names."""
        return {instruction.name: instruction for instruction in self.computations[computation]}

    def inside(self, instruction: Instruction) -> Iterator[tuple[str, Instruction]]:
        """Yields what a fusion holds, at any depth, with the name of the computation of each."""
        for name in instruction.called:
            for inner in self.computations.get(name, ()):
                yield name, inner
                yield from self.inside(inner)


def parse_program(text: str) -> Program:
    """Reads the text of a compiled program.

    Raises:
      ValueError: The text holds no program.
    """
    computations: dict[str, tuple[Instruction, ...]] = {}
    entry, name, body = "", "", []
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            name, body = head[2], []
            entry = name if head[1] else entry
        elif line.startswith("}"):
            computations[name] = tuple(body)
        else:
            found = _INSTRUCTION.match(line)
            if found and name:
                body.append(_instruction(found[2], found[3]))
    if not entry:
        raise ValueError("the text holds no HLO program with an entry")
    return Program(computations, entry)


def parse_types(text: str) -> tuple[ArrayType, ...]:
    """Reads the type of a result: an array, or a tuple of arrays at any depth, whose items follow one another."""
    return tuple(_array(found) for found in _ARRAY.finditer(text))


def _array(found: re.Match[str]) -> ArrayType:
    dtype, sizes, layout = found.groups()
    shape = tuple(int(size.strip(" <=")) for size in sizes.split(",") if size)
    order, _, rest = (layout or "").partition(":")
    tile = re.match(r"T\(([\d,]+)\)", rest)
    space = re.search(r"S\((\d+)\)", rest)
    return ArrayType(
        dtype,
        shape,
        tuple(int(axis) for axis in order.split(",") if axis),
        tuple(map(int, tile[1].split(","))) if tile else (),
        int(space[1]) if space else 0,
    )


def _instruction(name: str, text: str) -> Instruction:
    if text.startswith("("):
        end = _closing(text, 0) + 1
    else:
        end = text.index(" ")
    kind, rest = text[:end], text[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    attributes = rest[closing + 1 :].partition(", backend_config=")[0]
    called: list[str] = []
    for one, several in _CALLED.findall(attributes):
        called += [one] if one else [word.strip(" %") for word in several.split(",")]
    op_name = re.search(r'op_name="((?:[^"\\]|\\.)*)"', attributes)
    trips = _TRIPS.search(rest, closing)
    return Instruction(
        name=name,
        opcode=rest[:opening],
        results=parse_types(re.sub(r"/\*.*?\*/", "", kind)),
        operands=tuple(_NAME.findall(rest[opening : closing + 1])),
        called=tuple(called),
        op_name=op_name[1] if op_name else "",
        attributes=rest[opening + 1 : closing] if rest[:opening] == "parameter" else attributes,
        trips=int(trips[1]) if trips else 1,
    )


def _closing(text: str, opening: int) -> int:
    """Returns the place of the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
    raise ValueError(f"a parenthesis is not closed in {text[:80]!r}")
