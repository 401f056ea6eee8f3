"""The loop around the step: resuming, stopping, refusing, recording."""

import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from toy import largest_difference
from toy_run import OPTIM, toy_fit

from cvjax.engine.checkpoint import complete_steps
from cvjax.engine.config import as_json
from cvjax.engine.optim import OptimizerConfig, schedule_change
from cvjax.engine.version01 import FORMAT
from cvjax.errors import CheckpointError, ConfigError, DivergedError

SCRIPT = pathlib.Path(__file__).parents[1] / "helpers" / "toy_run.py"


def losses(workdir):
    """Loss by step; of a step that was taken twice, the later."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, toy_fit(workdir)


def test_run_records_every_step_and_evaluation(whole):
    workdir, outcome = whole
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "val/miou" in line] == [6, 12]
    assert {"loss", "grad_norm", "learning_rate", "accuracy"} <= lines[0].keys()
    assert outcome.step == 12
    assert outcome.report["examples"] == 32
    assert list((workdir / "tensorboard").iterdir())


def test_latest_and_best_checkpoints_stay(tmp_path):
    toy_fit(tmp_path, 12, keep=1, checkpoint_every=2, eval_every=2)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["val/miou"] for line in lines if "val/miou" in line}
    best = max(scores, key=lambda step: (scores[step], step))
    assert set(complete_steps(tmp_path / "checkpoints")) == {12, best}


def test_resumed_run_is_the_run_never_stopped(whole, tmp_path):
    """Stopped between checkpoints by SIGTERM, which saves where it is; then taken to the end."""
    workdir, outcome = whole
    code = f"import os, signal, sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n" + (
        "import toy, toy_run\n"
        "original = toy.toy_batch\n"
        "def batch(number, rows=16):\n"
        "    if number == 7: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return original(number, rows)\n"
        "toy.toy_batch = batch\n"
        f"outcome = toy_run.toy_fit({str(tmp_path)!r})\n"
        "assert outcome.stopped, outcome.step\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    (stopped_at,) = {complete_steps(tmp_path / "checkpoints")[-1]}
    assert 3 <= stopped_at < 12
    again = toy_fit(tmp_path, resume=True)
    assert losses(tmp_path) == losses(workdir)
    assert largest_difference(jax.device_get(again.state), jax.device_get(outcome.state)) == 0
    assert again.report == outcome.report


@pytest.mark.slow
def test_killed_at_any_moment_the_run_continues(tmp_path):
    """SIGKILL at 4 random moments; every restart continues, and all losses are those of a run never killed.

    Moments are counted from the first line of the log, and every second time from a new checkpoint, so that
    the run moves on also where starting and saving are slow.
    """
    steps, rng = 300, random.Random(0)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(SCRIPT.parent), *sys.path]))
    reference, killed = tmp_path / "reference", tmp_path / "killed"
    command = [sys.executable, str(SCRIPT), str(reference), str(steps)]
    subprocess.run(command, check=True, env=environment, timeout=600)
    reached = [0]
    log = killed / "metrics.jsonl"
    signs = (
        lambda: log.stat().st_size if log.exists() else 0,
        lambda: max(complete_steps(killed / "checkpoints"), default=0),
    )
    for attempt in range(4):
        sign = signs[attempt % 2]
        before = sign()
        command = [sys.executable, str(SCRIPT), str(killed), str(steps), "resume", "slow"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        while sign() == before and process.poll() is None:
            time.sleep(0.02)  # the moments of interest come after start-up
        time.sleep(rng.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(max(complete_steps(killed / "checkpoints"), default=0))
    assert reached == sorted(reached)
    assert reached[-1] >= 3
    command = [sys.executable, str(SCRIPT), str(killed), str(steps), "resume"]
    finished = subprocess.run(command, check=True, env=environment, capture_output=True, text=True, timeout=600)
    assert "finished" in finished.stdout
    assert losses(killed) == losses(reference)


def test_a_folder_with_a_run_is_not_overwritten(whole):
    workdir, _ = whole
    before = complete_steps(workdir / "checkpoints")
    with pytest.raises(CheckpointError, match=r"holds a run at step 12; add --resume"):
        toy_fit(workdir)
    assert complete_steps(workdir / "checkpoints") == before


def test_resuming_on_other_data_is_refused(whole):
    workdir, _ = whole
    with pytest.raises(CheckpointError, match=r"other data \(seed was 0 and is 1\)"):
        toy_fit(workdir, 14, resume=True, metadata={"model": {"name": "toy"}, "data": {"name": "noise", "seed": 1}})


IDENTITY = {"class_names": ["a", "b"], "void": [], "content": "0123"}


def _metadata(steps, optim=OPTIM, **data):
    record = {"name": "noise", "seed": 0, "manual_dir": "one", "identity": IDENTITY} | data
    return {
        "format": FORMAT,
        "model": {"name": "toy"},
        "data": record,
        "run": {"steps": steps, "optim": as_json(optim)},
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of 6 steps that knows its data by their content."""
    workdir = tmp_path_factory.mktemp("recorded")
    toy_fit(workdir, 6, metadata=_metadata(6))
    return workdir


