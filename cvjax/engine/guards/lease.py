"""This module lets one run at a time into a work folder at a URL, where no system frees the lock of a killed process.

The lock is a small file that the run writes anew every few seconds. Who finds one waits: if the file changes, that run
lives, and the newcomer is refused; if it does not, that run was killed, and the newcomer takes over. A run that was
killed on this same machine is known at once. Making the file is atomic at gs:// and s3://. Taking over is not: of two
runs that take over in the same moment, both may go on, and the one that lost says so at its next beat.
"""

import contextlib
import json
import os
import pathlib
import socket
import sys
import threading
import time
import uuid
from typing import Any

from cvjax.errors import ConfigError
from cvjax.storage import UrlPath

BEAT = 10.0
"""Seconds between two signs of life."""
PATIENCE = 40.0
"""Seconds without one after which a run counts as killed."""


class Lease:
    """Holds the lock file of a work folder until `release`.

    Args:
      path: URL of the file.
      beat, patience: Seconds, as the constants of these names.

    Raises:
      ConfigError: Another run is in the folder, or it cannot be written to.
    """

    def __init__(self, path: UrlPath, *, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self._path, self._beat, self._count = path, beat, 0
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._mine = {
            "holder": f"process {os.getpid()} on {socket.gethostname()} since {since}",
            "machine": _machine(),
            "process": os.getpid(),
            "run": uuid.uuid4().hex,
        }
        self._over = threading.Event()
        try:
            self._take(patience)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"{path.parent} cannot be written to ({reason}); check the address and your permissions, or give"
                " another --workdir"
            ) from error
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)
        self._thread.start()

    def _take(self, patience: float) -> None:
        found, until = self._read(), time.monotonic() + patience
        if found and not _is_dead(found):
            holder = found.get("holder", "another process")
            print(
                f"{self._path.parent} was in use by {holder}; waiting up to {patience:.0f} s for a sign of life of that"
                " run",
                file=sys.stderr,
                flush=True,
            )
            while time.monotonic() < until:
                time.sleep(min(self._beat, patience) / 5)
                now = self._read()
                if not now:
                    break
                if now != found:
                    raise _in_use(self._path.parent, now)
        if found:
            self._path.unlink(missing_ok=True)
        try:
            self._path.create_bytes(self._content())
        except FileExistsError:
            raise _in_use(self._path.parent, self._read() or {}) from None

    def _content(self) -> bytes:
        return json.dumps(self._mine | {"beat": self._count}).encode()

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._path.read_bytes())
            return found if isinstance(found, dict) else {"holder": "another process"}
        except FileNotFoundError:
            return None
        except ValueError:  # it is being written
            return {"holder": "another process"}

    def _live(self) -> None:
        while not self._over.wait(self._beat):
            with contextlib.suppress(OSError):  # a store that is out of reach for a while
                found = self._read()
                if found is not None and found.get("run") != self._mine["run"]:
                    other = found.get("holder", "another process")
                    warning = f"warning: {self._path.parent} has been taken over by {other}; stop one of the two"
                    print(warning, file=sys.stderr, flush=True)
                    return
                self._count += 1
                self._path.write_bytes(self._content())

    def release(self) -> None:
        """Removes the file, if it is still this run's."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if (self._read() or {}).get("run") == self._mine["run"]:
                self._path.unlink(missing_ok=True)


def _in_use(workdir: object, found: dict[str, Any]) -> ConfigError:
    holder = found.get("holder", "another process")
    return ConfigError(f"{workdir} is in use by {holder}; wait until that run has ended, or give another --workdir")


def _machine() -> str:
    """Returns what names this machine until it is started again."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    return ""


def _is_dead(found: dict[str, Any]) -> bool:
    """Returns whether a lock is that of a process of this machine that is no more."""
    process = found.get("process")
    if not found.get("machine") or found["machine"] != _machine() or not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
