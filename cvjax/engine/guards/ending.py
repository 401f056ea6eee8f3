"""This module decides with what words and which status a process ends, and ends one at once from any thread."""

import contextlib
import errno
import os
import sys
from typing import NoReturn

from cvjax.errors import UserError

LOST = 75
"""Status of a process that ends because of another host or a hang: EX_TEMPFAIL of sysexits.h, "try again later"."""

_NO_FOLDER = {errno.EEXIST, errno.ENOTDIR}
_PLACES = {
    *_NO_FOLDER,
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG),
}
"""Errors of the system that say that nothing can be written where it was asked for, or nothing more."""

_SHOW_CURSOR = "\x1b[?25h"


def ending_of(error: BaseException) -> tuple[int, str]:
    """Returns the status and the line with which an error ends a command; no line for a bug, whose traceback tells."""
    if isinstance(error, UserError):
        return 2, f"error: {error}"
    if isinstance(error, OSError) and error.errno in _PLACES:
        place = f"{error.filename}: " if error.filename else ""
        why = "a file is in the place of a folder" if error.errno in _NO_FOLDER else error.strerror
        return 2, f"error: {place}{why}; give another place, or make room there"
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code, "stopped by a signal"
    return 1, ""


def end_process(line: str, status: int) -> NoReturn:
    """Prints a line on stderr, and ends the process without another word of any thread.

    Neither `finally` clauses nor JAX's own end run: that one waits for all hosts, and these may never come. A work
    folder's lock, worker processes and files are the system's to let go of, as after a kill.

    Args:
      line: What to say; nothing is printed for an empty one.
      status: Exit status of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the end comes, whatever becomes of the terminal
            if stream is sys.stderr and line:
                # A bar that was live has hidden the cursor.
                stream = getattr(stream, "loud", stream)  # an error is seen with --quiet, too
                stream.write((_SHOW_CURSOR + "\n" if stream.isatty() else "") + line + "\n")
            stream.flush()
    os._exit(status)
