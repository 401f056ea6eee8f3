"""This module lets one run at a time into a work folder."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from cvjax.engine.guards.lease import Lease
from cvjax.errors import ConfigError
from cvjax.storage import AnyPath, is_remote

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FILE = "run.lock"
"""Name of the file in the work folder that a run holds. The system lets go of it when the process ends, however."""


@contextlib.contextmanager
def one_run(workdir: AnyPath) -> Iterator[None]:
    """Keeps other runs out of a work folder, which it makes if need be. Of several hosts, the main one does so.

    Evaluation and prediction need no lock. Where the file system has no locks, there is none; at a URL there is one of
    another kind, see `cvjax.engine.guards.lease`. A folder that was made here goes again if the run is refused before
    it writes anything.

    Raises:
      ConfigError: Another run is in the folder, or it cannot be made or written to.
    """
    refusal: ConfigError | None = None
    held: int | Lease | None = None
    made = not is_remote(workdir) and not workdir.exists()
    if jax.process_index() == 0:
        try:
            held = Lease(workdir / FILE) if is_remote(workdir) else _take(workdir)
        except ConfigError as error:
            refusal = error
    if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(np.asarray(refusal is not None)):
        refusal = refusal or ConfigError("process 0 of the run was refused; it says why")
    if refusal is not None:
        raise refusal
    try:
        yield
    except BaseException:
        _let_go(workdir, held)
        if made and held is not None:
            with contextlib.suppress(OSError):  # it is not empty
                workdir.rmdir()
        raise
    _let_go(workdir, held)


def _take(workdir: AnyPath) -> int | None:
    """Takes the lock and returns the file's descriptor, or None where there are no locks."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        while True:
            held = os.open(workdir / FILE, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                taken = _lock(held)
                if taken and not _is_there(workdir, held):  # its last holder has removed it since
                    os.close(held)
                    continue
            except BlockingIOError:
                holder = os.read(held, 1000).decode(errors="replace").strip() or "another process"
                os.close(held)
                raise ConfigError(
                    f"{workdir} is in use by {holder}; wait until that run has ended, or give another --workdir"
                ) from None
            except BaseException:
                os.close(held)
                raise
            os.ftruncate(held, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.pwrite(held, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
            return held
    except FileExistsError as error:
        raise ConfigError(f"{workdir} is a file and no folder; give another --workdir") from error
    except OSError as error:
        raise ConfigError(f"{workdir} cannot be written to ({error.strerror}); give another --workdir") from error


def _lock(held: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


def _is_there(workdir: AnyPath, held: int) -> bool:
    try:
        return os.path.samestat(os.stat(workdir / FILE), os.fstat(held))
    except FileNotFoundError:
        return False


def _let_go(workdir: AnyPath, held: int | Lease | None) -> None:
    if held is None:
        return
    if isinstance(held, Lease):
        held.release()
        return
    with contextlib.suppress(OSError):  # removed while it is held: who opens it later finds another file
        (workdir / FILE).unlink()
    os.close(held)
