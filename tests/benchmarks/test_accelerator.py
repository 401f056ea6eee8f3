"""The benchmark of one accelerator: its tiny form on CPU, and what it does when time is over or something fails."""

import json
import math
import pathlib
import subprocess
import sys
import threading

import accelerator
import jax
import jax.numpy as jnp
import numpy as np
import paired
import pytest
from on_device import rows as row_list
from on_device import sides, training
from on_device.arrays import arrays
from on_device.lodging import House
from on_device.turns import Limits, measure
from paired import Schedule, Unavailable

FULL, TINY = row_list.rows(), row_list.rows(tiny=True)
NO_TORCH = dict.fromkeys(row_list.TORCH_SIDES, "no torch")
HELLO = {"versions": {"jax": "1"}, "device": "cpu"}
# As published, or counted in PyTorch's peer: 21 classes for U-Net, which has 31,037,698 for 2.
PARAMETERS = {
    "resnet50": 25_557_032,
    "efficientnet_b0": 5_288_548,
    "deeplabv3plus_resnet50": 39_211_461,
    "unet": 31_037_698 + 19 * 65,
    "fasterrcnn_resnet50_fpn": 41_808_406,
    "yolov1": 271_703_550,
}


class Inside:
    """A contestant that computes in this process, with what its child would compute."""

    def __init__(self, side):
        self.name, self.hello, self.facts = side, HELLO, {}
        self._process = self._folder = None

    def prepare(self, work):
        self.work = sides.prepare(json.loads(json.dumps(work)), self.name)
        self.facts = json.loads(json.dumps(self.work.facts()))
        return 1.0, dict(self.work.values)

    def burst(self, repeat):
        return paired.burst(self.work, repeat)

    def stop(self):
        self.work = None

    def __exit__(self, *exception):
        pass


class Scripted(Inside):
    """A contestant that computes nothing: a turn takes 5 seconds of the clock that all share."""

    def __init__(self, side, stage):
        super().__init__(side)
        self.stage = stage

    def prepare(self, work):
        self.facts = {"prepare_s": 1.0}
        self.stage.prepared(self.name, work)
        return 1.0, {}

    def burst(self, repeat):
        self.stage.now += 5.0
        return {"cvjax": 2.0, "torch": 3.0}.get(self.name, 4.0)


class Stage:
    """A clock, and what happens when a contestant prepares."""

    def __init__(self, prepared=lambda side, work: None):
        self.now, self.prepared, self.started = 0.0, prepared, []

    def connect(self, side):
        self.started.append(side)
        return Scripted(side, self)


def run(tmp_path, connect, *flags, missing=NO_TORCH, clock=None):
    arguments = accelerator.parse(["--tiny", "--rounds", "3", "--out", str(tmp_path), *flags])
    return accelerator.run(arguments, connect, dict(missing), *([clock] if clock else []))


def saved(tmp_path):
    return json.loads((tmp_path / "accelerator-cpu.json").read_text())["rows"]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(paired, "PAUSE", 0)


def check_measured(row):
    """A row of the tiny form has all its fields, and nobody is missing but for the reason that is known."""
    assert set(row) == {*("group", "case", "mode", "sides", "work", "seconds", "times", "facts", "absent", "spent_s")}
    assert not set(row["absent"]) & set(row["seconds"])
    assert set(row["absent"]) | set(row["seconds"]) == set(row["sides"])
    assert set(row["absent"]) <= {*row_list.TORCH_SIDES, "cvjax-cpu-forms"}, row["absent"]
    for side, seconds in row["seconds"].items():
        assert len(row["times"][side]) == 1
        assert seconds > 0
        facts = row["facts"][side]
        assert facts["prepare_s"] > 0
        assert facts["peak_bytes"] is None
        assert facts["no_peak"] == "JAX counts no memory on cpu"
        if row["work"]["kind"] == "training":
            assert math.isfinite(facts["loss"])
            assert facts["prepare_s"] > facts["compile_s"] > facts["trace_s"] > 0
            # Parameters and their momentum, at least, in float32.
            assert facts["program_bytes"] > 8 * facts["parameters"] > 0


