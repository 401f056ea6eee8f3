"""Reads Python's pickles without running or importing anything that they name.

A pickle is a program for a small machine with a stack. Python's own machine imports the functions that the program
names and calls them, which is why a strange pickle may do anything. The machine here has the same instructions, but a
name stays a name (`Global`), and what would be built by calling it is a record of the call (`Opaque`). The few calls
whose results matter are handed to a function of the caller's, which knows them by name.

The time and the memory that a pickle may take grow with its size alone: there is a limit to the number of its
instructions, lengths are compared with what is left of the file, and nothing here recurses.
"""

import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from cvjax.weights.readers.pytorch.pickle_records import Global, Opaque, PickleError, plain_key

# A state dict takes about forty a tensor. At some hundred bytes each they stay far below a gigabyte.
_MOST_INSTRUCTIONS = 5_000_000
_LONGEST_LINE = 1 << 20
# As Python 2 writes a string in protocol 0.
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


# Gets the name and the arguments of a call and returns its result, or `Opaque`.
Call = Callable[[str, tuple[Any, ...]], Any]
# Gets what the pickle calls a persistent id, and returns the object that is stored elsewhere.
Load = Callable[[Any], Any]


def read_pickle(file: BinaryIO, size: int, call: Call = Opaque, load: Load | None = None) -> Any:
    """Reads one pickle from where a file stands, and leaves the file behind it.

    Args:
      file: File that is open for reading in binary; it can seek.
      size: Length of the file in bytes.
      call: Function that returns what a call by name results in. Whatever it copies, it has to bound itself.
      load: Function that returns the object of a persistent id; by default there is none.

    Returns:
      The object, of dicts, lists (for sets too), tuples, numbers, strings, bytes, `Global`, `Opaque`, and what `call`
      and `load` return.

    Raises:
      PickleError: The pickle is damaged or too long.
    """
    machine = _Machine(file, size, call, load)
    try:
        return machine.run()
    except PickleError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error) as error:
        raise PickleError(f"its pickle is damaged before byte {file.tell()}") from error


