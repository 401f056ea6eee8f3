"""This module decides how every command ends, and what every command takes.

| status | meaning |
| --- | --- |
| 0 | done |
| 1 | a bug of ours; a line says where its traceback lies |
| 2 | a mistake that a person can put right: a flag, a file, a setting, a full disk |
| 75 | another host was lost, or the run hung: try again later, with `--resume` |
| 130, 143 | stopped by Ctrl-C, or by SIGTERM; a run has saved its state |
"""

import contextlib
import itertools
import json
import logging
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cvjax.engine.guards.ending import ending_of
from cvjax.engine.guards.terminal import loud_stderr, machine_stdout, tolerant_output
from cvjax.errors import ConfigError
from cvjax.files import json_text
from cvjax.runtime.host_memory import keep_host_memory
from cvjax.storage import write_result

BUG = 1
"""Status of a command that a bug of ours ends."""


class Asked(NamedTuple):
    """Says what a command line asks of any command.

    Attributes:
      quiet: Print errors and the result alone.
      traceback: Print where an error comes from.
      machine: Standard output is for the result as JSON.
    """

    quiet: bool = False
    traceback: bool = False
    machine: bool = False


def take_asked(words: Sequence[str]) -> tuple[list[str], Asked]:
    """Takes off a command line what every command takes, and returns the other words and what was asked."""
    rest = [word for word in words if word not in ("--quiet", "--traceback")]
    machine = "--json=-" in rest or ("--json", "-") in itertools.pairwise(rest)
    return rest, Asked("--quiet" in words, "--traceback" in words, machine)


def take_flag(words: Sequence[str], flag: str) -> tuple[list[str], str | None]:
    """Takes a flag and its value off a command line; returns the other words and the value, None without the flag.

    Raises:
      ConfigError: No value stands behind the flag.
    """
    rest, value = list(words), None
    for place, word in enumerate(words):
        if word.startswith(f"{flag}="):
            del rest[place]
            return rest, word.partition("=")[2]
        if word == flag:
            if place + 1 == len(words):
                raise ConfigError(f"{flag} needs a value behind it")
            value = rest[place + 1]
            del rest[place : place + 2]
            return rest, value
    return rest, value


def run_command(main: Callable[[], None]) -> None:
    """Calls a command's main function, which reads the process's own arguments.

    A `UserError` prints "error: " and its sentence on stderr and ends the process with status 2, and so does a place
    that cannot be written to. Ctrl-C ends it with status 130, as shells expect. Anything else is a bug: its traceback
    goes into a file that a line names. With `--traceback` among the arguments tracebacks are printed; with `--quiet`
    only errors and the result; with `--json -` the result alone is on stdout. A terminal that fails changes nothing,
    see `cvjax.engine.guards.terminal`.
    """
    threading.excepthook = _thread_failed
    keep_host_memory()  # before JAX starts its threads, each of which would get a heap of its own
    sys.argv[1:], asked = take_asked(sys.argv[1:])
    with tolerant_output(quiet=asked.quiet, machine=asked.machine), _plain_log():
        try:
            main()
        except (Exception, KeyboardInterrupt) as error:
            status, line = ending_of(error)
            if asked.traceback:
                traceback.print_exception(error, file=loud_stderr())
            print(line or _about_bug(error, shown=asked.traceback), file=loud_stderr())
            sys.exit(status if line else BUG)


def write_json_result(place: str | os.PathLike | None, value: Any) -> None:
    """Writes the result of a command where its `--json` says.

    Args:
      place: File or URL; `-` is standard output, and None writes nothing.
      value: What JSON can hold, or text that is JSON already.

    Raises:
      ConfigError: The file cannot be written.
    """
    if place is None:
        return
    text = value if isinstance(value, str) else json_text(value, indent=2)
    if os.fspath(place) == "-":
        print(text.rstrip("\n"), file=machine_stdout(), flush=True)
    else:
        write_result(os.fspath(place), text.encode())


def _about_bug(error: BaseException, *, shown: bool) -> str:
    """Says that an error is a bug, and where its traceback is: a run of days may not happen again for it."""
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    line = f"error: {what}; this is a bug of cvjax, please report it"
    if shown:
        return line
    try:
        with tempfile.NamedTemporaryFile("w", prefix="cvjax-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(json.dumps(sys.argv) + "\n")
            traceback.print_exception(error, file=file)
    except OSError:
        traceback.print_exception(error, file=loud_stderr())
        return line
    return f"{line} with its traceback, which is in {file.name} and which --traceback prints"


class _Lines(logging.Handler):
    """Prints messages as they are, each once, on what is stderr at that time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._said:
            self._said.add(text)
            print(text, file=sys.stderr)


@contextlib.contextmanager
def _plain_log() -> Iterator[None]:
    """Prints what our modules log as lines of ours; orbax would give them the form of absl's debug messages."""
    log, lines = logging.getLogger("cvjax"), _Lines()
    propagated, log.propagate = log.propagate, False
    log.addHandler(lines)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.propagate = propagated


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Reports an error in a thread, except a full disk. The main thread reports that one itself, once and in words."""
    if not isinstance(failure.exc_value, OSError):
        traceback.print_exception(failure.exc_value, file=loud_stderr())
