"""The largest batch that fits: against the memory that the compiler states, in a run and in its resumption."""

import dataclasses
import json

import jax
import pytest
from commands import configure, run
from tiny_sets import class_tree, write_tree

from cvjax.engine.ahead import abstract_batch, abstract_state, lower_train_step
from cvjax.engine.pacing import batch_search
from cvjax.engine.pacing.batch_search import device_room, step_bytes, with_found_batch
from cvjax.engine.parallel import JitStrategy, PmapStrategy
from cvjax.errors import ConfigError
from cvjax.inspection.step_report import Memory
from cvjax.runtime.host_memory import free_host_memory
from cvjax.tasks.classification.task import Classification
from experiments import resnet_imagenet


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_tree(folder, class_tree("train/", 40) | class_tree("val/", 4))
    flags = (
        "quick --data image_folder_classification --input.crop 32 32 --model.width 4 --model.stage-sizes 1 1 1 1"
        " --steps 1 --batch-size 8 --eval.batch-size 8 --log-every 0 --eval-every 0 --checkpoint-every 0"
        f" --find-batch-size --input.manual-dir {folder}"
    )
    return configure(resnet_imagenet, flags.split())


def linear(rows):
    """A step whose memory is known: 1000 bytes of parameters, 500 of momentum, 10 a row in the batch, 100 besides."""
    return Memory(parameters=1000, average=0, optimizer=500, batch=10 * rows, temporaries=100 * rows, program=50)


@pytest.mark.parametrize("fitting", [1, 7, 21, 64, 119])
def test_the_largest_batch_fits_and_a_sixteenth_more_does_not(config, tmp_path, monkeypatch, capsys, fitting):
    tried = []
    monkeypatch.setattr(batch_search, "compiled_step", lambda *args: (None, linear(tried.append(args[-1]) or args[-1])))
    # State, its copy for the checkpoint, the program; and of each row its temporaries and three batches.
    room = -(-(2 * 1500 + 50 + fitting * (100 + 3 * 10)) * 10 // 9)
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: room * len(jax.local_devices()))
    strategy, dataset = JitStrategy(jax.devices()[:1]), Classification.open(config, "train")
    config = dataclasses.replace(config, workdir=str(tmp_path))
    found = with_found_batch(config, Classification, dataset, strategy)
    assert fitting - max(1, fitting // 16) < found.batch_size <= fitting
    assert len(tried) < 9
    assert not found.find_batch_size
    assert found.optim == config.optim
    said = " ".join(capsys.readouterr().out.split())
    rate = config.optim.learning_rate
    assert f"the learning rate stays {rate:g}, which was given for 8: the linear rule (1706.02677)" in said


def test_what_cannot_be_searched_is_refused(config, tmp_path, monkeypatch):
    dataset, config = Classification.open(config, "train"), dataclasses.replace(config, workdir=str(tmp_path))
    monkeypatch.setattr(batch_search, "compiled_step", lambda *args: (None, linear(args[-1])))
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: 1000)
    with pytest.raises(ConfigError, match="not even 1 images"):
        with_found_batch(config, Classification, dataset, JitStrategy(jax.devices()[:1]))
    with pytest.raises(ConfigError, match="--parallel jit"):
        with_found_batch(config, Classification, dataset, PmapStrategy())


@pytest.mark.slow
def test_a_step_takes_what_the_compiler_states(config):
    """XLA's own figures of the jitted step: temporaries and code, twice the state and three batches."""
    dataset = Classification.open(config, "train")
    model = config.model.build(num_classes=len(dataset.class_names))
    task, strategy = Classification.create(config, dataset, model), JitStrategy(jax.devices()[:1])
    state, batch = abstract_state(task, model), abstract_batch(task, dataset, 16)
    said = lower_train_step(task, model, strategy, state, batch).compile().memory_analysis()
    bytes_of = {
        name: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        for name, tree in (("state", (state.variables, state.opt_state)), ("batch", batch))
    }
    unused = sum(batch[name].size * batch[name].dtype.itemsize for name in ("skipped",))  # the step does not take it
    expected = said.temp_size_in_bytes + said.generated_code_size_in_bytes
    expected += 2 * bytes_of["state"] + 3 * (bytes_of["batch"] - unused)
    found = step_bytes(task, model, dataset, strategy, 16)
    assert found.temporaries == said.temp_size_in_bytes
    assert found.total == pytest.approx(expected, rel=0.02)


def test_a_device_of_the_cpu_has_its_part_of_the_hosts_memory():
    assert 0 < device_room() <= free_host_memory() * 1.2 / len(jax.local_devices())


@pytest.mark.slow
def test_a_run_takes_the_batch_that_it_found_and_keeps_it(config, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: 10**12)
    config = dataclasses.replace(config, workdir=str(tmp_path))
    run(config)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["data"]["batch_size"] == written["run"]["batch_size"] == 120  # all of the data, 40 of three classes
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: 1000)
    again = run(dataclasses.replace(config, steps=2, resume=True))
    assert again.step == 2
