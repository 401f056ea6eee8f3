"""A program that carries the connections of one process to another address, and outlives the other end of them.

`python relay.py HOST PORT` prints the port of this machine that it listens on. It prints `lost` once the other end has
closed a connection, or has broken it off, and keeps its own side of that connection open. It ends when its standard
input does. It imports nothing of this package and no JAX, so that it starts at once and takes little memory.

JAX's client ends its process with a C++ stack the moment that the connection to process 0 breaks. Behind a relay it
hears of that when its own time-outs are over, and until then `cvjax.engine.guards.hosts` can say what happened.
"""

import contextlib
import os
import signal
import socket
import sys
import threading

_BYTES = 1 << 16


def serve(host: str, port: int) -> None:
    """Carries connections until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_carry, args=(near, host, port), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    while os.read(sys.stdin.fileno(), _BYTES):
        pass
    os._exit(0)  # the threads wait for sockets


def _carry(near: socket.socket, host: str, port: int) -> None:
    """Carries one connection until the near end closes it."""
    try:
        far = socket.create_connection((host, port), timeout=20)
    except OSError:
        near.close()  # it is not there yet, and JAX tries again
        return
    far.settimeout(None)
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    closed = threading.Event()

    def downward() -> None:
        _copy(far, near)
        if not closed.is_set():
            print("lost", flush=True)

    threading.Thread(target=downward, daemon=True).start()
    _copy(near, far)
    if not _is_open(near):
        closed.set()
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Passes on what comes from one end until either end is gone."""
    with contextlib.suppress(OSError):
        while data := source.recv(_BYTES):
            sink.sendall(data)


def _is_open(end: socket.socket) -> bool:
    """Returns whether the process on this machine still holds its end of a connection."""
    try:
        return bool(end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what ends it is the end of the process that started it
    serve(sys.argv[1], int(sys.argv[2]))
