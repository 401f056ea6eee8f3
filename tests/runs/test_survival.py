"""Runs as processes of their own that are killed, stopped, started twice, or talk to a terminal that fails."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from hearing import hearing
from tiny_run import ROOT, TINY

from cvjax.engine.checkpoint import complete_steps

pytestmark = pytest.mark.slow

LONG = "--steps 5000 --eval-every 0 --checkpoint-every 0 --log-every 1".split()


@contextlib.contextmanager
def started(folder, workdir, *options, stdout=subprocess.PIPE, **environment):
    """The tiny experiment in a process group of its own, which goes in the end."""
    words = ("--input.manual-dir", folder, "--workdir", workdir, *options)
    process = subprocess.Popen(
        hearing([sys.executable, "-m", "experiments.deeplab_voc", "quick", *TINY, *map(str, words)]),
        cwd=ROOT,
        env=dict(os.environ, JAX_NUM_CPU_DEVICES="1", COLUMNS="300") | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_steps(process, workdir, count=3):
    log = workdir / "metrics.jsonl"
    until = time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) >= count):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


def group(pid):
    """The living processes of a group."""
    found = []
    for place in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, _, members = (place / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(members) == pid and state != "Z" and place.name.isdigit():
                found.append(int(place.name))
    return found


def all_gone(pid, seconds=20):
    """Whether all processes of a group end in time; Python's tracker of resources is the last of them."""
    until = time.monotonic() + seconds
    while group(pid) and time.monotonic() < until:
        time.sleep(0.1)
    return not group(pid)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_the_whole_group_saves_and_ends_with_its_status(folder, tmp_path, number, status):
    with started(folder, tmp_path / "run", *LONG, "--input.workers", 2) as process:
        wait_for_steps(process, tmp_path / "run")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, err
        assert "Traceback" not in err
        assert "continue with --resume" in out
        (saved,) = complete_steps(tmp_path / "run" / "checkpoints")
        assert f"stopped by a signal at step {saved}" in out
        assert all_gone(process.pid)
    assert not (tmp_path / "run" / "run.lock").exists()


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="reads the process table of Linux")
def test_a_killed_run_leaves_no_worker_and_no_lock(folder, tmp_path):
    with started(folder, tmp_path / "run", *LONG, "--input.workers", 2) as process:
        wait_for_steps(process, tmp_path / "run")
        assert len(group(process.pid)) >= 3
        process.kill()
        process.wait()
        assert all_gone(process.pid)
    with started(folder, tmp_path / "run", "--resume") as process:
        assert process.wait(timeout=300) == 0, process.communicate()


def test_a_second_run_in_a_folder_is_refused_and_changes_nothing(folder, tmp_path):
    run = tmp_path / "run"
    # Nobody reads its lines, which would fill a pipe and stop it.
    with started(folder, run, *LONG, stdout=subprocess.DEVNULL) as process:
        wait_for_steps(process, run)
        before = (run / "config.json").read_bytes()
        for options in (("--seed", 1), ("--resume",)):
            with started(folder, run, *options) as second:
                _, err = second.communicate(timeout=120)
                assert second.returncode == 2
                assert f"{run} is in use by process {process.pid} on " in err
        assert (run / "config.json").read_bytes() == before
        wait_for_steps(process, run, 8)
        process.terminate()
        assert process.wait(timeout=120) == 143


def test_a_terminal_that_fails_costs_only_its_own_lines(folder, tmp_path):
    """ASCII alone, a pipe that its reader has closed, a full device: all files are there, and the status is 0."""
    names = ["b\u00e4ckground", "[red]disc[/]", ":car: $x$"]
    own = tmp_path / "data"
    own.mkdir()
    for part in ("train", "val"):
        (own / part).symlink_to(folder / part)
    (own / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    with started(own, tmp_path / "ascii", PYTHONIOENCODING="ascii") as process:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert "b\\xe4ckground" in out
    assert "[red]disc[/]" in out
    assert ":car: $x$" in out
    reader, writer = os.pipe()
    os.close(reader)
    with started(own, tmp_path / "closed", stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert not err
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no full device here")
    with open("/dev/full", "w") as full, started(own, tmp_path / "full", stdout=full) as process:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert err == "warning: the output is cut off (No space left on device)\n"
    reports = [json.loads((tmp_path / run / "report.json").read_text()) for run in ("ascii", "closed", "full")]
    assert reports[0] == reports[1] == reports[2]
    assert list(reports[0]["iou"]) == names
    for run in ("ascii", "closed", "full"):
        assert (tmp_path / run / "predictions.png").stat().st_size > 1000
        assert (tmp_path / run / "curves.png").stat().st_size > 1000
