"""Scores that are no sums: detections of every batch and device reach one report."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.engine.evaluate import evaluate
from cvjax.engine.parallel import make_strategy
from cvjax.engine.step import make_eval_step
from cvjax.tasks.detection.config import DetectionConfig
from cvjax.tasks.detection.metrics import DetectionScores
from cvjax.tasks.detection.task import Detection

NAMES = ("a", "b")
TRUTH = ("truth_boxes", "truth_labels", "truth_valid")


@dataclasses.dataclass(frozen=True)
class Finding(Detection):
    """A task whose net says the truth, with its score by the image's number."""

    def prepare(self, batch, key):
        return batch, batch

    def predict(self, model, variables, inputs):
        return jnp.ones((len(inputs["index"]), 2))

    def update(self, predictions, batch):
        return {"examples": batch["valid"].sum()}

    def gather(self, predictions, batch):
        boxes, labels, valid = (batch[name] for name in TRUTH)
        found = {"boxes": boxes, "classes": labels, "box_valid": valid}
        return {name: batch[name] for name in ("index", "valid", *TRUTH)} | found | {"scores": predictions}

    def summarize(self, rows):
        return {}, DetectionScores(self.class_names).rows(rows)

    def compute(self, totals):
        report = DetectionScores(self.class_names).report(totals)
        return report | {"examples": int(totals["examples"]), "images": np.sort(totals["image"])}


def batches():
    for first in (0, 8):
        yield {
            "index": np.where(np.arange(8) + first < 13, np.arange(8) + first, -1).astype(np.int32),
            "valid": np.arange(8) + first < 13,
            "truth_boxes": np.tile(np.float32([[0, 0, 9, 9], [5, 5, 20, 20]]), (8, 1, 1)),
            "truth_labels": np.tile(np.int32([0, 1]), (8, 1)),
            "truth_valid": np.tile(np.array([True, True]), (8, 1)),
        }


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_every_row_is_scored_once(mode):
    task, strategy = Finding(DetectionConfig(), NAMES), make_strategy(mode, 8)
    step = strategy.compile_eval(make_eval_step(None, task, strategy.axis_name))
    report = evaluate(step, strategy.place_state({}), batches(), task, strategy)
    assert report["examples"] == 13
    np.testing.assert_array_equal(report["images"], np.arange(13))
    assert report["objects"] == {"a": 13, "b": 13}
    assert report["map"] == 1
