"""The command that compiles ahead of time: for this process's CPUs, and for TPUs where their compiler is installed."""

import dataclasses
import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable
from typing import get_args

import denoising
import jax
import numpy as np
import pytest
from PIL import Image

from cvjax.cli import aot
from cvjax.data.stand_in import StandIn
from cvjax.engine import ahead
from cvjax.engine.ahead import TooLarge, abstract_batch
from cvjax.engine.modes import Mode
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.parallel import FsdpStrategy, JitStrategy, SpatialStrategy
from cvjax.engine.run import train_stream
from cvjax.errors import ConfigError
from cvjax.inspection.chips import parse_topology
from cvjax.inspection.step_report import Run, StepReport
from cvjax.runtime import topology

PARAMS = 5 * 5 * 3 * 8 + 8 + 2 * 8 + 5 * 5 * 8 * 3 + 3  # of the denoiser: convolution, norm, convolution
STATISTICS = 2 * 8


def planned(
    images: int = 0, strategy: Callable[[list], JitStrategy] = JitStrategy, batch: int = 16, width: int = 8
) -> aot.Plan:
    """A net of two convolutions on 8 devices."""
    optim = OptimizerConfig(name="nesterov", ema_decay=0.99)
    net = denoising.Net(width=width)
    config = denoising.DenoisingConfig(model=net, data="stand-in", steps=100, batch_size=batch, optim=optim)
    dataset, model = StandIn("stand-in", "train", "mask", 2), config.model.build(2)
    run = Run("denoising quick", "denoiser in float32", "jit", parse_topology("v5e:2x4"), batch, images, ("a note",))
    task = denoising.Denoising.create(config, dataset, model)
    return aot.Plan(run, task, model, dataset, strategy(jax.devices()))


def plan_of(command: str) -> aot.Plan:
    """The plan of a command, for the devices of this process."""
    return aot.plan(*aot.read(command.split()), jax.devices)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> aot.Arguments:
    folder = tmp_path_factory.mktemp("aot")
    files = {name: str(folder / f"a.{name}") for name in ("json", "picture", "hlo")}
    return aot.Arguments("denoising", "quick", "v5e:2x4", **(files | {"picture": str(folder / "new" / "a.png")}))


@pytest.fixture(scope="module")
def report(arguments) -> StepReport:
    return aot.report(planned(images=3200), hlo=arguments.hlo)


def test_memory_by_hand(report):
    memory = report.memory
    assert memory.parameters == memory.average == 4 * (PARAMS + STATISTICS)
    assert memory.optimizer == 4 * PARAMS + 4  # the momentum, and the schedule's count
    # Two rows: image, index, valid. This step reads no mask and does not care what was skipped.
    assert memory.batch == 2 * (48 * 48 * 3 + 4 + 1)
    assert memory.total > memory.temporaries > 0


def test_counts_by_hand(report, arguments):
    # Each of 48 rows and columns has five taps, but for two that lack one and two that lack two.
    pairs = (5 * 48 - 6) ** 2
    forward = 2 * 2 * pairs * 2 * 3 * 8
    # Gradients: of both kernels, and of the second convolution's input alone.
    assert report.cost.total.flops == 2.5 * forward
    np.testing.assert_allclose(report.cost.total.flops, report.xla_flops, rtol=0.2)
    # Summed over devices: the gradients; per norm two sums forward and two backward; loss, weight and accuracy.
    assert report.exchanged().keys() == {"all-reduce"}
    number, size = report.exchanged()["all-reduce"]
    assert 4 * PARAMS <= size <= 4 * (PARAMS + 4 * 8 + 3)
    text = pathlib.Path(arguments.hlo or "").read_text()
    assert number == text.count(" all-reduce(") + text.count(" all-reduce-start(")


