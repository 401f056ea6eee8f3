"""This module decides how every command ends: a user's mistake is one line on stderr, a bug of ours is a traceback."""

import sys
import threading
from collections.abc import Callable

from cvjax.engine.guards.ending import ending_of
from cvjax.engine.guards.terminal import tolerant_output
from cvjax.errors import UserError
from cvjax.runtime.host_memory import keep_host_memory


def run_command(main: Callable[[], None]) -> None:
    """Calls a command's main function.

    A `UserError` prints "error: " and its sentence on stderr and ends the process with status 2. Options that cannot be
    parsed end it with the same status, and so does a place that cannot be written to. Ctrl-C ends it with status 130,
    as shells expect. Anything else keeps its traceback. A terminal that fails changes nothing, see
    `cvjax.engine.guards.terminal`.
    """
    threading.excepthook = _thread_failed
    keep_host_memory()  # before JAX starts its threads, each of which would get a heap of its own
    with tolerant_output():
        try:
            main()
        except (UserError, OSError, KeyboardInterrupt) as error:
            status, line = ending_of(error)
            if not line:
                raise
            print(line, file=sys.stderr)
            sys.exit(status)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Reports an error in a thread, except a full disk. The main thread reports that one itself, once and in words."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
