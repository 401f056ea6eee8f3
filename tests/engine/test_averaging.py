"""Averages of a run's checkpoints: what they are, and that commands take them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from commands import configure
from made import segmentation
from saved_run import drawn
from tiny_sets import class_tree, write_tree
from toy import CLASSES, ToyNet, toy_batch, toy_variables

import cvjax
from cvjax.cli import convert
from cvjax.engine.checkpoint import Checkpoints
from cvjax.engine.run import run_metadata
from cvjax.engine.state import TrainState
from cvjax.errors import CheckpointError, ConfigError
from cvjax.tasks.averaged import measured
from cvjax.tasks.classification.task import Classification
from experiments import resnet_imagenet

STEPS = (5, 10, 15)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run that keeps three checkpoints, each of another draw; the best score is that of the first."""
    folder = tmp_path_factory.mktemp("average")
    write_tree(folder / "photos", class_tree("train/", 8) | class_tree("val/", 2))
    flags = (
        "quick --data image_folder_classification --input.crop 32 32 --model.width 8 --model.stage-sizes 1 1 1 1"
        f" --steps 15 --batch-size 8 --eval.batch-size 8 --input.manual-dir {folder / 'photos'}"
        f" --workdir {folder / 'run'}"
    )
    config = configure(resnet_imagenet, flags.split())
    dataset = Classification.open(config, "train")
    model = config.model.build(num_classes=len(dataset.class_names))
    task = Classification.create(config, dataset, model)
    checkpoints = Checkpoints(folder / "run" / "checkpoints", keep=3, metric="top1")
    variables = drawn(lambda key: task.init(model, key))
    for number, step in enumerate(STEPS):
        variables = jax.tree.map(lambda x: (x * 1.5 + 0.1).astype(x.dtype), variables)
        state = TrainState(np.asarray(step, np.int32), variables["params"], variables["batch_stats"], {}, None)
        scores = {"top1": 1.0 / (1 + number)}
        at_step = run_metadata(task, dataset) | {"position": step, "scores": scores, "metric": "top1"}
        checkpoints.save(jax.device_put(state), at_step, scores, wait=True)
    checkpoints.close()
    return folder / "run"


def stored(place):
    """The variables of a checkpoint, read by Orbax alone."""
    with ocp.StandardCheckpointer() as reader:
        return jax.tree.map(np.asarray, reader.restore((place / "variables").absolute()))


def same(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, theirs)


@pytest.mark.parametrize(("flags", "steps"), [("--average 2", (10, 15)), ("--average-steps 5 15", (5, 15))])
def test_the_average_is_the_mean_of_the_files(saved, tmp_path, flags, steps):
    convert.main([str(saved), str(tmp_path / "mean"), *flags.split()])
    convert.main([str(saved), str(tmp_path / "mean.safetensors"), "--layout", "cvjax", *flags.split()])
    trees = [stored(saved / "checkpoints" / str(step)) for step in steps]
    expected = jax.tree.map(lambda *leaves: np.mean(np.stack(leaves), axis=0, dtype=np.float64), *trees)
    loaded = cvjax.load(tmp_path / "mean")
    same(loaded.variables, expected)
    assert loaded.metadata["averaged"] == list(steps)
    assert loaded.place.name == "15"
    same(cvjax.load_pretrained(str(tmp_path / "mean.safetensors")).variables, expected)


@pytest.mark.slow
def test_an_average_is_scored_as_any_run(saved, tmp_path):
    convert.main([str(saved), str(tmp_path / "mean"), "--average", "3", "--average-bn", "2"])
    report = cvjax.evaluate(tmp_path / "mean")
    assert 0.0 <= report["top1"] <= 1.0
    with pytest.raises(CheckpointError, match="holds a run already"):
        convert.main([str(saved), str(tmp_path / "mean"), "--average", "2"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--average 4", "3 checkpoints, fewer than 4 .*5, 10, 15.*--keep"),
        ("--average-steps 5 7", "no checkpoint of step 7"),
        ("--average 1", "two checkpoints or more"),
        ("--average 2 --average-steps 5 10", "give one of them"),
        ("--average-bn 3", "--average or --average-steps too"),
        ("--average 2 --average-bn 0", "--average-bn is 0"),
    ],
)
def test_what_is_no_average_is_refused(saved, tmp_path, flags, words):
    with pytest.raises(ConfigError, match=words):
        convert.main([str(saved), str(tmp_path / "mean"), *flags.split()])


def test_measured_statistics_are_the_means_of_those_of_the_batches():
    """Of a convolution's maps, computed outside of the net; whatever the running statistics were."""
    task, model, variables = segmentation(CLASSES), ToyNet(), jax.device_get(toy_variables())
    batches = [toy_batch(number) for number in range(3)]
    far = jax.tree.map(lambda x: x + 3.0, variables["batch_stats"])
    found = measured(task, model, {**variables, "batch_stats": far}, iter(batches))
    kernel, means, variances = variables["params"]["backbone"]["kernel"], [], []
    for batch in batches:
        inputs, _ = task.prepare({name: jnp.asarray(x) for name, x in batch.items()}, None)
        padded = np.pad(np.asarray(inputs, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        size = inputs.shape[1]
        maps = sum(
            padded[:, i : i + size, j : j + size] @ np.asarray(kernel[i, j], np.float64)
            for i, j in itertools.product(range(3), range(3))
        )
        means.append(maps.mean((0, 1, 2)))
        variances.append(maps.var((0, 1, 2)))
    statistics = found["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(statistics["mean"], np.mean(means, 0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(statistics["var"], np.mean(variances, 0), rtol=1e-3, atol=1e-4)
    assert found["params"] is variables["params"]