def test_json_text_and_picture_say_the_same(report, arguments):
    aot.write(arguments, report)
    written = json.loads(pathlib.Path(arguments.json or "").read_text())
    assert written["memory"]["total"] == report.memory.total
    assert (written["batch_per_chip"], written["batch"], written["chips"]) == (2, 16, 8)
    best = 16 / max(written["estimate"]["seconds"].values())
    assert written["estimate"]["images_per_second"] == pytest.approx(best)
    assert written["estimate"]["chip_hours"] == pytest.approx(3200 / best * 8 / 3600)
    text = report.as_text()
    assert text.startswith(
        "denoising quick: denoiser in float32 on v5e:2x4 (8 chips), layout jit, 2 images a chip, 16 a"
    )
    for part in (
        "of each chip's 16.0 GB",
        f"at best {best:,.0f} images/s",
        "an estimate",
        "note: a note",
        "3,200 images",
    ):
        assert part in text
    with Image.open(arguments.picture or "") as picture:
        assert picture.width == 1440


def test_layouts_are_those_of_runs():
    assert plan_of("deeplab_voc quick --topology v5e:2x4 --layout spatial --spatial 2").run.batch == 16
    assert plan_of("deeplab_voc quick --topology v5e:2x4 --parallel fsdp").run.layout == "fsdp"
    assert set(aot.LAYOUTS) == set(get_args(Mode)) - {"pmap"}


@pytest.mark.slow
def test_fsdp_splits_the_state():
    split = aot.report(planned(strategy=FsdpStrategy, width=64))
    whole, parts = 64 + 2 * 64 + 3, 2 * 5 * 5 * 3 * 64 // 8  # biases and the norm; both kernels
    assert split.memory.parameters == split.memory.average == 4 * (whole + 2 * 64 + parts)
    assert split.memory.optimizer == 4 * (whole + parts) + 4
    assert "all-gather" in split.exchanged()


@pytest.mark.slow
def test_spatial_splits_the_rows():
    shared = aot.report(planned(strategy=lambda devices: SpatialStrategy(4, devices), batch=2))
    assert (shared.run.batch, shared.run.batch_per_chip) == (2, 0.25)
    assert shared.memory.batch == 12 * 48 * 3 + 4 + 1  # of the image that four devices share
    assert "collective-permute" in shared.exchanged()
    assert "0.25 images a chip, 2 a step" in shared.as_text()


def test_a_run_of_unknown_length_has_no_cost(report):
    endless = dataclasses.replace(report, run=dataclasses.replace(report.run, images=0))
    assert endless.chip_hours is None
    assert "--examples" in endless.as_text()
    assert json.loads(endless.as_json())["estimate"]["chip_hours"] is None