def test_data_that_moved_are_the_same_and_others_are_refused(recorded, tmp_path):
    workdir = shutil.copytree(recorded, tmp_path / "run")
    for changed, said in (
        ({"identity": IDENTITY | {"content": "4567"}}, "as many examples of the same classes, but the files' names"),
        ({"identity": IDENTITY | {"class_names": ["b", "a"]}}, "the classes were a, b and are b, a"),
        ({"identity": IDENTITY | {"class_names": ["a", "b", "c"]}}, "the classes were a, b and are a, b, c"),
        ({"seed": 3}, "seed was 0 and is 3"),
    ):
        with pytest.raises(CheckpointError, match=rf"other data \({re.escape(said)}"):
            toy_fit(workdir, 8, resume=True, metadata=_metadata(8, **changed))
    assert toy_fit(workdir, 8, resume=True, metadata=_metadata(8, manual_dir="elsewhere")).step == 8


def test_other_classes_are_named_before_other_variables(recorded):
    metadata = _metadata(8, identity=IDENTITY | {"class_names": ["a"]})
    with pytest.raises(CheckpointError, match="the classes were a, b and are a"):
        toy_fit(recorded, 8, width=4, resume=True, metadata=metadata)


@pytest.mark.parametrize(
    ("steps", "optim", "said"),
    [
        # 0.05 (1 - 6 / 12) ** 0.9 and 0.05 (1 - 6 / 6) ** 0.9
        (12, OPTIM, f"at step 6 of 12 (was 6): learning rate at this step {0.05 * 0.5**0.9:.4g}, was 0"),
        (
            12,
            dataclasses.replace(OPTIM, learning_rate=0.02, schedule="constant"),
            "at step 6 of 12 (was 6): learning rate at this step 0.02, was 0",
        ),
        (
            7,
            dataclasses.replace(OPTIM, learning_rate=0.1, power=1.0),
            f"at step 6 of 7 (was 6): learning rate at this step {0.1 / 7:.4g}, was 0",
        ),
    ],
)
def test_another_length_or_rate_is_said(recorded, tmp_path, capsys, steps, optim, said):
    workdir = shutil.copytree(recorded, tmp_path / "run")
    toy_fit(workdir, steps, resume=True, optim=optim, metadata=_metadata(steps, optim))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resuming")]
    assert line.endswith(said)


def test_the_same_schedule_is_not_talked_about():
    assert schedule_change(500, (OPTIM, 1000), (OPTIM, 1000)) == ""
    before, now = ((OptimizerConfig(learning_rate=0.01, power=1.0), steps) for steps in (1000, 2000))
    change = schedule_change(500, before, now)
    assert change == " (was 1,000): learning rate at this step 0.0075, was 0.005"


def test_a_checkpoint_of_another_model_is_refused_with_the_differences(whole):
    workdir, _ = whole
    before = complete_steps(workdir / "checkpoints")
    with pytest.raises(CheckpointError, match=r"BatchNorm_0/scale is \(8,\) there and \(4,\) here"):
        toy_fit(workdir, 14, width=4, resume=True)
    assert complete_steps(workdir / "checkpoints") == before


def test_other_optimizer_settings_are_refused(whole):
    workdir, _ = whole
    with pytest.raises(CheckpointError, match="other optimizer settings"):
        toy_fit(workdir, 14, resume=True, optim=OptimizerConfig(name="adamw", ema_decay=0.99))


def test_fewer_steps_than_were_taken_are_refused(whole):
    workdir, _ = whole
    with pytest.raises(ConfigError, match=r"is at step 12 already"):
        toy_fit(workdir, 10, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_examples(tmp_path):
    wild = OptimizerConfig(learning_rate=1e20, schedule="constant", weight_decay=0.0)
    with pytest.raises(DivergedError) as caught:
        toy_fit(tmp_path, 12, optim=wild, checkpoint_every=1, log_every=1)
    message = str(caught.value)
    step = int(message.split("at step ")[1].split(",")[0])
    rows = f"noise-{(step - 1) * 16:04d}, noise-{(step - 1) * 16 + 1:04d}"
    assert rows in message
    good = complete_steps(tmp_path / "checkpoints")[-1]
    assert good == step - 1
    assert message.count(str(tmp_path / "checkpoints" / str(good))) == 1


@pytest.mark.slow
def test_a_full_disk_leaves_the_older_checkpoints(tmp_path):
    """A limit on file size stands for the full disk: the same write fails, at the same place."""
    toy_fit(tmp_path, 6)
    before = complete_steps(tmp_path / "checkpoints")
    code = (
        f"import resource, sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "import toy_run\n"
        "from cvjax.errors import CheckpointError\n"
        "import cvjax.engine.checkpoint as checkpoint\n"
        "original = checkpoint.Checkpoints.save\n"
        "def save(*args, **options):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "    return original(*args, **options)\n"
        "checkpoint.Checkpoints.save = save\n"
        "try:\n"
        f"    toy_run.toy_fit({str(tmp_path)!r}, 12, resume=True)\n"
        "except CheckpointError as error:\n"
        "    sys.exit('told: ' + str(error))\n"
    )
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    told = re.search("told: .*", failed.stderr)[0]  # other threads' lines may run into its beginning
    assert "could not be written under" in told
    assert "of the checkpoints those of steps " + ", ".join(map(str, before)) + " are intact" in told
    assert complete_steps(tmp_path / "checkpoints") == before
    resumed = toy_fit(tmp_path, 12, resume=True)
    assert resumed.step == 12


def test_same_seed_same_run(whole, tmp_path):
    toy_fit(tmp_path, 12, optim=OPTIM)
    assert losses(tmp_path) == losses(whole[0])


def test_evaluation_adds_up_over_batches(whole):
    _, outcome = whole
    assert 0 <= outcome.report["miou"] <= 1
    assert not np.isnan(outcome.report["pixel_accuracy"])
