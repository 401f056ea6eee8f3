"""The command sweep: what its settings mean, and a study that goes on where it was killed."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from cvjax.cli.sweeping import sweep
from cvjax.cli.sweeping.study import Study, run_trials
from cvjax.cli.sweeping.varied import Varied, read_varied
from cvjax.errors import UserError

pytest.importorskip("optuna")

RATE = "optim.learning-rate=log:1e-4..1e-1"


def test_settings_are_read():
    found = read_varied([RATE, "batch_size=8..32", "--optim.name=sgd, adamw", "input.sizes=96 96,128 128"])
    assert found == [
        Varied("optim.learning-rate", 1e-4, 1e-1, log=True),
        Varied("batch-size", 8, 32, whole=True),
        Varied("optim.name", choices=("sgd", "adamw")),
        Varied("input.sizes", choices=("96 96", "128 128")),
    ]
    assert found[0].words(0.01) == ["--optim.learning-rate", "0.01"]
    assert found[3].words("96 96") == ["--input.sizes", "96", "96"]
    assert Varied("eval.flip", choices=("True", "False")).words("False") == ["--eval.no-flip"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "a sweep varies at least one setting"),
        (["optim.name"], "has no such form"),
        (["optim.name=sgd"], "no choice of several values"),
        (["steps=9..3"], "low value below the high one"),
        (["steps=log:0..3"], "above 0 for log:"),
        (["steps=a..3"], "a is no number"),
        (["workdir=a,b"], "gives each run itself"),
        ([RATE, RATE], "names optim.learning-rate twice"),
    ],
)
def test_a_setting_without_a_form_is_refused(texts, said):
    with pytest.raises(UserError, match=re.escape(said)):
        read_varied(texts)


def study(folder, **settings):
    values = {"varied": read_varied([RATE, "optim.name=sgd,adamw"]), "settings": {"preset": "quick"}}
    return Study(folder, **(values | settings), seed=3, prune=settings.pop("prune", False))


def score(trial):
    """Best at a rate of 0.01 with adamw."""
    rate = trial.values["optim.learning-rate"]
    return 1 - abs(rate - 0.01) / 0.1 - 0.3 * (trial.values["optim.name"] == "sgd")


def test_a_study_goes_on_where_it_was_killed(tmp_path):
    folder = tmp_path / "sweep"
    first = study(folder)
    run_trials(first, 4, lambda trial: (score(trial), False))
    open_one = first.next_trial()  # and the process is killed
    again = study(folder)
    seen = []

    def run(trial):
        seen.append(trial)
        return (None if trial.number == 5 else score(trial)), False

    results = run_trials(again, 12, run)
    assert seen[0].resumed
    assert (seen[0].number, dict(seen[0].values), seen[0].folder) == (4, dict(open_one.values), open_one.folder)
    assert [trial.number for trial in seen] == list(range(4, 12))
    assert not seen[1].resumed
    assert len(results) == 12
    scores = [result.score for result in results if result.score is not None]
    assert scores == sorted(scores, reverse=True)
    assert [result.what for result in results] == ["complete"] * 11 + ["failed"]
    assert all(1e-4 <= result.trial.values["optim.learning-rate"] <= 1e-1 for result in results)


def test_another_sweep_in_the_folder_is_refused(tmp_path):
    study(tmp_path)
    with pytest.raises(UserError, match=r"holds a sweep with other settings \(preset\)"):
        study(tmp_path, settings={"preset": "voc"})
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as the settings of a sweep"):
        study(tmp_path)


def test_runs_behind_the_median_are_given_up(tmp_path):
    kept = Study(tmp_path, read_varied([RATE]), {}, seed=0, prune=True)
    for _ in range(5):  # optuna gives up none of the first five
        trial = kept.next_trial()
        assert not kept.given_up(trial, 10, 0.5)
        kept.end(trial, 0.5)
    trial = kept.next_trial()
    assert kept.given_up(trial, 10, 0.4)
    kept.end(trial, None, pruned=True)
    trial = kept.next_trial()
    assert not kept.given_up(trial, 10, 0.6)
    assert [result.what for result in kept.results()] == ["complete"] * 5 + ["pruned"]


def test_runs_that_all_fail_end_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_run", lambda *_: (None, False))
    arguments = sweep.Arguments("deeplab_voc", vary=(RATE,), workdir=str(tmp_path / "sweep"))
    with pytest.raises(UserError, match="the first 3 runs of the sweep failed"):
        sweep.sweep(arguments, sweep.make_console())


def test_an_experiment_that_is_none_is_named(tmp_path):
    with pytest.raises(UserError, match="deeplab_voc"):
        sweep.sweep(sweep.Arguments("deeplab_vok", vary=(RATE,)), sweep.make_console())


@pytest.mark.slow
def test_a_sweep_of_real_runs_is_killed_and_goes_on(tmp_path):
    """A trial of four steps is killed after the first; its run then resumes."""
    words = ["resnet_imagenet", "quick", "--vary", RATE, "--trials", "1", "--workdir", str(tmp_path / "sweep")]
    words += ["--json", str(tmp_path / "trials.json"), "--html", str(tmp_path / "page.html"), "--"]
    words += "--steps 4 --checkpoint-every 1 --log-every 1 --batch-size 8 --eval.batch-size 30".split()
    words += "--input.crop 32 32 --eval.resize 32 --model.width 8 --model.stage-sizes 1 1 1 1".split()
    words += ["--data-dir", str(tmp_path / "data")]
    code = "from cvjax.datasets.scenes import render; render.SIZES = {'train': 16, 'val': 30, 'test': 2}"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(code)  # small scenes, in the processes that the sweep starts, too
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = dict(os.environ, PYTHONPATH=path, JAX_NUM_CPU_DEVICES="1")
    command = [sys.executable, "-m", "cvjax.cli.sweeping.sweep", *words]
    root = pathlib.Path(__file__).resolve().parents[2]
    first = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True)
    checkpoints = tmp_path / "sweep" / "trial-000" / "checkpoints"
    while first.poll() is None and not (checkpoints / "1").exists():
        pass
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True)
    assert "trial 0 goes on" in done.stdout
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert sorted(trial["trial"] for trial in trials) == [0]
    for trial in trials:
        report = json.loads((pathlib.Path(trial["workdir"]) / "report.json").read_text())
        assert trial["score"] == report["top1"]
        config = json.loads((pathlib.Path(trial["workdir"]) / "config.json").read_text())
        assert config["run"]["optim"]["learning_rate"] == trial["values"]["optim.learning-rate"]
    assert "data:image/png" in (tmp_path / "page.html").read_text()
