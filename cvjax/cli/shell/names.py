"""This module says what was probably meant by a name that does not exist."""

import difflib
import sys
from collections.abc import Iterable
from typing import NoReturn


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name that is most like another one, or None where none is like it."""
    folded = {_folded(known): known for known in names}
    found = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def _folded(name: str) -> str:
    return name.lower().replace("_", "-").lstrip("-")  # else all flags are alike


def no_such(what: str, name: str, names: Iterable[str], way: str) -> str:
    """Returns the sentence about a name that does not exist.

    Args:
      what: What the name should be of, such as "command".
      name: Name that was given.
      names: Names that exist.
      way: Command that lists them.
    """
    near = nearest(name, names)
    return f"there is no {what} {name!r}; " + (f"did you mean {near}? " if near else "") + f"{way} lists them"


def refuse(sentence: str) -> NoReturn:
    """Ends the process with a user's error, in words and status as `run_command` does, but without its imports."""
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)
