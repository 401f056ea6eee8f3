"""The engine with a task that it has never seen: it trains, scores, resumes and draws, and nothing in cvjax changes."""

import dataclasses
import inspect
import json
import shutil

import cv2
import denoising
import numpy as np
import pytest

from cvjax.engine.config import as_json, config_from_json
from cvjax.engine.optim import OptimizerConfig
from cvjax.engine.run import train

CONFIG = denoising.DenoisingConfig(
    data="scenes",
    steps=40,
    batch_size=8,
    log_every=10,
    eval_every=40,
    checkpoint_every=20,
    optim=OptimizerConfig(name="adamw", learning_rate=1e-2, warmup=0.0),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("denoising") / "run"
    train(dataclasses.replace(CONFIG, workdir=str(workdir)))
    return workdir


def _losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_it_is_short():
    assert len(inspect.getsource(denoising).splitlines()) < 100


def test_it_trains_and_is_scored(trained):
    losses = _losses(trained)
    assert sorted(losses) == list(range(1, 41))
    assert np.mean([losses[step] for step in range(36, 41)]) < 0.7 * losses[1]
    report = json.loads((trained / "report.json").read_text())
    # Noise of 40 in 255 alone has 16.05 dB.
    assert report["psnr"] > 17.5
    assert report["examples"] > 20
    assert json.loads((trained / "config.json").read_text())["task"]["kind"] == "denoising"


def test_it_draws(trained):
    height, width, _ = cv2.imread(str(trained / "predictions.png")).shape
    assert (height > 50, width % 2) == (True, 0)
    assert (trained / "curves.png").exists()


def test_it_resumes_as_the_run_never_stopped(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "40")
    train(dataclasses.replace(CONFIG, workdir=str(workdir), resume=True))
    assert _losses(workdir) == _losses(trained)
    assert (workdir / "report.json").read_text() == (trained / "report.json").read_text()


def test_its_configuration_survives_json():
    saved = json.loads(json.dumps(as_json(CONFIG)))
    assert config_from_json(denoising.DenoisingConfig, saved) == CONFIG
