"""Worker processes end with the process that started them, and leave its signals to it."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from hearing import hearing

pytestmark = pytest.mark.slow

SCRIPT = """
import pathlib, sys, time
import numpy as np
from toy_records import Records, decode, vary
from cvjax.data.loader import train_batches

if __name__ == "__main__":
    batches = train_batches(Records(), decode, vary, batch_size=4, seed=0, workers=2)
    if "started" in sys.argv:
        next(batches)
    else:
        import threading
        threading.Thread(target=next, args=(batches,), daemon=True).start()
        time.sleep(0.5)  # the workers are still importing
    print("ready", flush=True)
    time.sleep(600)
"""
RECORDS = """
import os, pathlib
import numpy as np

class Records:
    name, split, class_names, void = "noise", "train", ("a", "b"), ()
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return {"id": str(index)}

def decode(record):
    return {"image": np.zeros((64, 64, 3), np.uint8), "mask": np.zeros((64, 64), np.uint8)}

def vary(image, target, generator):
    return image, target
"""


def children(pid):
    """All processes below one, by the kernel's table."""
    below, found = {}, []
    for place in pathlib.Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                below.setdefault(int(fields[1]), []).append(int(place.name))
    wanted = [pid]
    while wanted:
        wanted, found = (
            [c for p in wanted for c in below.get(p, [])],
            found + [c for p in wanted for c in below.get(p, [])],
        )
    return found


def alive(pid):
    try:
        return (pathlib.Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, seconds=20):
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    return not any(map(alive, pids))


@pytest.fixture
def loading(tmp_path):
    """Starts a process that reads with two workers, in a group of its own."""
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "toy_records.py").write_text(RECORDS)
    started = []

    def start(*words):
        process = subprocess.Popen(
            hearing([sys.executable, "main.py", *words]),
            cwd=tmp_path,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path])),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="reads the process table of Linux")
@pytest.mark.parametrize("moment", ["started", "starting"])
def test_no_worker_outlives_a_killed_process(loading, moment):
    process = loading(moment)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    assert gone(workers)


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="reads the process table of Linux")
@pytest.mark.parametrize("moment", ["started", "starting"])
def test_workers_leave_the_signals_of_a_terminal_to_the_process_that_started_them(loading, moment):
    process = loading(moment)
    workers = children(process.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for worker in workers:
            os.kill(worker, number)
    time.sleep(1)
    assert all(map(alive, workers))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert gone(workers)
    assert err.count("KeyboardInterrupt") <= 1, err  # that of the script itself
    assert "Process " not in err
