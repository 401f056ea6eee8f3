"""Keeps batches on the device ahead of the step that wants them."""

import atexit
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from cvjax.errors import ConfigError

Host = TypeVar("Host")
Device = TypeVar("Device")


def prefetch_to_device(
    batches: Iterator[Host], place: Callable[[Host], Device], size: int = 2
) -> Generator[Device, None, None]:
    """Yields `place(batch)` for every batch, in order, with up to `size` of them ready ahead.

    A background thread draws and places batches from the first `next()` on, so that decoding and the copy to the device
    overlap with the step. The generator takes `batches` over. When it ends or is closed, it stops the thread and calls
    `batches.close()` where there is one.

    Args:
      batches: Host batches, drawn from one thread only.
      place: Function from a host batch to a device batch, such as a `jax.device_put` with a sharding.
      size: Number of placed batches to keep ahead, 1 or more; each holds device memory.

    Raises:
      ConfigError: `size` is below 1.
      Exception: `batches` or `place` raised it. It is raised again at the batch that it belongs to.
    """
    if size < 1:
        raise ConfigError(f"size is {size}: keep 1 or more batches ahead.")
    return _prefetch(batches, place, size)


def _prefetch(batches: Iterator[Host], place: Callable[[Host], Device], size: int) -> Generator[Any, None, None]:
    # `grain.experimental.device_put` runs ahead as well, but places with `jax.device_put` alone. That makes no global
    # array of the rows of several hosts, and not the layout that pmap takes.
    slots = threading.Semaphore(size)  # Taken before a batch is drawn, so that no more than `size` wait.
    ready: queue.SimpleQueue[list[Any] | BaseException] = queue.SimpleQueue()
    stopping = threading.Event()

    def produce() -> None:
        try:
            while slots.acquire() and not stopping.is_set():
                ready.put([place(next(batches))])
        except BaseException as error:  # The consumer's to raise; StopIteration is the end.
            ready.put(error)
        finally:
            # Closed here and not by the consumer: a generator cannot be closed while another thread runs it.
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    # A daemon, or an unfinished generator would keep the interpreter from exiting. `stop` at exit then ends it in
    # order, because a thread that is still placing arrays while the interpreter goes down can crash it.
    thread = threading.Thread(target=produce, name="cvjax-prefetch", daemon=True)

    def stop() -> None:
        stopping.set()
        slots.release()
        thread.join()
        while not ready.empty():  # What nobody will fetch goes now, not while modules are torn down.
            ready.get()

    atexit.register(stop)
    thread.start()
    try:
        while True:
            outcome = ready.get()
            if isinstance(outcome, StopIteration):
                return
            if isinstance(outcome, BaseException):
                raise outcome
            slots.release()
            yield outcome.pop()  # Not kept here: the memory is free as soon as the consumer is done with it.
    finally:
        stop()
        atexit.unregister(stop)
