"""A teacher's part in the loss: against numpy, for students that are like it, and for those that cannot be."""

import dataclasses
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import configure, run
from made import classification, detection, segmentation
from saved_run import drawn_run
from scipy.special import log_softmax, softmax

from cvjax.engine import ahead
from cvjax.engine.config import DistillConfig
from cvjax.engine.parallel import JitStrategy
from cvjax.engine.state import create_state
from cvjax.engine.step import make_train_step
from cvjax.errors import UserError
from cvjax.tasks import distilling
from cvjax.tasks.distilling import attention_gap, layer_shapes, open_teacher
from cvjax.tasks.loaded import Loaded
from cvjax.tasks.losses import soft_divergence

NAMES = ("cat", "dog", "bird")


class Net(nn.Module):
    """A map of four channels, and its mean's logits (or those of each pixel)."""

    classes: int = 3
    dense: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        maps = nn.Conv(4, (3, 3), name="stage")(images)
        maps = jnp.tanh(maps)
        return nn.Dense(self.classes, name="head")(maps if self.dense else maps.mean((1, 2)))


def drawn(net, seed):
    return jax.device_get(net.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3))))


def taught(monkeypatch, task, variables, names=NAMES, net=None, **settings):
    """A task whose teacher is a net with these variables."""
    teacher_task = dataclasses.replace(task, class_names=names, **settings.pop("seen", {}))
    loaded = Loaded(net or Net(), variables, teacher_task, {}, pathlib.Path("runs/teacher"))
    monkeypatch.setattr(distilling, "load_for_inference", lambda place: loaded)
    config = dataclasses.replace(task.config, distill=DistillConfig(teacher="runs/teacher", **settings))
    return dataclasses.replace(task, config=config)


def batch(seed=0, count=4):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    valid = np.arange(count) < count - 1  # the last row is padding
    return {
        "image": images,
        "label": np.where(valid, rng.integers(0, 3, count), -1).astype(np.int32),
        "index": np.arange(count, dtype=np.int32),
        "valid": valid,
        "skipped": np.zeros(count, np.int32),
    }


def one_step(task, variables, net=None, rate=0.0):
    """Metrics and parameters after a step of plain gradient descent."""
    net = net or Net()
    teacher, optimizer = (open_teacher(task, net) if task.config.distill.teacher else None), optax.sgd(rate)
    step = jax.jit(make_train_step(net, task, optimizer, lambda _: rate, teacher=teacher))
    state = create_state({"params": variables["params"], "batch_stats": {}}, optimizer=optimizer, ema=False)
    key = jax.random.key(0)
    state, metrics = step(state, batch(), key if teacher is None else (key, teacher.variables))
    return jax.device_get(metrics), state.params


def test_divergence_against_numpy():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 5, 7)).astype(np.float32)
    wanted = (softmax(theirs, -1) * (log_softmax(theirs, -1) - log_softmax(ours, -1))).sum(-1)
    np.testing.assert_allclose(soft_divergence(ours, theirs), wanted, rtol=1e-5, atol=1e-6)


def test_attention_by_hand():
    ours = np.zeros((1, 1, 2, 2), np.float32)
    ours[0, 0, 0] = (3, 4)  # all attention to the left
    theirs = np.ones((1, 1, 2, 1), np.float32)  # and here to both
    gap = (1 - np.sqrt(0.5)) ** 2 + 0.5
    np.testing.assert_allclose(attention_gap(ours, theirs), [gap], rtol=1e-5)
    np.testing.assert_allclose(attention_gap(ours, 5 * ours), [0.0], atol=1e-6)
    np.testing.assert_allclose(attention_gap(ours, np.repeat(ours, 2, 1)), [0.0], atol=1e-6)


def test_the_loss_is_that_of_numpy(monkeypatch):
    plain, net = classification(NAMES), Net()
    student, teacher = drawn(net, 0), drawn(net, 1)
    alone, _ = one_step(plain, student)
    task = taught(monkeypatch, plain, teacher, weight=0.3, temperature=2.0)
    both, _ = one_step(task, student)
    images = plain.normalize(jnp.asarray(batch()["image"]))
    ours, theirs = (np.asarray(net.apply(variables, images))[:3] / 2 for variables in (student, teacher))
    divergence = (softmax(theirs, -1) * (log_softmax(theirs, -1) - log_softmax(ours, -1))).sum(-1).mean()
    assert both["distilled"] == pytest.approx(4 * divergence, rel=1e-4)
    assert both["loss"] == pytest.approx(0.7 * alone["loss"] + 0.3 * 4 * divergence, rel=1e-4)


