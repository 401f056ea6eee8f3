"""What keeps a run from harm: limits of its numbers, one run a folder, the terminal, the log on disk."""

import dataclasses
import io
import json
import math
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from toy_run import toy_fit

from cvjax.cli.shell.experiments import experiment_files
from cvjax.engine import log as log_module
from cvjax.engine.checkpoint import complete_steps
from cvjax.engine.config import EvalConfig, RunConfig
from cvjax.engine.guards.limits import check_limits
from cvjax.engine.guards.lock import FILE, one_run
from cvjax.engine.guards.terminal import make_console, tolerant, tolerant_output
from cvjax.engine.log import RunLog
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.run import show_results
from cvjax.errors import ConfigError
from cvjax.files import json_text
from cvjax.visual.curves import read_metrics
from cvjax.visual.tables import report_table

BAD = {
    "steps": (0, -1),
    "epochs": (0.0, -1.0, math.nan, math.inf),
    "batch_size": (0, -8),
    "seed": (-1, 2**32),
    "log_every": (-1,),
    "eval_every": (-5,),
    "checkpoint_every": (-1,),
    "keep": (0, -1),
    "aux_weight": (-0.1, math.nan),
    "optim.learning_rate": (-1e-3, math.nan, math.inf),
    "optim.momentum": (1.0, -0.1, math.nan),
    "optim.weight_decay": (-1e-4,),
    "optim.clip_norm": (0.0, -1.0),
    "optim.accumulate": (0,),
    "optim.ema_decay": (1.0, -0.5),
    "optim.warmup": (1.0, -0.1),
    "optim.milestones": ((0.5, 1.0),),
    "optim.lr_mults": ((("backbone/*", -1.0),),),
    "optim.head_lr_mult": (-1.0, math.nan),
    "input.crop": ((0, 48), (48, -1)),
    "input.workers": (-1,),
    "input.repeated_aug": (0,),
    "input.flip": (1.5, -0.1),
    "eval.batch_size": (0,),
}


def changed(config, name, value):
    first, _, rest = name.partition(".")
    if rest:
        value = changed(getattr(config, first), rest, value)
    return dataclasses.replace(config, **{first: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_number_out_of_its_limits_is_named_with_its_flag(name, value):
    with pytest.raises(ConfigError, match="^--" + name.replace("_", "-") + r" is .*; give a ") as told:
        check_limits(changed(RunConfig(), name, value))
    if not isinstance(value, tuple):
        assert str(value) in str(told.value)


def test_the_edges_are_within_the_limits():
    good = {"steps": 1, "seed": 2**32 - 1, "log_every": 0, "eval_every": 0, "checkpoint_every": 0, "keep": 1}
    optim = {"learning_rate": 0.0, "momentum": 0.0, "weight_decay": 0.0, "ema_decay": 0.0, "warmup": 0.0}
    config = RunConfig(**good, optim=OptimizerConfig(**optim, milestones=(0.001, 0.999)), eval=EvalConfig(batch_size=1))
    check_limits(config)


def test_every_preset_is_within_the_limits():
    import importlib

    names = experiment_files()
    assert len(names) > 15
    for name in names:
        for preset in importlib.import_module(f"experiments.{name}").PRESETS.values():
            check_limits(preset)


@pytest.mark.slow
def test_every_0_means_never_but_at_the_end(tmp_path, capsys):
    outcome = toy_fit(tmp_path, 7, log_every=0, eval_every=0, checkpoint_every=0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 8))
    assert [line["step"] for line in lines if "val/miou" in line] == [7]
    assert complete_steps(tmp_path / "checkpoints") == [7]
    assert outcome.report is not None
    assert "loss" not in capsys.readouterr().out


def test_checkpoint_every_0_saves_no_evaluated_step_but_the_last(tmp_path):
    toy_fit(tmp_path, 6, eval_every=2, checkpoint_every=0)
    assert complete_steps(tmp_path / "checkpoints") == [6]


def test_the_rate_and_the_time_left_leave_the_compilation_out(tmp_path, monkeypatch, capsys):
    """100 s for the first step, then 2 s a step: after step 3 of 10, 7 steps are 14 s, and 8 examples take 2 s."""
    now = [1000.0]
    monkeypatch.setattr(log_module.time, "monotonic", lambda: now[0])
    log = RunLog(tmp_path, steps=10, start=0)
    now[0] += 100
    log.compiled(1)
    row = {"loss": 1.0, "learning_rate": 0.1}
    log.steps_done([{"step": 1, **row}], 8)
    now[0] += 4
    log.steps_done([{"step": 2, **row}, {"step": 3, **row}], 8)
    log.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "step 1/10  loss 1.0000  lr 1.00e-01"
    assert second == "step 3/10  loss 1.0000  lr 1.00e-01  4.0 images/s  ETA 0:14"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"step": 1, "loss": 2.0}\n{"step": 2, "lo', [1, 3]),
        (b'{"step": 1, "loss": 2.0}\n\x00\x00\x00\n', [1, 3]),
        (b'{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 3.0}', [1, 2, 3]),
        (b'{"ste', [3]),
        (b"", [3]),
    ],
)
def test_a_torn_line_of_the_log_is_cut_off(tmp_path, before, after):
    (tmp_path / "metrics.jsonl").write_bytes(before)
    log = RunLog(tmp_path, steps=9, start=2)
    log.steps_done([{"step": 3, "loss": math.nan, "learning_rate": 0.1}], 8)
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["step"] for line in lines] == after
    assert json.loads(lines[-1])["loss"] is None
    read_metrics(tmp_path / "metrics.jsonl")


