"""Runs in memory: the losses and scores of a run with a work folder, and nothing on the disk."""

import json
from dataclasses import replace

import numpy as np
import pytest

import cvjax
from cvjax.datasets.scenes import render
from cvjax.engine.evaluate import scalars
from cvjax.engine.short_run import ShortRun
from cvjax.errors import DivergedError
from cvjax.experiment import ModelConfig
from cvjax.visual.curves import read_metrics
from experiments.studies._recipes import SMALL_IMAGES

CONFIG = replace(
    SMALL_IMAGES,
    model=ModelConfig("resnet20_cifar", blocks=1, width=4),
    data="scenes",
    steps=3,
    batch_size=8,
    optim=replace(SMALL_IMAGES.optim, ema_decay=0.9),
    eval=replace(SMALL_IMAGES.eval, batch_size=8),
)


@pytest.fixture
def few_scenes(tmp_path, monkeypatch):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(render, "SIZES", {"train": 16, "val": 12, "test": 4})
    monkeypatch.chdir(tmp_path)


def test_losses_and_scores_are_those_of_a_run(tmp_path, few_scenes):
    short, seen = ShortRun(CONFIG), []
    trained = short.train(2, watch=lambda step, state, metrics: seen.append((step, int(state.step))))
    assert seen == [(1, 1), (2, 2), (3, 3)]
    cvjax.train(replace(CONFIG, seed=2, workdir=str(tmp_path / "run"), log_every=1))
    _, losses = read_metrics(tmp_path / "run" / "metrics.jsonl")["loss"]
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-6)
    scores, told = short.score(trained.variables), json.loads((tmp_path / "run" / "report.json").read_text())
    assert scalars(scores) == pytest.approx(scalars(told))
    assert scores["accuracy"].keys() == told["accuracy"].keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]

    np.testing.assert_array_equal(short.train(2).losses, trained.losses)  # nothing stays of the first
    first = short.train(3)
    assert np.abs(first.losses - trained.losses).min() > 0
    continued = short.train(3, variables=first.variables)
    assert continued.losses[0] != first.losses[0]

    fewer = ShortRun(CONFIG, examples=4)
    assert [fewer.eval_set[i]["id"] for i in range(4)] == [short.eval_set[i]["id"] for i in (0, 4, 7, 11)]
    assert fewer.score(first.variables)["examples"] == 4


def test_a_loss_that_is_not_finite_is_refused(few_scenes):
    optim = replace(CONFIG.optim, learning_rate=1e30, clip_norm=None, warmup=0.0, ema_decay=None)
    with pytest.raises(DivergedError, match=r"seed 1 is .* at step"):
        ShortRun(replace(CONFIG, optim=optim)).train(1)
