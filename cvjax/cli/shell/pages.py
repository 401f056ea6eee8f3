"""This module lays out a page of help: usage, a sentence, what there is to choose, examples."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence

WIDEST = 100
"""Largest number of columns of a page."""


def page(usage: str, sentence: str, sections: Mapping[str, Mapping[str, str]], examples: Sequence[str] = ()) -> str:
    """Returns a page of help.

    Args:
      usage: Usage of the command.
      sentence: What it does.
      sections: Rows of each section by its title: a name, and what it is.
      examples: Commands to show.
    """
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    lines = [f"usage: {usage}", "", *textwrap.wrap(sentence, width)]
    names = [name for rows in sections.values() for name in rows]
    column = min(max(map(len, names), default=0) + 4, width // 2)
    for title, rows in sections.items():
        lines += ["", f"{title}:"]
        for name, what in rows.items():
            lines += textwrap.wrap(
                what, width, initial_indent=f"  {name}".ljust(column), subsequent_indent=" " * column
            ) or [f"  {name}"]
    return "\n".join(lines) + "\n" + examples_of(examples)


def examples_of(examples: Sequence[str]) -> str:
    """Returns the last part of a page: commands to copy."""
    return "".join(f"{line}\n" for line in ("", "examples:", *(f"  {example}" for example in examples)) if examples)
