"""Scores of a split: the same whatever carries them, also those that the host computes image by image."""

import dataclasses
import math
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made import segmentation
from tiny_sets import encoded, photo
from toy import toy_batch

from cvjax.data.dataset import image_sizes
from cvjax.data.joined import JoinedDataset
from cvjax.engine import evaluate as evaluation
from cvjax.engine.evaluate import evaluate, make_evaluator, scalars
from cvjax.engine.parallel import JitStrategy, PmapStrategy
from cvjax.engine.step import make_eval_step
from cvjax.errors import DataError
from cvjax.runtime.compiler import runs
from cvjax.tasks.segmentation.scores.membranes import membrane_report, membrane_sums

THRESHOLDS = (0.2, 0.5, 0.6)


class Strongest:
    """A net that sees the label of a toy batch, which is its strongest channel."""

    def apply(self, variables, images, train):
        scores = jnp.concatenate([jnp.zeros_like(images[..., :1]), images], axis=-1)
        return scores * variables


TASK = segmentation(("background", "red", "green", "blue"), cells=2, em_thresholds=THRESHOLDS)


def batches() -> list[dict[str, np.ndarray]]:
    """Three batches; the last has rows that are padding."""
    made = [toy_batch(number, rows=8) for number in range(3)]
    made[-1]["valid"][5:] = False
    return made


def scored(strategy) -> dict:
    step = strategy.compile_eval(make_eval_step(Strongest(), TASK, strategy.axis_name))
    return evaluate(step, strategy.place_state(jnp.float32(2.0)), iter(batches()), TASK, strategy)


def by_hand() -> dict[str, float]:
    """The errors of all valid images at once, by NumPy."""
    sums: dict[str, np.ndarray] = {}
    for batch in batches():
        images, _ = TASK.prepare(batch, None)
        cells = np.asarray(jax.nn.softmax(Strongest().apply(2.0, images, train=False), axis=-1))[..., 2]
        truth = np.where(batch["mask"] == 255, -1, batch["mask"] == 2)
        for row in np.flatnonzero(batch["valid"]):
            for name, value in membrane_sums(truth[row : row + 1], cells[row : row + 1], THRESHOLDS).items():
                sums[name] = sums.get(name, 0) + value
    assert sums["em_images"][0] == 21
    return membrane_report(sums, THRESHOLDS)


@pytest.mark.parametrize("strategy", [lambda: JitStrategy(jax.devices()[:1]), JitStrategy, PmapStrategy])
def test_errors_of_cells_are_those_of_each_image(strategy):
    report, expected = scored(strategy()), by_hand()
    assert {name: report[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert 0 < report["pixel_error"] < 1
    assert report["examples"] == 21
    assert {"rand_error", "warping_error", "miou"} <= scalars(report).keys()


def test_nothing_is_kept_unless_it_is_asked_for():
    task = segmentation(TASK.class_names)
    rows = task.gather(jnp.zeros((8, 12, 12, 4)), toy_batch(0, rows=8))
    assert rows == {}
    assert task.summarize(rows) == ({}, {})


class Images:
    """A split of images without content, whose sizes are known from headers; one is unreadable."""

    name, split, class_names, void = "mine", "val", ("a",), ()

    def __init__(self):
        self.read = []

    def __len__(self):
        return 7

    def __getitem__(self, index):
        raise AssertionError("headers tell the size")

    def fingerprint(self):
        return ""

    def header_size(self, index):
        self.read.append(index)
        if index == 4:
            raise DataError("damaged")
        return 10 + index, 20


def test_hosts_read_the_sizes_of_their_own_images(monkeypatch):
    rows, splits, seen = [], [Images() for _ in range(3)], []
    task = types.SimpleNamespace(
        config=TASK.config, eval_buckets=lambda source: (None, seen.append(image_sizes(source)))
    )
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for hosts_speak in (False, True):  # first what each hands over, then what each hears
        for number, images in enumerate(splits):
            monkeypatch.setattr(jax, "process_index", lambda number=number: number)
            if hosts_speak:
                monkeypatch.setattr(evaluation, "rows_of_all", lambda own: np.concatenate(rows))
                evaluation.whole_split(task, JoinedDataset("all", "val", [images]))
            else:
                monkeypatch.setattr(evaluation, "rows_of_all", lambda own: rows.append(own) or np.tile(own, (3, 1)))
                evaluation.whole_split(task, Images())
    assert [images.read for images in splits] == [[0, 1, 2], [3, 4, 5], [6]]
    known = [None if index == 4 else (10 + index, 20) for index in range(7)]
    assert seen[3:] == [known] * 3


class Mixed(Images):
    """Eleven small photographs of three sizes."""

    name, split, class_names, void = "mixed", "val", ("background", "red", "green", "blue"), ()
    sizes = ((30, 40), (40, 30), (30, 40), (70, 20), (30, 40)) * 2 + ((30, 40),)

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(self.sizes)

    def header_size(self, index):
        return self.sizes[index]

    def __getitem__(self, index):
        image = photo(index, *self.sizes[index])
        mask = image.argmax(-1).astype(np.uint8) + 1
        return {"image": encoded(image, "PNG"), "mask": encoded(mask, "PNG"), "id": str(index)}


@pytest.mark.parametrize("once", [True, False])
def test_each_size_has_a_program_that_a_thread_compiles_ahead_and_no_batch_more_rows_than_it_needs(once):
    traced = []

    class Traced(Strongest):
        def apply(self, variables, images, train):
            traced.append((images.shape[:3], runs(), threading.current_thread().name.rpartition("_")[0]))
            return super().apply(variables, images, train)

    task, strategy = segmentation(TASK.class_names), JitStrategy(jax.devices()[:1])
    score = make_evaluator(task, Traced(), Mixed(), strategy, once=once)
    report = score(jnp.float32(2.0))
    assert (report["examples"], report["skipped"]) == (11, 0)
    # Nine of 64x64 in two batches of five rows; then two of 128x64 in one of two.
    expected = [((5, 64, 64), 2), ((2, 128, 64), 1)]
    assert [(shape, count) for shape, count, _ in traced] == [(shape, n if once else math.inf) for shape, n in expected]
    assert {name for *_, name in traced} == {"cvjax-compile"}
    score(jnp.float32(2.0))
    assert len(traced) == 2
    singly = task.reconfigured(eval=dataclasses.replace(task.config.eval, batch_size=1))
    alone = make_evaluator(singly, Strongest(), Mixed(), strategy)(jnp.float32(2.0))
    assert report["miou"] == pytest.approx(alone["miou"])
