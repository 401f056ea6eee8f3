"""The largest batch that fits: against the memory that the compiler states, in a run and in its resumption."""

import dataclasses
import json

import jax
import pytest
from commands import configure, run
from tiny_sets import class_tree, write_tree

from cvjax.engine.pacing import batch_search
from cvjax.engine.pacing.batch_search import device_room, with_found_batch
from cvjax.engine.parallel import JitStrategy, PmapStrategy
from cvjax.errors import ConfigError
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


def stated(config, dataset, rows):
    """What XLA says that the jitted step takes: arguments, temporaries and code, with two further batches."""
    from cvjax.engine.ahead import abstract_batch, abstract_state, lower_train_step

    model = config.model.build(num_classes=len(dataset.class_names))
    task = Classification.create(config, dataset, model)
    state, batch = abstract_state(task, model), abstract_batch(task, dataset, rows)
    said = lower_train_step(task, model, JitStrategy(jax.devices()[:1]), state, batch).compile().memory_analysis()
    size = {
        name: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        for name, tree in (("state", state), ("batch", batch))
    }
    return said.temp_size_in_bytes + said.generated_code_size_in_bytes + 2 * size["state"] + 3 * size["batch"]


def test_the_largest_batch_fits_and_the_next_does_not(config, tmp_path, monkeypatch, capsys):
    strategy, dataset = JitStrategy(jax.devices()[:1]), Classification.open(config, "train")
    config = dataclasses.replace(config, workdir=str(tmp_path))
    room = int(stated(config, dataset, 21) / 0.9) + 4096
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: room * len(jax.local_devices()))
    found = with_found_batch(config, Classification, dataset, strategy)
    assert 20 <= found.batch_size <= 22
    assert stated(config, dataset, found.batch_size) <= 0.9 * room < stated(config, dataset, found.batch_size + 2)
    assert not found.find_batch_size
    assert found.optim == config.optim
    said = " ".join(capsys.readouterr().out.split())
    rate = config.optim.learning_rate
    assert f"the learning rate stays {rate:g}, which was given for 8: the linear rule (1706.02677)" in said
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: 1000)
    with pytest.raises(ConfigError, match="not even 1 images"):
        with_found_batch(config, Classification, dataset, strategy)
    with pytest.raises(ConfigError, match="--parallel jit"):
        with_found_batch(config, Classification, dataset, PmapStrategy())


def test_a_device_of_the_cpu_has_its_part_of_the_hosts_memory():
    assert 0 < device_room() <= free_host_memory() * 1.2 / len(jax.local_devices())


@pytest.mark.slow
def test_a_run_takes_the_batch_that_it_found_and_keeps_it(config, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: 10**12)
    config = dataclasses.replace(config, workdir=str(tmp_path))
    run(config)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["data"]["batch_size"] == written["run"]["batch_size"] == 80  # all of the data, 40 of two classes
    monkeypatch.setattr(batch_search, "free_host_memory", lambda: 1000)
    again = run(dataclasses.replace(config, steps=2, resume=True))
    assert again.step == 2
