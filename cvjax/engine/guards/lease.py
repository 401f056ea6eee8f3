"""This module lets one run at a time into a work folder at a URL, where no system frees the lock of a killed process.

The lock is a small file that the run writes anew every few seconds. Who finds one waits: if the file changes, that run
lives, and the newcomer is refused; if it does not, that run was killed, and the newcomer takes over. A run that was
killed on this same machine is known at once.

Making a file that is not there is atomic at gs:// and s3://, and so is taking over: the newcomer first makes a file
named after the run that was killed, which one of several newcomers alone can, and then writes the lock anew. Whoever is
killed between the two is taken over from in the same way, by the name of that file's run.
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
        claims, until = self._claims(), time.monotonic() + patience
        found = claims[-1] if claims else None
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
                now = self._claims()
                if not now:
                    claims = []
                    break
                if now[-1] != found:
                    raise _in_use(self._path.parent, now[-1])
        claim = self._after(claims[-1]) if claims else self._path
        try:
            claim.create_bytes(self._content())
        except FileExistsError:
            raise _in_use(self._path.parent, [{}, *self._claims()][-1]) from None
        if not claims:
            return
        if (self._read(self._path) or {}).get("run") != claims[0].get("run"):  # somebody was through meanwhile
            claim.unlink(missing_ok=True)
            raise _in_use(self._path.parent, self._read(self._path) or {})
        self._path.write_bytes(self._content())
        for taken in claims:
            self._after(taken).unlink(missing_ok=True)

    def _claims(self) -> list[dict[str, Any]]:
        """Returns what the lock holds, and behind it the runs that are taking over; none if the folder is free."""
        claims, path = [], self._path
        while found := self._read(path):
            claims.append(found)
            behind = self._after(found)
            if behind == path:  # what is no lock of ours has no name for who comes next
                break
            path = behind
        return claims

    def _after(self, found: dict[str, Any]) -> UrlPath:
        """Returns the file of who takes over from a run."""
        run = str(found.get("run", ""))
        return self._path.with_name(f"{self._path.name}.{run if run.isalnum() else 'unknown'}")

    def _content(self) -> bytes:
        return json.dumps(self._mine | {"beat": self._count}).encode()

    def _read(self, path: UrlPath) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_bytes())
            return found if isinstance(found, dict) else {"holder": "another process"}
        except FileNotFoundError:
            return None
        except ValueError:  # it is being written
            return {"holder": "another process"}

    def _live(self) -> None:
        while not self._over.wait(self._beat):
            with contextlib.suppress(OSError):  # a store that is out of reach for a while
                found = self._read(self._path)
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
            if (self._read(self._path) or {}).get("run") == self._mine["run"]:
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
