"""Inputs that a command must refuse, and what it says: the rows of docs/errors.md.

Each page `tests/errors/rows_*.py` holds a list `ROWS` of them. The test beside these pages runs every row and compares
what it said with the table.
"""

import dataclasses
import io
import os
import pathlib
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock


@dataclasses.dataclass(frozen=True)
class BadInput:
    """An input and the command that refuses it.

    Attributes:
      what: What is wrong, in the words of the person who has it; unique in the table.
      command: Command line after `python -m`; "DATA" in it is the input's folder.
      make: Function that writes the input into the folder.
      names: Words that the sentence must hold: the file, the values that are wrong, the flag that mends it.
    """

    what: str
    command: str
    make: Callable[[pathlib.Path], None]
    names: tuple[str, ...]


def refusal(row: BadInput, folder: pathlib.Path) -> str:
    """Runs a row in this process and returns the sentence that it ends with, with the folder as DATA.

    Raises:
      AssertionError: The command does not end with status 2 and one sentence on stderr.
    """
    row.make(folder)
    module, *argv = [word.replace("DATA", os.fspath(folder)) for word in shlex.split(row.command)]
    out, err, status = io.StringIO(), io.StringIO(), None
    imported = sys.modules.pop(module, None)  # or runpy warns that it runs a second time
    with (
        mock.patch.object(sys, "argv", [module, *argv]),
        mock.patch("threading.excepthook"),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            status = ended.code
        finally:
            if imported is not None:
                sys.modules[module] = imported
    said = [line for line in err.getvalue().splitlines() if not line.startswith("warning: ")]
    assert status == 2, f"{row.what}: status {status} after\n{out.getvalue()}{err.getvalue()}"
    assert len(said) == 1, f"{row.what}: not one line but\n{err.getvalue()}"
    assert said[0].startswith("error: "), said[0]
    sentence = said[0].removeprefix("error: ")
    assert "Traceback" not in sentence
    assert not re.search(r"[.!?] [A-Z]", sentence), f"more than a sentence: {sentence}"
    return sentence.replace(os.fspath(folder), "DATA")


def as_row(row: BadInput, sentence: str) -> str:
    """Returns the line of the table for a row."""
    return f"| {row.what} | {_cell(sentence)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
