"""Griffe, which reads the sources for the site's reference, calls this to learn two habits of the house.

An argument's line may be about several ("a, b: Boxes."), which Griffe takes for one argument of that name; and a Flax
module is called with its fields, as a dataclass is, though nothing in its source says so but its base.
"""

import re
from collections.abc import Iterator
from typing import Any

from griffe import (
    Attribute,
    Class,
    Docstring,
    Extension,
    Function,
    Module,
    Object,
    Parameter,
    ParameterKind,
    Parameters,
)

_SECTION = re.compile(r"^(\s*)(Args|Attributes):$")
_SEVERAL = re.compile(r"^(\s+)(\w+(?:, \w+)+): ")


class Habits(Extension):
    """Gives each of several arguments a line of its own, and Flax modules the signature that they have."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Goes through a package once it is read."""
        for found in _objects(pkg):
            if found.docstring is not None:
                found.docstring.value = each_by_itself(found.docstring)
            if isinstance(found, Class) and "__init__" not in found.members:
                fields = _fields(found)
                if fields:
                    own = Parameter("self", kind=ParameterKind.positional_or_keyword)
                    call = Function("__init__", parameters=Parameters(own, *fields.values()), parent=found)
                    found.set_member("__init__", call)


def each_by_itself(docstring: Docstring) -> str:
    """Returns a docstring in which each argument has its own line and text."""
    lines: list[str] = []
    several: re.Match[str] | None = None
    item: list[str] = []
    section = None

    def finish() -> None:
        for name in several[2].split(", ") if several else [None]:
            lines.extend([f"{several[1]}{name}: {item[0]}", *item[1:]] if several and name else item)
        item.clear()

    for line in docstring.value.splitlines():
        depth = len(line) - len(line.lstrip())
        head = _SECTION.match(line)
        if section is not None and line.strip() and depth <= section:
            section = None
        starts = section is not None and depth == section + 2
        if head or section is None or starts or not line.strip():
            finish()
            several = _SEVERAL.match(line) if starts else None
            item.append(line[several.end() :] if several else line)
        else:
            item.append(line)
        if head:
            section = len(head[1])
    finish()
    return "\n".join(lines)


def _objects(parent: Object) -> Iterator[Object]:
    yield parent
    for member in parent.members.values():
        if isinstance(member, Object):  # no alias
            yield from _objects(member)


def _fields(module: Class) -> dict[str, Parameter] | None:
    """The fields of a Flax module by name, its bases' first; None for what is none, or has fields of Flax's own."""
    fields: dict[str, Parameter] = {}
    for base in module.bases:
        path = getattr(base, "canonical_path", str(base))
        if path == "flax.linen.Module":
            continue
        try:
            parent = module.package[path.removeprefix(f"{module.package.path}.")]
        except KeyError:
            return None
        inherited = _fields(parent.final_target if parent.is_alias else parent) if parent.is_class else None
        if inherited is None:
            return None
        fields |= inherited
    if not module.bases:
        return None
    for member in module.members.values():
        if isinstance(member, Attribute) and member.annotation is not None and "property" not in member.labels:
            if "class-attribute" in member.labels and "instance-attribute" not in member.labels:
                continue  # a ClassVar
            kind = ParameterKind.positional_or_keyword
            fields[member.name] = Parameter(member.name, annotation=member.annotation, kind=kind, default=member.value)
    return fields
