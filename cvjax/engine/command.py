"""This module decides how every command ends: a user's mistake is one line on stderr, a bug of ours is a traceback."""

import errno
import sys
import threading
from collections.abc import Callable

from cvjax.engine.guards.terminal import tolerant_output
from cvjax.errors import UserError
from cvjax.runtime.host_memory import keep_host_memory

_NO_FOLDER = {errno.EEXIST, errno.ENOTDIR}
_PLACES = {
    *_NO_FOLDER,
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG),
}
"""Errors of the system that say that nothing can be written where it was asked for, or nothing more."""


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
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.errno not in _PLACES:
                raise
            place = f"{error.filename}: " if error.filename else ""
            why = "a file is in the place of a folder" if error.errno in _NO_FOLDER else error.strerror
            print(f"error: {place}{why}; give another place, or make room there", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Reports an error in a thread, except a full disk. The main thread reports that one itself, once and in words."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