def test_weight_0_leaves_the_run_as_it_is(monkeypatch):
    plain, student = classification(NAMES), drawn(Net(), 0)
    task = taught(monkeypatch, plain, drawn(Net(), 1), weight=0.0)
    (alone, wanted), (both, found) = one_step(plain, student, rate=0.1), one_step(task, student, rate=0.1)
    assert both["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), wanted, found)


def test_a_student_that_is_its_teacher_learns_nothing(monkeypatch):
    """Also where the teacher has the classes in another order, one more, and other normalization."""
    plain, student = classification(NAMES), drawn(Net(), 0)
    order = [2, 0, 1]
    more = jax.tree.map(np.array, drawn(Net(classes=4), 5))
    teacher = {"params": {"stage": dict(student["params"]["stage"]), "head": dict(more["params"]["head"])}}
    for name in ("kernel", "bias"):
        teacher["params"]["head"][name][..., order] = student["params"]["head"][name]
    # Half the deviation makes inputs twice as large, about a mean that the student's border of zeros has.
    teacher["params"]["stage"]["kernel"] = np.asarray(teacher["params"]["stage"]["kernel"]) / 2
    seen = {"std": tuple(level / 2 for level in plain.std)}
    task = taught(
        monkeypatch,
        plain,
        teacher,
        ("dog", "bird", "cat", "fox"),
        Net(classes=4),
        weight=1.0,
        features=("stage",),
        seen=seen,
    )
    metrics, _ = one_step(task, student)
    assert metrics["distilled"] == pytest.approx(0, abs=1e-5)
    assert metrics["attention"] == pytest.approx(0, abs=1e-5)
    assert metrics["grad_norm"] == pytest.approx(0, abs=1e-3)


def test_segmentation_counts_labeled_pixels(monkeypatch):
    plain = segmentation(NAMES)
    net = Net(dense=True)
    student, teacher = drawn(net, 0), drawn(net, 1)
    task = taught(monkeypatch, plain, teacher, net=net, weight=1.0, temperature=1.0, features=("stage",))
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (2, 8, 8)).astype(np.uint8)
    mask[0, :4] = 255
    inputs = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    targets = {"mask": jnp.asarray(mask), "valid": jnp.ones(2, bool)}
    ours, theirs = (np.asarray(net.apply(variables, inputs)) for variables in (student, teacher))
    maps = {"stage": jnp.asarray(ours)}
    loss, sums = open_teacher(task, net).loss(teacher, jnp.asarray(ours), maps, inputs, targets, jnp.float32(0))
    divergence = (softmax(theirs, -1) * (log_softmax(theirs, -1) - log_softmax(ours, -1))).sum(-1)
    assert sums["distilled"] == pytest.approx(divergence[mask != 255].sum(), rel=1e-4)
    np.testing.assert_allclose(task.image_weights(targets), [32, 64])
    assert float(loss) == pytest.approx(float(sums["distilled"] + 10 * sums["attention"]), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"names": ("cat", "dog")}, "does not know bird; give one that knows all classes"),
        ({"features": ("stages",)}, "the trained net has no layer stages; layers are stage"),
        ({"features": ("stage=block",)}, "the teacher has no layer block"),
        ({"features": ("head",)}, "layer head of the trained net gives no maps"),
        ({"features": ("=stage",)}, "names no layers"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(monkeypatch, settings, said):
    task = taught(monkeypatch, classification(NAMES), drawn(Net(), 1), **settings)
    with pytest.raises(UserError, match=said):
        open_teacher(task, Net())


def test_tasks_are_not_mixed(monkeypatch):
    with pytest.raises(UserError, match="learns from labels alone"):
        open_teacher(taught(monkeypatch, detection(NAMES), {}), Net())
    task = taught(monkeypatch, classification(NAMES), drawn(Net(), 1))
    loaded = distilling.load_for_inference("")
    other = dataclasses.replace(loaded, task=segmentation(NAMES))
    monkeypatch.setattr(distilling, "load_for_inference", lambda place: other)
    with pytest.raises(UserError, match="is of the task segmentation; give one of classification"):
        open_teacher(task, Net())


def test_layers_are_listed_without_running_the_net():
    assert layer_shapes(Net(), None, jnp.zeros((1, 8, 8, 3)))["stage"] == (1, 8, 8, 4)


def test_a_step_compiled_ahead_takes_the_teacher_along(monkeypatch):
    """As aot, `cvjax lr` and --find-batch-size do; the teacher's bytes count with the parameters."""
    plain = classification(NAMES, steps=10)
    task = taught(monkeypatch, plain, drawn(Net(), 1))
    strategy = JitStrategy(jax.devices()[:1])
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch().items()}
    monkeypatch.setattr(ahead, "abstract_batch", lambda task, dataset, rows: shapes)
    memory = [ahead.compiled_step(each, Net(), None, strategy, 4)[1].parameters for each in (plain, task)]
    assert memory == [4 * (3 * 3 * 3 * 4 + 4 + 4 * 3 + 3), 2 * memory[0]]


@pytest.mark.slow
def test_a_run_learns_from_another(tmp_path, monkeypatch):
    """With the losses of one program over a mesh where each device has a program of its own."""
    from tiny_sets import class_tree, write_tree

    from experiments import resnet_imagenet

    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "set", class_tree("train/", 4) | class_tree("val/", 2))
    words = ["quick", "--data", "image_folder_classification", "--input.manual-dir", "set", "--steps", "2"]
    words += "--log-every 1 --batch-size 8 --eval.batch-size 8 --input.crop 32 32 --eval.resize 32".split()
    words += "--model.width 8 --model.stage-sizes 1 1 1 1".split()
    drawn_run(configure(resnet_imagenet, words), tmp_path / "teacher")
    losses = {}
    for parallel in ("jit", "pmap"):
        more = ["--distill.teacher", "teacher", "--distill.features", "stage3_0", "--parallel", parallel]
        run(configure(resnet_imagenet, [*words, *more, "--workdir", parallel]))
        lines = [json.loads(line) for line in (tmp_path / parallel / "metrics.jsonl").read_text().splitlines()]
        losses[parallel] = [(line["loss"], line["distilled"], line["attention"]) for line in lines if "loss" in line]
    assert len(losses["jit"]) == 2
    np.testing.assert_allclose(losses["pmap"], losses["jit"], rtol=1e-3)
