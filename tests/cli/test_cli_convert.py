"""The convert command: from a run, a file or a published name to a file that PyTorch reads."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.cli import convert
from cvjax.errors import CheckpointError, ConfigError
from cvjax.models import create_model
from cvjax.tasks import load
from cvjax.tasks.segmentation.config import SegmentationConfig
from cvjax.tasks.segmentation.task import Segmentation
from cvjax.weights import from_torch, hub, open_weights, read_state_dict, to_torch, write_darknet, write_state_dict
from cvjax.weights.hub import Fetched
from cvjax.weights.own import from_own, is_own, read_note, to_own


@pytest.fixture(scope="module")
def state():
    """ResNet-18's state dict, of noise, with five classes."""
    model = create_model("resnet18", num_classes=5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    return to_torch("resnet18", jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes))


@pytest.fixture
def file(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    write_state_dict(path, state)
    return path


def command(*arguments) -> None:
    convert.main([str(argument) for argument in arguments])


def test_a_file_becomes_another_kind_of_file(state, file, tmp_path, capsys):
    command(file, tmp_path / "copy.npz")
    assert "resnet18 (num_classes=5), in the layout of torchvision" in capsys.readouterr().out
    command(tmp_path / "copy.npz", tmp_path / "again.safetensors", "--model", "resnet18")
    assert "122 entries, 11.19 M numbers" in capsys.readouterr().out
    again = read_state_dict(tmp_path / "again.safetensors")
    before = read_state_dict(file)
    assert list(again) == list(before)
    assert all(again[key].tobytes() == before[key].tobytes() for key in before)
    assert read_note(tmp_path / "again.safetensors")["model"] == {"name": "resnet18", "options": {}}


def test_a_file_of_another_model_is_refused_and_nothing_written(file, tmp_path):
    with pytest.raises(CheckpointError, match=r"the nearest is resnet34 .*missing: layer1"):
        command(file, tmp_path / "out.npz", "--model", "resnet34")
    assert not (tmp_path / "out.npz").exists()


def test_classes_and_channels_change(state, file, tmp_path, caplog):
    options = ("--model", "resnet18", "--num-classes", 3, "--in-channels", 1, "--seed", 7)
    command(file, tmp_path / "out.npz", *options)
    changed = read_state_dict(tmp_path / "out.npz")
    assert set(changed) == set(state)
    fresh = from_torch("resnet18", state, num_classes=3, key=jax.random.key(7))["params"]["head"]["kernel"]
    np.testing.assert_array_equal(changed["fc.weight"], fresh.T)
    np.testing.assert_allclose(changed["conv1.weight"][:, 0], state["conv1.weight"].sum(1), rtol=1e-5, atol=1e-6)
    assert "head fc is replaced" in caplog.text
    command(file, tmp_path / "found.npz", "--num-classes", 3, "--in-channels", 1, "--seed", 7)
    found = read_state_dict(tmp_path / "found.npz")
    assert all(found[key].tobytes() == changed[key].tobytes() for key in changed)


def test_a_trained_run_is_exported_under_pytorchs_names(state, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    loaded = types.SimpleNamespace(
        variables=from_torch("resnet18", state),
        metadata={"model": {"name": "resnet18", "options": {}}},
        task=types.SimpleNamespace(seen=lambda known: known),
    )
    monkeypatch.setattr(load, "load_for_inference", {str(run): loaded}.__getitem__)
    command(run, tmp_path / "out.safetensors")
    exported = read_state_dict(tmp_path / "out.safetensors")
    assert set(exported) == set(state)
    assert all(exported[key].tobytes() == state[key].tobytes() for key in state)
    with pytest.raises(ConfigError, match="is for files"):
        command(run, tmp_path / "out.safetensors", "--model", "resnet18")


def test_published_weights_are_written_out(state, file, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "fetch_pretrained", lambda name, data_dir: Fetched(name, file, None))
    command("resnet18", tmp_path / "out.npz")
    assert set(read_state_dict(tmp_path / "out.npz")) == set(state)


def test_caffes_names_become_torchvisions(tmp_path, capsys):
    """The example of a net whose weights the world has in two layouts."""
    model = create_model("resnet50", num_classes=3, width=8, stride_in_1x1=True, stem_pool="ceil")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    caffe = to_torch("resnet50", variables, layout="caffe")
    assert caffe["res2a_branch2a.weight"].shape == (8, 8, 1, 1)
    assert not any(key.endswith("num_batches_tracked") for key in caffe)
    again = from_torch("resnet50", caffe, variables, layout="caffe")
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(variables)):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_that_nobody_has_names_for_is_written_under_ours(tmp_path, monkeypatch):
    model = create_model("resnet18", num_classes=2, width=8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    run = tmp_path / "run"
    run.mkdir()
    record = {"model": {"name": "hypercolumn_vgg16", "options": {}}, "task": {"class_names": ["a", "b"]}}
    task = Segmentation(SegmentationConfig(), ("a", "b"), mean=(51.0, 102.0, 153.0), std=(255.0, 255.0, 255.0))
    loaded = types.SimpleNamespace(variables=variables, metadata=record, task=task)
    monkeypatch.setattr(load, "load_for_inference", {str(run): loaded}.__getitem__)
    with pytest.raises(ConfigError, match=r"which \.safetensors alone has a place for; write out\.safetensors"):
        command(run, tmp_path / "out.npz")
    command(run, tmp_path / "out.safetensors")
    written = read_state_dict(tmp_path / "out.safetensors")
    assert is_own(written)
    assert written.keys() == to_own(variables).keys()
    for ours, theirs in zip(jax.tree.leaves(from_own(written)), jax.tree.leaves(variables)):
        np.testing.assert_array_equal(ours, theirs)
    note = read_note(tmp_path / "out.safetensors")
    assert note.pop("preprocessing") == {
        "size": None,
        "resize": None,
        "mean": [0.2, 0.4, 0.6],
        "std": [1, 1, 1],
        "interpolation": "bilinear",
        "bgr": False,
    }
    assert note == {"model": record["model"], "num_classes": 2, "class_names": ["a", "b"]}


def test_a_darknet_file_is_recognized_by_its_size_and_comes_back(tmp_path, capsys):
    model = create_model("darknet_yolov1_tiny", num_classes=1000)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    write_darknet(tmp_path / "tiny.weights", variables)
    command(tmp_path / "tiny.weights", tmp_path / "tiny.safetensors")
    assert "darknet_yolov1_tiny (num_classes=1000), a darknet file" in capsys.readouterr().out.replace("\n", " ")
    opened = open_weights(tmp_path / "tiny.safetensors")
    assert (opened.model, opened.num_classes) == ("darknet_yolov1_tiny", 1000)
    assert (opened.preprocessing.mean, opened.preprocessing.std) == ((0, 0, 0), (1, 1, 1))
    command(tmp_path / "tiny.safetensors", tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == (tmp_path / "tiny.weights").read_bytes()
    with pytest.raises(ConfigError, match="--as takes yolov1, "):
        command(tmp_path / "tiny.weights", tmp_path / "out.safetensors", "--as", "resnet18")
    short = tmp_path / "short.weights"
    short.write_bytes((tmp_path / "tiny.weights").read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"7317383 floats, and the nearest .* darknet_yolov1_tiny, has 7317384"):
        command(short, tmp_path / "out.safetensors")