def test_a_file_that_cannot_be_written(report, arguments, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("json", "picture"):
        wrong = dataclasses.replace(
            arguments, **{"json": None, "picture": None, name: str(tmp_path / "file" / "a.png")}
        )
        with pytest.raises(ConfigError, match="file"):
            aot.write(wrong, report)


@pytest.mark.parametrize("experiment", ["resnet_imagenet", "deeplab_voc", "yolo_voc", "hypercolumn_masks"])
def test_batches_have_the_loader_s_shapes(experiment):
    plan = plan_of(f"{experiment} quick --topology v5e:2x4")
    config = plan.task.config
    shown = abstract_batch(plan.task, plan.dataset, config.batch_size)
    real_config = dataclasses.replace(config, data="scenes")
    opened = type(plan.task).open(real_config, config.input.train_split)
    assert len(opened.class_names) == len(plan.dataset.class_names)
    task = type(plan.task).create(real_config, opened, plan.model)
    real = next(train_stream(task, opened, 0))
    assert {name: (x.shape, x.dtype) for name, x in real.items()} == {
        name: (x.shape, x.dtype) for name, x in shown.items()
    }


def test_batches_that_do_not_divide_are_said():
    plan = plan_of("deeplab_voc voc_pod --topology v5e:2x4 --batch-size 12")
    assert (plan.run.batch_per_chip, plan.run.batch, plan.run.images) == (2, 16, 1_875 * 12)
    assert "12 cannot be spread evenly over 8 shares" in plan.run.notes[0]
    assert plan.run.model == "deeplabv3plus_resnet101 in bfloat16"
    assert len(plan.task.class_names) == 21


def test_the_preset_for_pods_divides_over_a_whole_one():
    config = aot.read("deeplab_voc voc_pod --topology v5e:16x16".split())[1]
    assert config.batch_size == config.eval.batch_size == 256
    usual = aot.read("deeplab_voc voc --topology v5e:16x16".split())[1]
    more = config.batch_size // usual.batch_size
    assert config.steps * more == usual.steps
    assert config.optim.learning_rate == pytest.approx(usual.optim.learning_rate * more)
    kept = [run.model.get("norm")["momentum"] for run in (config, usual)]
    assert kept[0] == pytest.approx(kept[1] ** more)


def test_epochs_need_the_number_of_examples():
    command = "resnet_imagenet cifar10 --topology v5e:2x4"
    assert plan_of(command).run.images == pytest.approx(164 * 50_000, rel=1e-3)
    assert plan_of(f"{command} --data imagenette").run.images == 0
    assert plan_of(f"{command} --data imagenette --examples 1280").run.images == 164 * 1280


def test_the_command_searches_the_largest_batch(report, arguments, monkeypatch, capsys):
    """With a compiler that says what one would say for a chip whose memory ends at 21 images."""
    compiled = []

    def compile_step(task, model, dataset, strategy, run, hlo=None):
        compiled.append(run.batch)
        if run.batch_per_chip > 21:
            raise TooLarge("it does not fit")
        memory = dataclasses.replace(report.memory, temporaries=run.batch * 87_500_000)
        return dataclasses.replace(report, run=run, memory=memory)

    monkeypatch.setattr(ahead, "compile_step", compile_step)
    monkeypatch.setattr(topology, "tpu_devices", lambda name: jax.devices())
    aot.main("resnet_imagenet quick --topology v5e:2x4 --model.width 8 --largest-batch --steps 100".split())
    printed, said = capsys.readouterr()
    assert printed.startswith("resnet_imagenet quick: resnet18 in float32 on v5e:2x4 (8 chips), layout jit, 4 images a")
    assert (
        f"largest batch that fits: 168 images a step, 21 a chip (compiled: {', '.join(map(str, compiled))})" in printed
    )
    assert "the whole run, 3,200 images" in printed
    assert "32 images a step fit" in said
    assert "it does not fit" in said


def test_a_step_that_does_not_fit_is_one_sentence():
    run = planned().run
    said = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 22.28G of"
        " 15.75G hbm. Exceeded hbm capacity by 6.53G."
    )
    error = ahead.too_large(run, said)
    assert str(error) == (
        "denoising quick does not fit on v5e:2x4 with 2 images a chip (it needs 22.28G of 15.75G); give a smaller"
        " --batch-per-chip, or --optim.accumulate for more micro-batches"
    )
    assert ahead.too_large(run, "INTERNAL: something else") is None


def test_without_a_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(ConfigError, match=r"pip install 'cvjax\[aot\]'"):
        topology.tpu_devices("v5e:2x2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'cvjax\[cuda\]'"):
        topology.h100_devices(8)


def test_what_is_larger_than_the_chip_does_not_fit():
    plan = planned()
    small = dataclasses.replace(plan.run.topology.chip, memory=100_000)
    run = dataclasses.replace(plan.run, topology=dataclasses.replace(plan.run.topology, chip=small))
    with pytest.raises(TooLarge, match=r"with 2 images a chip \(it needs 0\.00 GB of 0\.0 GB\)"):
        aot.report(dataclasses.replace(plan, run=run))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="TPU's compiler (extra aot) is not installed")
def test_tpu_s_own_compiler(capsys):
    aot.main([*"resnet_imagenet quick --topology v5e:2x2 --model.width 8 --input.crop 32 32".split()])
    printed = capsys.readouterr().out
    assert "fits: " in printed
    assert "all-reduce" in printed
    assert "gradient of kernel" in printed


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is None, reason="the extra cuda is not installed")
def test_the_compiler_for_gpus(capsys):
    aot.main([*"resnet_imagenet quick --topology h100:8 --model.width 8 --input.crop 32 32".split()])
    printed = capsys.readouterr().out
    assert "on h100:8 (8 chips)" in printed
    assert "gradient of kernel" in printed
