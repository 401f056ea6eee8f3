"""This module talks to the terminal, which may fail without costing more than its own lines.

A terminal may lack a character (LANG=C), a pipe may be closed by its reader (`| head`), a disk that takes the output
may be full. None of these ends a command or changes its status.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, TextIO, cast

from rich.console import Console

_LIKE = {0x2588: "#"}
"""Characters that have a likeness everywhere; others are written as their numbers, so that names stay different."""


class Tolerant:
    """Passes text on to a stream; writes what the stream cannot show as it can, and nothing once the stream is gone.

    Args:
      stream: Stream of text, such as `sys.stdout`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._gone = stream, False

    def write(self, text: str) -> int:
        """Writes text and returns its length, whatever became of it."""
        if not self._gone:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                shown = text.translate(_LIKE).encode(encoding, "backslashreplace").decode(encoding)
                with self._until_gone():
                    self._stream.write(shown)
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        if not self._gone:
            with self._until_gone():
                self._stream.flush()

    @contextlib.contextmanager
    def _until_gone(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._gone = True
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # What the stream holds back goes nowhere: else Python complains while it ends, with a status of its own.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and self._stream is not sys.stderr:
            with contextlib.suppress(OSError, ValueError):
                print(f"warning: the output is cut off ({error.strerror})", file=sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Silent:
    """Takes text and shows none of it. What must be seen is written to `loud`, the stream in whose place it stands.

    Args:
      stream: Stream of text, such as `sys.stderr`.
    """

    def __init__(self, stream: Any) -> None:
        self.loud = stream

    def write(self, text: str) -> int:
        """Drops text and returns its length."""
        return len(text)

    def isatty(self) -> bool:
        """Returns False: nothing is drawn that moves."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loud, name)


class Aside:
    """Writes where another stream writes, and keeps standard output free for `machine`'s readers.

    Args:
      stream: Stream that takes the text, such as `sys.stderr`.
      machine: Standard output.
    """

    def __init__(self, stream: Any, machine: Any) -> None:
        self._stream, self.machine = stream, machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def loud_stderr() -> Any:
    """Returns the stream for what must be seen, also by those who asked for quiet."""
    return getattr(sys.stderr, "loud", sys.stderr)


def machine_stdout() -> Any:
    """Returns standard output for a result that a program reads; people's text may go elsewhere meanwhile."""
    return getattr(sys.stdout, "machine", sys.stdout)


def tolerant(stream: Any) -> Any:
    """Returns a stream that never fails, see `Tolerant`; None, a process without that stream, becomes a silent one."""
    if stream is None:
        return io.StringIO()
    return stream if isinstance(stream, Tolerant) else Tolerant(stream)


@contextlib.contextmanager
def tolerant_output(*, quiet: bool = False, machine: bool = False) -> Iterator[None]:
    """Makes stdout and stderr streams that never fail, for the time of a command.

    Args:
      quiet: Show nothing on stderr but errors, and no notes.
      machine: Keep stdout for the result that a program reads; people's text goes to stderr.
    """
    before = sys.stdout, sys.stderr
    out, err = tolerant(sys.stdout), tolerant(sys.stderr)
    sys.stderr = Silent(err) if quiet else err
    sys.stdout = Aside(sys.stderr, out) if machine else out
    try:
        yield
    finally:
        for stream in (out, err):
            stream.flush()
        sys.stdout, sys.stderr = before


def make_console(*, stderr: bool = False, note: bool = False) -> Console:
    """Returns a console that prints text as it is: no part of a name or path is markup, an emoji or a number to color.

    Args:
      stderr: Whether it prints on stderr.
      note: Whether its lines are only about what is being done, and not shown with `--quiet`.
    """
    quiet = hasattr(sys.stderr, "loud") and note
    stream: Any = sys.stderr if stderr else sys.stdout
    stream = stream if isinstance(stream, (Silent, Aside)) else tolerant(stream)
    return Console(file=cast(IO[str], stream), markup=False, emoji=False, highlight=False, quiet=quiet)
