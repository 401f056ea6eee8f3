"""What a pickle's names and objects become where they are not built, see `cvjax.weights.readers.pytorch.pickled`."""

import dataclasses
from typing import Any

_PLAIN = (str, bytes, bool, float, type(None))


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """Stands for the class or function that a pickle names, such as "collections.OrderedDict"."""

    name: str


@dataclasses.dataclass(eq=False, slots=True)
class Opaque:
    """Stands for an object that was not built.

    Attributes:
      name: Name of the class or function that would have been called.
      arguments: Arguments of the call.
      state: What the object would have been set to, usually a dict of its attributes.
      entries: What it would have been given as keys and values, if its class is a kind of dict.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    entries: dict[Any, Any] = dataclasses.field(default_factory=dict)


class PickleError(ValueError):
    """Reports a pickle that is damaged, or that asks for more than its size warrants."""


def plain_key(value: Any) -> Any:
    """Returns a key of a dict as it is if it is plain, and otherwise a record of it that equals nothing else."""
    # Python hashes a tuple item by item each time, which takes forever where tuples hold one another, and ints of a
    # file's choice may all have one hash.
    if isinstance(value, _PLAIN) or (isinstance(value, int) and value.bit_length() <= 64):
        return value
    return Opaque("key", (value,))
