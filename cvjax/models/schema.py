"""A schema makes a command line of an architecture: the fields of its Flax module, with types, defaults and sentences.

A module is a dataclass already, but it cannot be a command line as it is: some fields hold functions, and some hold
other modules. `model_fields` gives the fields that a person can type. They are nested where a field is a backbone or
the options of BatchNorm.
"""

import dataclasses
import functools
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import flax.linen as nn

from cvjax.models.registry import model_class, model_options, option_fields

_LEAVES = (bool, int, float, str, type(None))
_SECTION = re.compile(r"^Attributes:[^\n]*\n((?: +[^\n]+\n|\n(?=  ))*)", re.MULTILINE)
_ENTRY = re.compile(r"^ {2}([a-z_0-9]+(?:, [a-z_0-9]+)*): ((?:.+\n?)(?: {4}.+\n?)*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Field:
    """Describes one field of a schema.

    Attributes:
      name: Name of the field.
      kind: Type of its values, or a list of fields where the value has fields of its own.
      default: Default of the architecture.
      sentence: Description of the field in the docstring of its class.
    """

    name: str
    kind: Any
    default: Any
    sentence: str


def model_fields(name: str) -> list[Field]:
    """Returns the options of a model that a person can type; the type of the computation comes first.

    Of a backbone's fields it leaves out those that the net decides.

    Raises:
      ConfigError: An unknown name.
    """
    options = model_options(name)
    dtype = Field(
        "dtype",
        Literal["float32", "bfloat16"],
        "float32",
        "Type of the computation; parameters are float32 in any case. bfloat16 is right on TPU and recent GPUs.",
    )
    return [dtype, *_fields(model_class(name), options, hidden=frozenset())]


def _fields(owner: type, values: Mapping[str, Any], hidden: frozenset[str]) -> Iterator[Field]:
    hints, sentences = get_type_hints(owner), attribute_sentences(owner)
    for name, default in values.items():
        if name in hidden:
            continue
        sentence = sentences.get(name, "")
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            above = frozenset(values) if isinstance(default, nn.Module) else frozenset()
            nested = list(_fields(type(default), option_fields(default), hidden=above))
            if nested:
                yield Field(name, nested, default, sentence)
        elif _can_be_typed(hints[name]):
            yield Field(name, hints[name], default, sentence)


def _can_be_typed(kind: Any, depth: int = 0) -> bool:
    """Returns whether a command line can hold values of a type: numbers, words, and tuples of them."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return True
    if origin in (Union, types.UnionType):
        return all(_can_be_typed(argument, depth) for argument in arguments)
    if origin is tuple:
        variable = Ellipsis in arguments
        if variable and depth:  # where one row would end is not to be seen
            return False
        return all(_can_be_typed(argument, depth + 1) for argument in arguments if argument is not Ellipsis)
    return kind in _LEAVES


@functools.cache
def attribute_sentences(owner: type) -> dict[str, str]:
    """Returns what the docstrings of a class and of its bases say about each attribute, by name."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        # Without the indent of the source, which Python 3.13 takes away itself.
        for section in _SECTION.findall(inspect.cleandoc(base.__dict__.get("__doc__") or "") + "\n"):
            for names, sentence in _ENTRY.findall(section + "\n"):
                found |= dict.fromkeys(names.split(", "), " ".join(sentence.split()))
    return found


def default_module(module: nn.Module) -> Any:
    """Declares a module as the default of a module's field.

    It is declared as a factory, so that the class has no attribute of that name: `flax.nnx.bridge.ToNNX` would take it
    for a method, since modules can be called.
    """
    return dataclasses.field(default_factory=lambda: module)
