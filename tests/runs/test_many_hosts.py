"""Two hosts, as processes of their own, that are killed, preempted and started again: one run that was never stopped.

CVJAX_MOMENTS=5 python -m pytest -m slow -n 0 -s tests/runs/test_many_hosts.py     kills one of two that often instead,
                                                                                   with the time-outs of a real run
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import pytest
from hearing import hearing
from tiny_run import ROOT

from cvjax.data.order import shuffled_index
from cvjax.engine.checkpoint import complete_steps
from cvjax.engine.distributed import ClusterConfig

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "tests" / "helpers" / "one_host.py"
MOMENTS = int(os.environ.get("CVJAX_MOMENTS", 0))
KILLS = [(number % 2, signal.SIGKILL) for number in range(MOMENTS)]
STEPS, BATCH, TRAINING, VALIDATION = (100 if MOMENTS else 24), 8, 24, 13


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def hosts(folder, workdir, count=2, **asked):
    """So many processes of a run; their output is in files beside the work folder."""
    port, started = free_port(), []
    for number in range(count):
        opened = workdir.with_name(f"{workdir.name}-opened-{number}.txt")
        place = {"manual_dir": str(folder), "workdir": str(workdir), "opened": str(opened), "port": port}
        own = asked | place | {"number": number, "count": count}
        with open(workdir.with_name(f"{workdir.name}-said-{number}.txt"), "w") as said:
            process = subprocess.Popen(
                hearing([sys.executable, str(SCRIPT), json.dumps(own)]),
                env=dict(os.environ, PYTHONPATH=str(ROOT), JAX_NUM_CPU_DEVICES="1", JAX_PLATFORMS="cpu"),
                stdout=said,
                stderr=said,
            )
        process.said = pathlib.Path(said.name)
        started.append(process)
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def ended(processes, seconds=300):
    """The statuses of the processes, once all have ended, and the lines that say why."""
    statuses = [process.wait(timeout=seconds) for process in processes]
    said = [process.said.read_text() for process in processes]
    assert not any("Check failure stack trace" in text or "Aborted" in text for text in said), said
    return statuses, [[line for line in text.splitlines() if line.startswith("error: ")] for text in said]


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def opened(workdir, number, split):
    lines = workdir.with_name(f"{workdir.name}-opened-{number}.txt").read_text().splitlines()
    return collections.Counter(int(line.split()[1]) for line in lines if line.startswith(split))


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run of two hosts that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    with hosts(folder, workdir, run={"steps": STEPS}) as processes:
        assert ended(processes) == ([0, 0], [[], []])
    return workdir


def test_each_host_opens_its_own_records_and_the_split_is_scored_once(whole):
    for number in range(2):
        rows = range(number * BATCH // 2, (number + 1) * BATCH // 2)
        places = [k * BATCH + row for k in range(STEPS + 30) for row in rows]  # the loader reads some batches ahead
        wanted = [shuffled_index(place % TRAINING, TRAINING, 0, place // TRAINING) for place in places]
        seen = opened(whole, number, "train")
        assert collections.Counter(wanted[: STEPS * len(rows)]) <= seen <= collections.Counter(wanted)
        # As few batches as there can be, as even as they can be, and half of each for either host.
        size = -(-VALIDATION // -(-VALIDATION // BATCH))
        own = range(number * -(-size // 2), (number + 1) * -(-size // 2))
        assert opened(whole, number, "val") == collections.Counter(i for i in range(VALIDATION) if i % size in own)
    assert json.loads((whole / "report.json").read_text())["examples"] == VALIDATION


def wait_for(process, workdir, sign, more):
    """Waits until a run's log is longer than `sign` by so many bytes."""
    log, until = workdir / "metrics.jsonl", time.monotonic() + 300
    while (log.stat().st_size if log.exists() else 0) < sign + more and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)


def interrupt(folder, workdir, victim, number, rng):
    """Sends a signal to one of two hosts at a random moment; returns how both end, and after how many seconds."""
    log = workdir / "metrics.jsonl"
    before = log.stat().st_size if log.exists() else 0
    silence = ClusterConfig().silence if MOMENTS else 6.0
    with hosts(folder, workdir, run={"steps": STEPS, "resume": True}, pause=0.05, silence=silence) as processes:
        wait_for(processes[0], workdir, before, 200)
        time.sleep(rng.uniform(0, 4 if MOMENTS else 1))
        assert processes[victim].poll() is None
        processes[victim].send_signal(number)
        began = time.monotonic()
        statuses, lines = ended(processes, 90)
        return statuses, lines, time.monotonic() - began


@pytest.mark.parametrize("moments", [KILLS or [(0, signal.SIGKILL), (1, signal.SIGTERM)]])
def test_hosts_that_are_killed_or_preempted_are_one_run_never_stopped(folder, whole, tmp_path, moments):
    workdir, rng = tmp_path / "run", random.Random(MOMENTS)
    for victim, number in moments:
        statuses, lines, seconds = interrupt(folder, workdir, victim, number, rng)
        print(f"host {victim} got {number}: {statuses} after {seconds:.1f} s", lines)
        assert seconds < 60
        if number == signal.SIGTERM:
            assert statuses == [143, 143]
            continue
        assert statuses[victim] == -number
        assert statuses[1 - victim] == 75
        assert lines[1 - victim][0].startswith(f"error: host {victim} ")
        assert "is lost" in lines[1 - victim][0]
    assert complete_steps(workdir / "checkpoints")[-1] < STEPS
    with hosts(folder, workdir, run={"steps": STEPS, "resume": True}) as processes:
        assert ended(processes) == ([0, 0], [[], []])
    assert losses(workdir) == losses(whole)
    reports = [json.loads((run / "report.json").read_text()) for run in (workdir, whole)]
    assert reports[0] == reports[1]
