"""This module joins this process to the others of a run, in a way that leaves the last word to this package.

JAX ends a process with a C++ stack where process 0 breaks off or where hosts do not come. So what connects to process
0 goes through a relay (`cvjax.runtime.relay`), and a timer speaks before JAX's own does.
"""

import contextlib
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
from jax._src import distributed

from cvjax.engine.guards.ending import LOST, end_process
from cvjax.runtime import relay
from cvjax.runtime.children import deaf_children

private: Any = distributed  # JAX offers neither the address of a cluster that it found nor its texts in public
_LATER = 60  # seconds that JAX's time-outs have more than ours


def join(*, wait: float, silence: float, **given: Any) -> threading.Event:
    """Calls `jax.distributed.initialize`, and returns an event that is set once process 0 breaks off.

    Args:
      wait: Seconds for which hosts wait for one another; a sentence ends the process after that.
      silence: Seconds after which a silent host is lost; JAX waits longer.
      **given: Arguments of `jax.distributed.initialize`; without any, JAX finds the cluster.
    """
    lost, come = threading.Event(), threading.Event()

    def late() -> None:
        if not come.wait(wait):
            line = (
                f"error: the other hosts have not come within {wait:g} seconds; start the command on every host, with"
                " one address of process 0 that all of them reach, or raise --cluster.wait"
            )
            end_process(line, LOST)

    threading.Thread(target=late, name="cvjax-joining", daemon=True).start()
    try:
        with _relayed(lost):
            jax.distributed.initialize(
                **given,
                initialization_timeout=int(wait) + _LATER,
                heartbeat_timeout_seconds=int(silence) + _LATER,
                shutdown_timeout_seconds=_LATER,
            )
    finally:
        come.set()
    return lost


def store() -> Any:
    """Returns the texts that all hosts of this run share."""
    return private.global_state.client


def place() -> tuple[int, int]:
    """Returns the number of this process and how many there are; unlike `jax.process_index`, it asks no device."""
    return private.global_state.process_id, private.global_state.num_processes


@contextlib.contextmanager
def _relayed(lost: threading.Event) -> Iterator[None]:
    """Makes JAX's client, on hosts other than 0, connect through a relay while the block runs."""
    library: Any = getattr(private, "_jax", None)
    if not hasattr(library, "get_distributed_runtime_client"):
        yield  # a JAX that does this elsewhere: hosts join all the same, and a lost process 0 gets JAX's own words
        return

    def get_client(address: str, number: int, *args: Any, **options: Any) -> Any:
        if number:  # process 0 holds the other end itself
            address = _start_relay(address, lost)
        return library.get_distributed_runtime_client(address, number, *args, **options)

    names = {name: getattr(library, name) for name in dir(library)}
    private._jax = SimpleNamespace(**names | {"get_distributed_runtime_client": get_client})
    try:
        yield
    finally:
        private._jax = library


def _start_relay(address: str, lost: threading.Event) -> str:
    """Starts a relay and returns its address."""
    host, _, port = address.rpartition(":")
    command = [sys.executable, "-I", "-S", str(pathlib.Path(relay.__file__)), host.strip("[]"), port]
    with deaf_children():
        # It ends when the pipe to its standard input does, so however this process ends.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    near = process.stdout.readline().strip()

    def listen() -> None:
        assert process.stdout is not None
        for _ in process.stdout:
            lost.set()

    threading.Thread(target=listen, name="cvjax-relay", daemon=True).start()
    return f"127.0.0.1:{near}"
