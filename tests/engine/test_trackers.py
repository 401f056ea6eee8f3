"""Trackers: what they are sent, what one that fails costs, and the real packages in their offline or local modes.

The real packages are extras; their tests are skipped where they are not installed.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from toy_run import toy_fit

from cvjax.engine import trackers
from cvjax.engine.config import RunConfig, as_json, by_flag
from cvjax.engine.run import check_run
from cvjax.engine.trackers import RunFacts, Trackers
from cvjax.errors import ConfigError
from cvjax.models.config import ModelConfig


class Recorder:
    """Keeps what it is sent, and fails at a step."""

    def __init__(self, facts, fails_at=None):
        self.facts, self.fails_at, self.lines, self.end = facts, fails_at, [], None
        self.identity = facts.identity or "number-1"

    def log(self, step, values):
        if step == self.fails_at:
            raise RuntimeError("no route to host\nand more")
        self.lines.append((step, dict(values)))

    def flush(self):
        pass

    def close(self, *, finished):
        self.end = finished


@pytest.fixture
def recorders(monkeypatch):
    """Puts recorders in the place of two trackers; those of the second fail at step 8."""
    made = {"wandb": [], "mlflow": []}

    class Module:
        def __init__(self, name, fails_at):
            self.name, self.fails_at = name, fails_at

        def open_tracker(self, facts):
            made[self.name].append(Recorder(facts, self.fails_at))
            return made[self.name][-1]

    modules = {"wandb": Module("wandb", None), "mlflow": Module("mlflow", 8)}
    real = trackers.importlib.import_module
    monkeypatch.setattr(
        trackers.importlib, "import_module", lambda name: modules.get(name.rpartition(".")[2]) or real(name)
    )
    return made


def test_a_run_sends_its_figures_and_goes_on_without_a_tracker_that_fails(recorders, tmp_path, capsys):
    toy_fit(tmp_path, steps=12, checkpoint_every=6, trackers=("wandb", "mlflow"), project="toys")
    whole, broken = recorders["wandb"][0], recorders["mlflow"][0]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    sent = {step: values["train/loss"] for step, values in whole.lines if "train/loss" in values}
    assert list(sent) == [2, 4, 6, 8, 10, 12]
    for step, loss in sent.items():
        assert loss == pytest.approx(np.mean([losses[step - 1], losses[step]]))
    scores = [(step, values) for step, values in whole.lines if any(name.startswith("val/") for name in values)]
    assert [step for step, _ in scores] == [6, 12]
    assert (whole.end, broken.end) == (True, None)
    assert [step for step, _ in broken.lines][-1] == 6
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: mlflow")]
    assert said == [
        "warning: mlflow takes no more figures (no route to host); the run goes on, and metrics.jsonl has them all"
    ]
    assert whole.facts.project == "toys"
    assert whole.facts.name == "/".join(tmp_path.parts[-2:])
    assert whole.facts.settings["optim.learning-rate"] == 0.05
    assert not (tmp_path / "tensorboard").exists()


def test_a_resumed_run_goes_on_under_its_number(recorders, tmp_path):
    toy_fit(tmp_path, steps=6, trackers=("wandb",))
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"wandb": "number-1"}
    toy_fit(tmp_path, steps=9, trackers=("wandb", "tensorboard"), resume=True)
    assert [recorder.facts.identity for recorder in recorders["wandb"]] == [None, "number-1"]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_package_that_is_missing_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    config = RunConfig(workdir=str(tmp_path / "run"), trackers=("tensorboard", "mlflow"))
    with pytest.raises(ConfigError, match=r"^--trackers mlflow needs a package .* pip install 'cvjax\[mlflow\]'$"):
        check_run(config)
    with pytest.raises(ConfigError, match="names tensorboard twice"):
        check_run(RunConfig(workdir=str(tmp_path / "run"), trackers=("tensorboard", "tensorboard")))
    assert not (tmp_path / "run").exists()


def test_settings_are_named_as_flags():
    config = RunConfig(model=ModelConfig("unet", width=8, norm={"momentum": 0.9}))
    found = by_flag(as_json(config))
    assert (found["model.name"], found["model.width"], found["model.norm.momentum"]) == ("unet", 8, 0.9)
    assert found["optim.learning-rate"] == config.optim.learning_rate
    assert found["batch-size"] == 16


_SEND = """
import pathlib, sys
from cvjax.engine.trackers import open_trackers
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def say(line):
    raise SystemExit(line)
for first, finished in ((0, False), (3, True)):
    sent = open_trackers((name,), "toys", folder, {"optim.learning-rate": 0.1, "data": "scenes"}, folder, say)
    for step in range(first, first + 4):  # the resumed run takes step 3 again
        sent.log(step, {"train/loss": 1.0 / (step + 1), "val/miou": 0.1 * step})
    sent.flush()
    sent.close(finished=finished)
"""


def send(name, folder, monkeypatch):
    """Has a process send the figures of a run that was stopped and resumed."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.setenv("TRACKIO_DIR", str(folder / "trackio"))
    subprocess.run([sys.executable, "-c", _SEND, name, str(folder)], check=True, timeout=300, cwd=folder)


def stored_records(data):
    """Reads W&B's files: a header of 7 bytes, then LevelDB's log of blocks of 32 KiB with parts of records."""
    place, record = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # no room for the head of a part, so zeros fill the block
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            yield record
            record = b""


@pytest.mark.slow
def test_wandb_writes_its_offline_files(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    send("wandb", tmp_path, monkeypatch)
    found, ids = {}, set()
    for path in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb")):
        for data in stored_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                values = {
                    (item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item
                }
                found[values["step"]] = values["train/loss"]
    assert found == pytest.approx({step: 1.0 / (step + 1) for step in range(7)})
    assert ids == {json.loads((tmp_path / "trackers.json").read_text())["wandb"]}


@pytest.mark.slow
def test_mlflow_keeps_a_run_and_its_parameters(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    import mlflow

    send("mlflow", tmp_path, monkeypatch)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toys")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"optim.learning-rate": "0.1", "data": "scenes"}
    history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "val/miou")}
    assert history == pytest.approx({step: 0.1 * step for step in range(7)})


@pytest.mark.slow
def test_trackio_keeps_a_run_in_its_database(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    import sqlite3

    send("trackio", tmp_path, monkeypatch)
    (database,) = (tmp_path / "trackio").glob("toys*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics").fetchall()
    assert len({name for name, *_ in rows}) == 1
    assert {step: json.loads(text)["train/loss"] for _, step, text in rows} == pytest.approx(
        {step: 1.0 / (step + 1) for step in range(7)}
    )


def test_trackers_get_facts_of_the_run(recorders, tmp_path):
    Trackers(("wandb",), RunFacts("a/b", "toys", tmp_path, {"seed": 1}), tmp_path, print)
    assert recorders["wandb"][0].facts == RunFacts("a/b", "toys", tmp_path, {"seed": 1})
