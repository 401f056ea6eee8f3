"""The search for a CRF's parameters, and its command with a small net in a checkpoint's place."""

import dataclasses
import json
import math
import pathlib
import shlex
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cvjax.cli import crf_search, evaluate
from cvjax.errors import ConfigError, DataError
from cvjax.tasks import load
from cvjax.tasks.segmentation.config import SegmentationConfig, SegmentationData, SegmentationEval
from cvjax.tasks.segmentation.crf_config import CRFS, parse_crf
from cvjax.tasks.segmentation.crf_search import most_trials, search
from cvjax.tasks.segmentation.task import Segmentation

_START = CRFS["v2"]


def test_a_search_narrows_in_on_the_best():
    best = {"appearance_weight": 5.0, "color_sigma": 3.6}

    def score(crf):
        return -sum((math.log(getattr(crf, name) / value)) ** 2 for name, value in best.items())

    grid = {"appearance_weight": (1, 4, 16), "color_sigma": (3, 6, 9)}
    seen = []
    coarse = search(score, _START, grid, rounds=1)
    trials = search(score, _START, grid, rounds=4, tried=seen.append)
    assert len(coarse) == 9 == most_trials(grid, 1)
    assert coarse[0].crf == dataclasses.replace(_START, appearance_weight=4.0, color_sigma=3.0)
    assert [trial.miou for trial in trials] == sorted((score(trial.crf) for trial in seen), reverse=True)
    assert len({trial.crf for trial in trials}) == len(trials) == len(seen) <= most_trials(grid, 4)
    for name, value in best.items():
        assert abs(getattr(trials[0].crf, name) / value - 1) < 0.15
    assert trials[0].crf.appearance_sigma == _START.appearance_sigma


def test_a_search_may_leave_its_grid_but_never_reaches_0():
    falling = search(lambda crf: -crf.color_sigma, _START, {"color_sigma": (2.0, 4.0)}, rounds=6)
    rising = search(lambda crf: crf.color_sigma, _START, {"color_sigma": (2.0, 4.0)}, rounds=3)
    assert 0 < falling[0].crf.color_sigma < 0.5
    assert rising[0].crf.color_sigma == 5.5
    unknown = search(lambda crf: math.nan if crf.color_sigma < 3 else 0.0, _START, {"color_sigma": (2.0, 4.0)})
    assert unknown[0].miou == 0.0


@pytest.mark.parametrize(
    ("grid", "rounds", "message"),
    [
        ({"color_sigma": ()}, 1, r"grid of color_sigma is \(\); give numbers above 0"),
        ({"color_sigma": (0.0, 1.0)}, 1, "give numbers above 0 for appearance_sigma"),
        ({"iterations": (5,)}, 1, "grid of iterations"),
        ({"color_sigma": (1.0,)}, 0, "rounds are 0; give 1 or more"),
    ],
)
def test_grids_that_mean_nothing_are_errors(grid, rounds, message):
    with pytest.raises(ConfigError, match=message):
        search(lambda crf: 0.0, _START, grid, rounds=rounds)


class Channels(nn.Module):
    """Classes of a pixel: red, green, blue; from a picture averaged over 5x5 pixels, so that borders are wrong."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, ())
        with jax.numpy_dtype_promotion("standard"):  # Flax's average divides floats by integers
            return 4 * scale * nn.avg_pool(images, (5, 5), padding="SAME")


def _folder(folder: pathlib.Path) -> pathlib.Path:
    rng = np.random.default_rng(1)
    for split, count in (("train", 1), ("val", 4)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            size = (20, 24 - number % 2)
            rows, columns = np.mgrid[: size[0], : size[1]]
            mask = ((rows + number) // 5 + columns // 6) % 3
            image = np.clip(150 * np.eye(3)[mask] + 50 + rng.normal(0, 10, (*size, 3)), 0, 255)
            Image.fromarray(image.astype(np.uint8)).save(folder / split / "images" / f"{number}.png")
            Image.fromarray(mask.astype(np.uint8)).save(folder / split / "masks" / f"{number}.png")
    (folder / "classes.txt").write_text("red\ngreen\nblue\n")
    return folder


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """The small net where checkpoints are loaded, by a function that takes its classes."""
    folder = _folder(tmp_path / "data")
    model = Channels()
    variables = jax.device_get(model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))

    def give(classes=("red", "green", "blue")):
        config = SegmentationConfig(
            data="image_folder_segmentation",
            input=SegmentationData(manual_dir=str(folder)),
            eval=SegmentationEval(pad_multiple=24, batch_size=8),
        )
        task = Segmentation(config, classes)
        loaded = types.SimpleNamespace(model=model, variables=variables, task=task, metadata={}, place=folder)
        monkeypatch.setattr(load, "load_for_inference", lambda path, **_: loaded)

    return give


_SMALL = ["--start", "1,1,4,4,20,2", "--appearance-weight", "1", "4", "--appearance-sigma", "4", "--color-sigma", "20"]


@pytest.mark.slow
def test_the_command_finds_a_crf_and_evaluate_agrees(checkpoint, tmp_path, capsys):
    checkpoint()
    path = tmp_path / "found.json"
    crf_search.main(["run", *_SMALL, "--json", str(path)])
    found = json.loads(path.read_text())
    printed = capsys.readouterr().out
    assert found["images"] == 4
    assert found["trials"][0]["miou"] > found["without"]
    assert len(found["trials"]) == 4
    *_, command = printed.splitlines()
    words = shlex.split(command)
    assert words == ["cvjax", "evaluate", "run", "--crf", found["best"]]
    plain, refined = (
        evaluate.evaluate_checkpoint(evaluate.Arguments("run", crf=crf), Console(quiet=True))
        for crf in (None, parse_crf(found["best"]))
    )
    # The probabilities are kept in half precision.
    assert plain["miou"] == pytest.approx(found["without"], abs=1e-3)
    assert refined["miou"] == pytest.approx(found["trials"][0]["miou"], abs=1e-3)


def test_mistakes_are_told(checkpoint):
    checkpoint(classes=("one", "other"))
    with pytest.raises(DataError, match="red, green, blue are no classes of the model, which knows one, other"):
        crf_search.main(["run"])
    with pytest.raises(ConfigError, match="--images is 0; give 1 or more"):
        crf_search.main(["run", "--images", "0"])
    with pytest.raises(ConfigError, match="--start must be a CRF with iterations"):
        crf_search.main(["run", "--start", "off"])