def test_json_has_no_numbers_that_json_does_not_know():
    value = {"a": (math.nan, math.inf, -math.inf, 1.5), 3: {"b": [True, None, "x"]}}
    assert json_text(value) == '{"a": [null, null, null, 1.5], "3": {"b": [true, null, "x"]}}'


def test_metrics_of_earlier_versions_with_nan_are_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "val/miou": NaN}\n{"step": 2, "val/miou": 0.5}\n')
    steps, values = read_metrics(tmp_path / "metrics.jsonl")["val/miou"]
    assert steps.tolist() == [1, 2]
    assert values[1] == 0.5


def test_a_picture_that_cannot_be_drawn_costs_itself_alone(tmp_path, capsys, monkeypatch):
    """The report and the other pictures are there, and what failed is said."""
    report = {"miou": 0.5, "iou": {"a": math.nan, "b": 1.0}, "pixel_accuracy": 0.5, "mean_accuracy": 1.0, "fwiou": 0.1}

    def draw(folder, *_):
        assert json.loads((tmp_path / "report.json").read_text())["iou"] == {"a": None, "b": 1.0}
        (folder / "report.md").write_text("drawn")
        return ["report.md"]

    def fail(*_):
        raise RuntimeError("no [bold]fonts[/]")

    task = SimpleNamespace(
        config=RunConfig(workdir=str(tmp_path)), draw_report=draw, draw_examples=fail, table=report_table
    )
    (tmp_path / "metrics.jsonl").write_text("{}\n{}\n")
    show_results(task, None, None, None, report, make_console())  # pyright: ignore
    said = capsys.readouterr().out
    assert "warning: the examples could not be drawn (RuntimeError: no [bold]fonts[/])" in said
    assert "warning: the curves could not be drawn (DataError: " in said
    assert "report.json, report.md" in said


def test_one_run_a_folder(tmp_path):
    run = tmp_path / "run"
    with one_run(run):
        assert f"process {os.getpid()} on {socket.gethostname()}" in (run / FILE).read_text()
        with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()} on .*--workdir"), one_run(run):
            pytest.fail("two runs")
        assert (run / FILE).exists()
    assert list(run.iterdir()) == []
    with one_run(run):
        pass


def test_a_dead_runs_lock_does_not_block(tmp_path):
    (tmp_path / FILE).write_text("process 1 on elsewhere since 1970\n")
    code = "import os, pathlib, sys; from cvjax.engine.guards.lock import one_run\n" + (
        f"with one_run(pathlib.Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -9
    assert "elsewhere" not in (tmp_path / FILE).read_text()
    with one_run(tmp_path):
        pass


def test_a_refused_run_leaves_no_folder_that_it_made(tmp_path):
    with pytest.raises(ConfigError), one_run(tmp_path / "new"):
        raise ConfigError("no")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file and no folder"), one_run(tmp_path / "file"):
        pass
    with pytest.raises(ConfigError, match="cannot be written to"), one_run(tmp_path / "file" / "below"):
        pass


def test_a_console_prints_names_as_they_are_where_it_can():
    raw = io.BytesIO()
    stream = tolerant(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert stream.write("\u00fc [red]x[/] :car: \u2588\u2588\n") == 21
    assert raw.getvalue() == b"\\xfc [red]x[/] :car: ##\n"
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        make_console().print("[red]x[/] :car: [/] 12", soft_wrap=True)
    assert out.getvalue() == "[red]x[/] :car: [/] 12\n"


def test_a_closed_pipe_and_a_missing_stream_are_silent(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with tolerant_output():
            for _ in range(3):
                print("x" * 10_000)
            make_console().print("more")
        assert sys.stdout is pipe
    monkeypatch.setattr(sys, "stdout", None)
    with tolerant_output():
        print("nothing")
    assert sys.stdout is None