class _Machine:
    """Runs the instructions of one pickle."""

    def __init__(self, file: BinaryIO, size: int, call: Call, load: Load | None) -> None:
        self.file, self.size, self.call, self.load = file, size, call, load
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        read, steps = self.file.read, _INSTRUCTIONS
        for _ in range(_MOST_INSTRUCTIONS):
            code = read(1)
            if code == b".":
                return self.stack.pop()
            step = steps.get(code)
            if step is None:
                raise PickleError(
                    f"it has no pickle instruction at byte {self.file.tell() - 1}" if code else "it is cut short"
                )
            step(self)
        raise PickleError(f"its pickle has more than {_MOST_INSTRUCTIONS} instructions")

    def take(self, count: int) -> bytes:
        # A length beyond the end would make `read` allocate for nothing.
        if count > 4096 and count > self.size - self.file.tell():
            raise PickleError("it is cut short")
        data = self.file.read(count)
        if len(data) < count:
            raise PickleError("it is cut short")
        return data

    def line(self) -> bytes:
        line = self.file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise PickleError("it is cut short")
        return line[:-1]

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def counted(self, form: str) -> bytes:
        count = self.number(form)
        if count < 0:
            raise PickleError("its pickle has a negative length")
        return self.take(count)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def popped(self) -> list[Any]:
        """Takes off what lies above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def build(self, function: Any, arguments: Any) -> None:
        if not isinstance(arguments, tuple):
            raise PickleError("its pickle is damaged: a call without arguments")
        if isinstance(function, Global):
            self.push(self.call(function.name, arguments))
        else:  # what a call returned is called
            self.push(Opaque("?", arguments))

    def reduce(self) -> None:
        arguments = self.stack.pop()
        self.build(self.stack.pop(), arguments)

    def reduce_with_names(self) -> None:
        self.stack.pop()
        self.reduce()

    def call_of_items(self) -> None:
        function, *arguments = self.popped()
        self.build(function, tuple(arguments))

    def instance(self) -> None:
        function = self.global_of_lines()
        self.build(function, tuple(self.popped()))

    def global_of_lines(self) -> Global:
        module, name = self.line().decode(), self.line().decode()
        return Global(f"{module}.{name}")

    def global_of_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("its pickle is damaged: a name that is no text")
        self.push(Global(f"{module}.{name}"))

    def set_state(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Opaque):
            self.stack[-1].state = state

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise PickleError("its pickle is damaged: items for what is no list")

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        entries = target.entries if isinstance(target, Opaque) else target
        if not isinstance(entries, dict) or len(items) % 2:
            raise PickleError("its pickle is damaged: keys for what is no dict")
        entries.update(zip(map(plain_key, items[::2]), items[1::2]))

    def make_dict(self) -> None:
        items = self.popped()
        self.push({})
        self.update(items)

    def persistent(self, name: Any) -> None:
        if self.load is None:
            raise PickleError("its pickle refers to data beside it, which are not there")
        self.push(self.load(name))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _python2_text(data: bytes) -> str | bytes:
    """Returns a string of Python 2: text, if it is ASCII."""
    return data.decode("ascii") if data.isascii() else data


def _quoted(line: bytes) -> str | bytes:
    line = line.strip()
    if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
        raise PickleError("its pickle is damaged: a string without quotes")
    return _python2_text(_ESCAPE.sub(_unescaped, line[1:-1]))


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes.fromhex(code[1:].decode()) if len(code) == 3 else _ESCAPED.get(code, code)


def _integer(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line)  # how protocol 0 writes False and True


def _tuple_of(machine: _Machine, count: int) -> None:
    if len(machine.stack) < count:
        raise PickleError("its pickle is damaged: a tuple of too few items")
    items = tuple(machine.stack[-count:])
    del machine.stack[-count:]
    machine.push(items)


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # the protocol
    b"\x95": lambda m: m.take(8),  # the length of a frame
    b"(": _Machine.mark,
    b"0": lambda m: m.stack.pop(),
    b"1": _Machine.popped,
    b"2": lambda m: m.push(m.stack[-1]),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(_integer(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"L": lambda m: m.push(int(m.line().rstrip(b"L"))),
    b"\x8a": lambda m: m.push(_long(m.counted("<B"))),
    b"\x8b": lambda m: m.push(_long(m.counted("<i"))),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"S": lambda m: m.push(_quoted(m.line())),
    b"T": lambda m: m.push(_python2_text(m.counted("<i"))),
    b"U": lambda m: m.push(_python2_text(m.counted("<B"))),
    b"B": lambda m: m.push(m.counted("<I")),
    b"C": lambda m: m.push(m.counted("<B")),
    b"\x8e": lambda m: m.push(m.counted("<Q")),
    b"\x96": lambda m: m.push(m.counted("<Q")),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": lambda m: m.push(_text(m.counted("<I"))),
    b"\x8c": lambda m: m.push(_text(m.counted("<B"))),
    b"\x8d": lambda m: m.push(_text(m.counted("<Q"))),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.popped()),
    b"a": lambda m: m.extend([m.stack.pop()]),
    b"e": lambda m: m.extend(m.popped()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.popped())),
    b"\x85": lambda m: _tuple_of(m, 1),
    b"\x86": lambda m: _tuple_of(m, 2),
    b"\x87": lambda m: _tuple_of(m, 3),
    b"}": lambda m: m.push({}),
    b"d": _Machine.make_dict,
    b"s": lambda m: m.update([m.stack.pop(), m.stack.pop()][::-1]),
    b"u": lambda m: m.update(m.popped()),
    b"\x8f": lambda m: m.push([]),
    b"\x90": lambda m: m.extend(m.popped()),
    b"\x91": lambda m: m.push(m.popped()),
    b"g": lambda m: m.push(m.memo[int(m.line())]),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"p": lambda m: m.put(int(m.line())),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"\x82": lambda m: m.push(Global(f"extension {m.number('<B')}")),
    b"\x83": lambda m: m.push(Global(f"extension {m.number('<H')}")),
    b"\x84": lambda m: m.push(Global(f"extension {m.number('<i')}")),
    b"c": lambda m: m.push(m.global_of_lines()),
    b"\x93": _Machine.global_of_stack,
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,
    b"\x92": _Machine.reduce_with_names,
    b"o": _Machine.call_of_items,
    b"i": _Machine.instance,
    b"b": _Machine.set_state,
    b"P": lambda m: m.persistent(m.line().decode()),
    b"Q": lambda m: m.persistent(m.stack.pop()),
}
