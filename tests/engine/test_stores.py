"""Runs whose folder is at a URL: checkpoints, logs and the lock, in a store in memory."""

import json
import os
import threading
import time
import uuid

import jax
import numpy as np
import pytest
from toy_run import toy_fit

from cvjax.engine.checkpoint import complete_steps, find_checkpoint, read_metadata, read_stored_variables
from cvjax.engine.guards.lease import Lease
from cvjax.engine.guards.lock import FILE, one_run
from cvjax.errors import CheckpointError, ConfigError
from cvjax.storage import as_path


@pytest.fixture
def workdir(monkeypatch, tmp_path):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "cache"))
    return as_path(f"memory://{uuid.uuid4().hex}/run")


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_run_in_a_store_is_the_run_on_a_disk_also_when_it_was_killed(workdir, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    toy_fit(tmp_path / "run")
    toy_fit(workdir)
    assert losses(workdir) == losses(tmp_path / "run")
    kept = workdir / "checkpoints"
    assert complete_steps(kept) == complete_steps(tmp_path / "run/checkpoints")
    names = {name for name in workdir.files_below() if not name.startswith("checkpoints/")}
    assert {name.partition("/")[0] for name in names} == {"metrics.jsonl", "tensorboard"}
    same = jax.tree.map(np.array_equal, read_stored_variables(workdir), read_stored_variables(tmp_path / "run"))
    assert all(jax.tree.leaves(same))
    best = find_checkpoint(workdir)
    assert best.name == find_checkpoint(tmp_path / "run").name
    assert best.is_relative_to(tmp_path / "cache")
    assert not (best / "optimizer").exists(), "inference needs none"

    # Killed while its last step went up, which the list ends.
    (kept / "12" / "files.json").unlink()
    before = complete_steps(kept)
    assert 12 not in before
    with pytest.raises(CheckpointError, match=rf"{kept} holds a run at step {before[-1]}; add --resume"):
        toy_fit(workdir)
    outcome = toy_fit(workdir, resume=True)
    assert f"resuming {workdir} at step {before[-1]} of 12" in capfd.readouterr().out
    assert outcome.step == 12
    assert losses(workdir) == losses(tmp_path / "run")
    assert complete_steps(kept) == complete_steps(tmp_path / "run/checkpoints")
    same = jax.tree.map(np.array_equal, read_stored_variables(workdir), read_stored_variables(tmp_path / "run"))
    assert all(jax.tree.leaves(same))
    left = {name.split("/")[0] for name in kept.files_below()}
    assert left == {str(step) for step in complete_steps(kept)}, "nothing of removed steps stays"

    # A file that changed is named at its URL, and the step before it is read.
    place = next(name for name in kept.files_below() if name.startswith("12/variables/d/"))
    (kept / place).write_bytes(b"x" * (kept / place).stat().st_size)
    toy_fit(workdir, resume=True, steps=13)
    assert f"the checkpoint {kept}/12 is damaged: {place[3:]} holds other bytes" in capfd.readouterr().out
    assert (kept / "12.damaged" / "files.json").exists()
    assert read_metadata(kept / "13")["position"] == 13


def test_the_lock_of_a_living_run_refuses_others(workdir, capfd):
    with one_run(workdir):
        assert json.loads((workdir / FILE).read_bytes())["process"] == os.getpid()
        held = (workdir / FILE).read_bytes()

        def live():
            time.sleep(0.3)
            (workdir / FILE).write_bytes(held.replace(b'"beat": 0', b'"beat": 1'))

        living = threading.Thread(target=live)
        living.start()
        with pytest.raises(ConfigError, match=rf"{workdir} is in use by process {os.getpid()} on .*--workdir"):
            Lease(workdir / FILE, beat=0.2, patience=5)
        living.join()
    assert not (workdir / FILE).exists()
    assert "waiting up to 5 s for a sign of life" in capfd.readouterr().err


def test_a_run_that_was_killed_elsewhere_is_waited_for_and_one_that_was_killed_here_is_not(workdir):
    elsewhere = {"holder": "process 4 on gpu7", "machine": "gpu7 1", "process": 4, "run": "x", "beat": 3}
    (workdir / FILE).write_bytes(json.dumps(elsewhere).encode())
    began = time.monotonic()
    Lease(workdir / FILE, beat=0.2, patience=0.5).release()
    assert time.monotonic() - began > 0.5
    with one_run(workdir):
        mine = json.loads((workdir / FILE).read_bytes())
    (workdir / FILE).write_bytes(json.dumps(mine | {"process": 2**22 + 1}).encode())  # above the largest number
    began = time.monotonic()
    with one_run(workdir):
        pass
    assert time.monotonic() - began < 5


def test_a_lease_shows_signs_of_life_and_says_when_it_was_taken(workdir, capfd):
    lease = Lease(workdir / FILE, beat=0.05, patience=1)
    until = time.monotonic() + 20
    while json.loads((workdir / FILE).read_bytes())["beat"] < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    taken = json.dumps({"holder": "process 9 on gpu8", "run": "other"}).encode()
    while "has been taken over by process 9 on gpu8" not in capfd.readouterr().err:
        (workdir / FILE).write_bytes(taken)  # a beat may just have been on its way
        assert time.monotonic() < until
        time.sleep(0.1)
    lease.release()
    assert (workdir / FILE).read_bytes() == taken, "it is the other run's now"


class Racing(Lease):
    """A run that does something right before or behind the claim by which it takes over from a killed run."""

    def __init__(self, path, at, act):
        self._at, self._act, self._asked = at, act, 0
        super().__init__(path, beat=30, patience=0)

    def _after(self, found):
        self._asked += 1
        if self._at == "before" and self._asked == 2:  # the first time it looks who is taking over
            self._act()
        return super()._after(found)

    def _read(self, path):
        if self._at == "behind" and any(self._mine["run"].encode() in lock.read_bytes() for lock in _locks(self._path)):
            self._at = ""
            self._act()
        return super()._read(path)


def _locks(path):
    return [path.parent / name for name in path.parent.files_below() if name.startswith(FILE)]


def _left_by_a_killed_run(path):
    path.write_bytes(json.dumps({"holder": "process 4 on gpu7", "run": "killed", "beat": 3}).encode())


@pytest.mark.parametrize("at", ["before", "behind"])
def test_one_of_two_runs_takes_over(workdir, at):
    """The second takes over as a whole while the first is about to, and both have seen the killed run."""
    path, held = workdir / FILE, []
    _left_by_a_killed_run(path)
    with pytest.raises(ConfigError, match=f"is in use by process {os.getpid()}"):
        Racing(path, at, lambda: held.append(Lease(path, beat=30, patience=0)))
    assert json.loads(path.read_bytes())["run"] == held[0]._mine["run"]
    assert _locks(path) == [path]
    held[0].release()
    assert not _locks(path)


def test_a_run_is_taken_over_by_one_alone(workdir):
    path = workdir / FILE
    _left_by_a_killed_run(path)
    other = json.dumps({"holder": "process 5 on gpu8", "run": "other"}).encode()
    with pytest.raises(ConfigError, match="is in use by process 5 on gpu8"):
        Racing(path, "before", lambda: (path.parent / f"{FILE}.killed").create_bytes(other))
    assert sorted(_locks(path)) == [path, path.parent / f"{FILE}.killed"]


def test_locks_that_are_none_of_ours_end_no_run_in_a_circle(workdir):
    path = workdir / FILE
    path.write_bytes(b"{")
    Lease(path, beat=30, patience=0).release()
    path.write_bytes(b"{")
    (path.parent / f"{FILE}.unknown").write_bytes(b"{")
    with pytest.raises(ConfigError, match="is in use by another process"):
        Lease(path, beat=30, patience=0)


def test_who_is_killed_while_taking_over_is_taken_over(workdir):
    path = workdir / FILE
    _left_by_a_killed_run(path)

    def die():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Racing(path, "behind", die)
    assert len(_locks(path)) == 2
    held = Lease(path, beat=30, patience=0)
    assert json.loads(path.read_bytes())["run"] == held._mine["run"]
    assert _locks(path) == [path]
    held.release()