def run_inside(tmp_path, words):
    rows = run(tmp_path, Inside, "--rounds", "1", "--burst-ms", "0.001", "--only", *words)["rows"]
    for row in rows:
        check_measured(row)
    return rows


@pytest.mark.slow
def test_tiny_form_runs_on_cpu(tmp_path):
    rows = run_inside(tmp_path, ["training unet training", "NMS", "transposed"])
    assert {row["group"] for row in rows} == {"training", "operators", "lowerings"}
    assert {row["mode"] for row in rows if row["group"] == "lowerings"} == set(row_list.DIRECTIONS)
    text = (tmp_path / "accelerator-cpu.md").read_text()
    assert "| unet | 2 of 32x32 |" in text
    assert "; unet (training): no torch.\n" in text
    assert text.count(": no torch.") == 1  # A reason stands once, with all of its rows.
    assert "its figures mean nothing" in text


@pytest.mark.slow
def test_tiny_form_of_all_else(tmp_path):
    # DeepLab v3+ compiles for as long as the rest, and runs as U-Net does; its step is traced below.
    nets = ["training resnet50", "training efficientnet", "training yolo", "training fasterrcnn"]
    rows = run_inside(tmp_path, [*nets, "CRF", "flags unet", "depthwise", "in 4 groups", "max-pool", "resize"])
    kinds = [row["group"] for row in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {"training": 4, "operators": 1, "flags": 1, "lowerings": 10}
    flags = next(row for row in rows if row["group"] == "flags")
    assert set(flags["seconds"]) == {"cvjax", *row_list.FLAGS}  # So this XLA knows these options.


@pytest.mark.slow
@pytest.mark.parametrize("name", row_list.NETS)
def test_steps_of_full_size_fit_together(name):
    work = next(row.work for row in FULL if row.case == name)
    model = training.model_of(work)
    shapes = training.shapes_of(model, work)
    step, optimizer = training.step_of(model, work)
    batch = jax.eval_shape(lambda: arrays({**work, "batch": 2}))
    batch = {key: jax.ShapeDtypeStruct((work["batch"], *leaf.shape[1:]), leaf.dtype) for key, leaf in batch.items()}
    opt_state = jax.eval_shape(optimizer.init, shapes["params"])
    step_number = jax.ShapeDtypeStruct((), jnp.int32)
    state = training.TrainState(step_number, shapes["params"], shapes["batch_stats"], opt_state, None)
    after, metrics = jax.eval_shape(step, state, batch, jax.eval_shape(lambda: jax.random.key(0)))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert metrics["loss"].shape == ()
    assert training.parameters_of(shapes) == PARAMETERS[name]


@pytest.mark.slow
def test_torch_has_as_many_parameters():
    torch = pytest.importorskip("torch")
    from on_device import torch_training

    for name, count in PARAMETERS.items():
        work = next(row.work for row in FULL if row.case == name)
        with torch.device("meta"):
            net = torch_training.create(work)
        assert sum(parameter.numel() for parameter in net.parameters()) == count, name


@pytest.mark.slow
def test_program_and_its_children(tmp_path):
    command = [sys.executable, accelerator.__file__, "--tiny", "--only", "NMS", "--rounds", "1", "--out", str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    (row,) = saved(tmp_path)
    assert row["case"] == "NMS, proposals, 50 to 10"
    assert row["seconds"]["cvjax"] > 0
    assert "| NMS, proposals, 50 to 10 | inference |" in output


def test_rows_are_told_apart_and_have_what_was_asked_for():
    for rows in (FULL, TINY):
        assert len({(row.case, row.mode) for row in rows}) == len(rows)
        assert {row.case for row in rows if row.group == "training"} == set(row_list.NETS)
        assert {row.work["kind"] for row in rows} == {"training", "lowering", "nms", "crf"}
        assert all(row.sides[0] == "cvjax" for row in rows)
    assert FULL[0].case == "resnet50"
    words = " ".join(row.case for row in FULL)
    assert all(word in words for word in ("transposed", "depthwise", "in 32 groups", "max-pool", "resize"))
    halved = {row.case: row.work["batch"] for row in row_list.rows(share=0.5) if row.group == "training"}
    assert halved["resnet50"] == 128


def test_no_row_begins_when_the_minutes_are_over(tmp_path):
    stage = Stage()
    # 64 seconds; a row takes 20, so the fourth is the last, and has one round after the one that warms up.
    minutes = str((64 + accelerator.RESERVE) / 60)
    trained = [row.case for row in TINY if row.group == "training"]
    words = [f"training {case} training" for case in trained]
    run(tmp_path, stage.connect, "--minutes", minutes, "--only", *words, clock=lambda: stage.now)
    rows = saved(tmp_path)
    assert [row["case"] for row in rows] == trained
    assert [len(row["times"].get("cvjax", [])) for row in rows] == [3, 3, 3, 1, 0, 0]
    assert rows[-1]["absent"] == dict.fromkeys(rows[-1]["sides"], "the minutes were over")
    assert (
        "- Without cvjax: yolov1 (training); fasterrcnn_resnet50_fpn (training): the minutes were over."
        in (tmp_path / "accelerator-cpu.md").read_text()
    )


def test_the_same_command_again_begins_with_what_is_missing(tmp_path):
    flags = ("--only", "training resnet50 training", "training unet training", "training yolov1 training")
    first = Stage()
    run(tmp_path, first.connect, *flags, "--minutes", str((30 + accelerator.RESERVE) / 60), clock=lambda: first.now)
    assert [bool(row["seconds"]) for row in saved(tmp_path)] == [True, True, False]
    seen = []
    again = Stage(lambda side, work: seen.append(work["model"]))
    run(tmp_path, again.connect, *flags, "--minutes", str((30 + accelerator.RESERVE) / 60), clock=lambda: again.now)
    assert seen == ["yolov1", "resnet50"]
    # U-Net's turn did not come again, and its earlier figures stay.
    assert [bool(row["seconds"]) for row in saved(tmp_path)] == [True, True, True]


def test_files_are_whole_before_each_row(tmp_path):
    counts = []

    def look(side, work):
        file = tmp_path / "accelerator-cpu.json"
        counts.append(len(saved(tmp_path)) if file.exists() else 0)
        assert [path.suffix for path in tmp_path.iterdir()] in ([], [".json", ".md"], [".md", ".json"])

    run(tmp_path, Stage(look).connect, "--only", "operators", "training")
    asked = [row for row in accelerator.chosen(TINY, ["operators", "training"]) if row.case]
    expected = [place for place, row in enumerate(asked) for side in row.sides if side not in row_list.TORCH_SIDES]
    assert counts == expected


def test_a_row_that_fails_says_why_and_the_others_go_on(tmp_path):
    def fail(side, work):
        if work.get("model") == "unet":
            raise Unavailable("XlaRuntimeError: out of memory")
        if work.get("model") == "yolov1":
            raise KeyError("a mistake of the program")
        if work["kind"] == "nms" and side == "torch":
            raise RuntimeError("the process of torch ended with code -9")

    stage = Stage(fail)
    run(tmp_path, stage.connect, "--only", "training", "NMS", missing={})
    rows = {(row["case"], row["group"]): row for row in saved(tmp_path)}
    assert rows["unet", "training"]["absent"]["cvjax"] == "XlaRuntimeError: out of memory"
    assert "a mistake of the program" in rows["yolov1", "training"]["absent"]["cvjax"]
    suppression = rows["NMS, proposals, 50 to 10", "operators"]
    assert suppression["seconds"] == {"cvjax": 2.0}
    assert suppression["absent"]["torch"] == "the process of torch ended with code -9"
    assert rows["fasterrcnn_resnet50_fpn", "training"]["seconds"] == {"cvjax": 2.0, "torch": 3.0}
    text = (tmp_path / "accelerator-cpu.md").read_text()
    assert "Without cvjax: unet (training); unet (training with XLA's options): XlaRuntimeError: out of memory." in text
    assert "| fasterrcnn_resnet50_fpn | 2 of 64x64 | 1.00 | 0.667 | - | 1.50 | - |" in text


def test_each_training_row_has_new_processes_and_others_share_them(tmp_path):
    stage = Stage()
    run(tmp_path, stage.connect, "--only", "training resnet50 training", "training unet training", "transposed")
    assert stage.started == ["cvjax", "cvjax", "cvjax", "flax", "cvjax-cpu-forms", "cvjax"]


def test_who_is_late_is_stopped_and_left_out():
    class Late(Scripted):
        def __init__(self, side, stage):
            super().__init__(side, stage)
            self.stopped = threading.Event()

        def prepare(self, work):
            assert self.stopped.wait(60)
            raise RuntimeError("gone")

        def stop(self):
            self.stopped.set()

    stage = Stage()
    late, fine = Late("torch-compile", stage), Scripted("cvjax", stage)
    times, absent = measure([fine, late], {}, Schedule(2), Limits(until=1e9, patience=0.05, clock=lambda: stage.now))
    assert times == {"cvjax": [2.0, 2.0]}
    assert absent == {"torch-compile": "not ready after 0 seconds"}


def test_who_dies_in_its_turn_is_left_out():
    class Mortal(Scripted):
        def burst(self, repeat):
            raise BrokenPipeError("gone")

    stage = Stage()
    contestants = [Mortal("torch", stage), Scripted("cvjax", stage)]
    times, absent = measure(contestants, {}, Schedule(1), Limits(until=1e9, patience=9, clock=lambda: stage.now))
    assert times == {"cvjax": [2.0]}
    assert absent == {"torch": "ended in its turn: gone"}


def test_contestants_may_share_a_process():
    command = [sys.executable, str(pathlib.Path(__file__).with_name("echo_side.py")), "2"]
    environment = {"PYTHONPATH": str(pathlib.Path(paired.__file__).parent)}
    house = House(lambda: paired.Contestant("host", command, environment))
    a, b = house.connect("a"), house.connect("b")
    np.testing.assert_array_equal(a.prepare({"name": "count", "n": 3})[1]["output"], [2, 4, 6])
    np.testing.assert_array_equal(b.prepare({"name": "count", "n": 2})[1]["output"], [2, 4])
    assert min(a.burst(2), b.burst(2)) >= 0  # Both cases are there at once.
    assert not b.has_ended
    a.stop()
    a.__exit__()
    assert b.has_ended
    with pytest.raises((RuntimeError, OSError, ValueError)):
        b.burst(1)
    c = house.connect("c")
    assert not c.has_ended
    c.prepare({"name": "count", "n": 1})
    c.__exit__()


def test_on_a_tpu_the_sides_of_jax_live_together(tmp_path):
    stage = Stage()

    def connect(side):
        one = stage.connect(side)
        one.hello = {"versions": {}, "device": "TPU v5 lite"}
        one.has_ended = False
        return one

    processes = accelerator.Processes(connect, {}, together=True)
    row = next(row for row in FULL if row.group == "lowerings" and row.case.startswith("max-pool"))
    found, absent = processes.of(row)
    assert [one.name for one in found] == ["cvjax", "flax", "cvjax-cpu-forms", "torch"]
    assert list(absent) == ["torch-compile"]
    assert stage.started == ["cvjax", "torch"]


def test_other_devices_and_no_accelerator(tmp_path):
    stage = Stage()

    def connect(side):
        one = stage.connect(side)
        one.hello = {"versions": {}, "device": "cpu" if side == "torch" else "NVIDIA H200"}
        return one

    missing = {}
    where = accelerator.introduce(connect, missing, tiny=False)
    assert list(where["contestants"]) == ["cvjax"]
    assert missing["torch-compile"] == "this PyTorch runs on cpu, and JAX on NVIDIA H200"
    with pytest.raises(SystemExit, match="no accelerator here; --tiny"):
        accelerator.introduce(stage.connect, dict(NO_TORCH), tiny=False)
    with pytest.raises(SystemExit, match="--only nothing: no row has these words"):
        run(tmp_path, stage.connect, "--only", "nothing")


def test_lowerings_compare_what_they_compute():
    work = next(row.work for row in TINY if row.group == "lowerings" and row.mode == "kernel gradient")
    ours, theirs = (sides.prepare(work, side).values for side in ("cvjax-cpu-forms", "flax"))
    assert list(ours) == ["kernel gradient"]
    assert ours["kernel gradient"].shape == (2, 2, 6, 5)
    np.testing.assert_allclose(ours["kernel gradient"], theirs["kernel gradient"], rtol=0.02, atol=0.05)
