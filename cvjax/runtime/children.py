"""Ties worker processes to the process that started them: they end with it, and leave its signals to it."""

import contextlib
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Iterator

_THE_PARENTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Starts processes that do not hear Ctrl-C, SIGTERM and the end of the terminal, from their first instruction on.

    The terminal and batch systems send these to all processes of a command. The one that started the others decides
    what becomes of them, and a worker that dies of the signal would take the run's last save with it. The signals are
    blocked in this thread, and a new process or thread takes that over.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _THE_PARENTS)
    try:
        # It unblocks some signals in this thread when it starts its process, so this comes first.
        multiprocessing.resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _THE_PARENTS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Makes this process, if `multiprocessing` started it, end as soon as its parent has, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        # The parent holds the other end of a pipe, which the system closes. (Linux' PR_SET_PDEATHSIG would come when
        # the parent's thread ends that started this process.)
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="cvjax-end-with-parent", daemon=True).start()
