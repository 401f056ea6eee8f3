"""Processes that hear signals, also where the tests themselves were started deaf to them, as by nohup or with &."""

import sys
from collections.abc import Sequence

_RESET = (
    "import os, signal, sys\n"
    "for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_DFL)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def hearing(command: Sequence[str]) -> list[str]:
    """The command line of a process with the usual answers to signals; the command's first word is a path."""
    return [sys.executable, "-c", _RESET, *command]
