"""Finds the state dict in what a file holds, under whatever name, and takes wrappers' names off its keys."""

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from cvjax.errors import CheckpointError
from cvjax.weights.readers.pytorch.pickle_records import Opaque
from cvjax.weights.readers.pytorch.revive import revive
from cvjax.weights.readers.pytorch.stored_array import StoredArray

Array = np.ndarray | StoredArray
_DEEPEST = 16
_MOST_VISITS = 100_000
_MOST_LISTED = 12
_MOST_WRAPPERS = 8
_LONGEST_NAME = 200
# What torch.compile, activation checkpoints and FSDP put before the keys of a part, anywhere.
_INNER = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
# What stands before all keys: of DataParallel and AveragedModel, and of a Lightning module's attribute.
_OUTER = ("module.", "model.", "net.")
_COUNT_OF_AVERAGES = "n_averaged"
_LEAVES = {"weight", "bias", "kernel", "scale", "gamma", "beta", "running_mean", "running_var"}
# What a Lightning module may hold beside its net.
_BESIDE = re.compile(r"(?:criterion|loss\w*|metrics?|(?:train|val|valid|test)_\w+)\.")


class _Found(NamedTuple):
    """Describes a dict with arrays: its place in the file, and the arrays."""

    place: str
    arrays: dict[str, Array]


def find_state_dict(content: Any, path: str | pathlib.Path, key: str | None = None) -> dict[str, Array]:
    """Returns the state dict in what a file holds.

    Args:
      content: What the file holds: dicts and lists in each other, with arrays or `StoredArray` at the ends.
      path: Path of the file, for the messages.
      key: Place of the wanted dict, such as "model_ema" or "ema.state_dict"; None takes the only one that there is.

    Returns:
      The arrays under their keys, without the names of DataParallel, torch.compile, AveragedModel and Lightning.

    Raises:
      CheckpointError: There are several state dicts, or none, or none at `key`.
    """
    chosen = revive(content)
    if key is not None:
        chosen = _at(chosen, key)
        if chosen is None:
            raise CheckpointError(
                f"{path}: there is nothing under {key}; {_inventory(content)}, and {path}::NAME takes one"
            )
    found = list(_search(chosen))
    candidates = [one for one in found if _looks_like_a_net(one.arrays)] or found
    if not candidates:
        raise CheckpointError(
            f"{path}: nothing in it looks like weights, as {_inventory(content)}; give a file with a state dict"
        )
    own = [one for one in candidates if not one.place]
    if len(candidates) > 1 and not (key is not None and own):
        prefix = "" if key is None else f"{key}."
        example = next(one.place for one in candidates if one.place)
        raise CheckpointError(
            f"{path}: it holds several state dicts, {_listed(candidates, prefix)}; choose one as "
            f"{path}::{prefix}{example}"
        )
    return unwrapped((own or candidates)[0].arrays)


def unwrapped(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns a state dict without what wrappers put before its keys."""
    entries = {_INNER.sub("", key): value for key, value in arrays.items()}
    for _ in range(_MOST_WRAPPERS):
        rest = {key: value for key, value in entries.items() if key != _COUNT_OF_AVERAGES and not _BESIDE.match(key)}
        for prefix in _OUTER:
            if rest and all(key.startswith(prefix) and len(key) > len(prefix) for key in rest):
                entries = {key.removeprefix(prefix): value for key, value in rest.items()}
                break
        else:
            break
    return entries


def _search(content: Any) -> Iterator[_Found]:
    """Yields all dicts with arrays, each once, from the outermost to the innermost."""
    waiting: list[tuple[str, Any]] = [("", revive(content))]
    seen: set[int] = set()
    revived: dict[int, Any] = {}  # an object may be in many places
    for place, node in waiting:
        if id(node) in seen:
            continue
        seen.add(id(node))
        arrays: dict[str, Array] = {}
        for name, value in _items(node):
            if isinstance(value, Opaque):
                if id(value) not in revived:
                    revived[id(value)] = revive(value)
                value = revived[id(value)]
            if isinstance(value, Array):
                if isinstance(name, str):
                    arrays[name] = value
            elif isinstance(value, dict | list) and place.count(".") < _DEEPEST and len(waiting) < _MOST_VISITS:
                waiting.append((f"{place}.{_name(name)}" if place else _name(name), value))
        if any(value.shape for value in arrays.values()):
            yield _Found(place, arrays)


def _items(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict):
        # An optimizer's state: numbers or names of parameters, each with dicts of arrays like them.
        optimizer = "param_groups" in node and "state" in node
        yield from ((name, value) for name, value in node.items() if not (optimizer and name == "state"))
    elif isinstance(node, list):
        yield from enumerate(node)


def _at(node: Any, key: str) -> Any:
    """Returns what lies at a place, None if there is nothing; names may have dots themselves."""
    node = revive(node)
    children = {_name(name): value for name, value in _children(node)}
    if key in children:
        return revive(children[key])
    for dot in re.finditer(r"\.", key):
        if (
            key[: dot.start()] in children
            and (found := _at(children[key[: dot.start()]], key[dot.end() :])) is not None
        ):
            return found
    return None


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    yield from node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()


def _name(name: Any) -> str:
    """Returns a key as text for a message: short, on one line."""
    text = str(name)[:_LONGEST_NAME] if isinstance(name, str | int | float) else "?"
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _looks_like_a_net(arrays: Mapping[str, Array]) -> bool:
    return any(key.rpartition(".")[2] in _LEAVES for key in arrays)


def _listed(found: list[_Found], prefix: str) -> str:
    counts = [f"{len(one.arrays)} tensor{'s' if len(one.arrays) > 1 else ''}" for one in found]
    names = [f"{prefix}{one.place or '(the file itself)'} ({count})" for one, count in zip(found, counts)]
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _inventory(content: Any) -> str:
    """Says in a few words what a file holds."""
    content = revive(content)
    found = list(_search(content))
    if found and any(one.place for one in found):
        return f"it holds {_listed(found, '')}"
    if isinstance(content, dict) and content:
        names = [_name(name) for name in content]
        return f"it holds {', '.join(names[:_MOST_LISTED])}{' and more' if len(names) > _MOST_LISTED else ''}"
    if isinstance(content, Array):
        return f"it holds one array of shape {list(content.shape)}, without a name"
    return "it holds no dict of arrays"
