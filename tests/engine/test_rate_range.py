"""The sweep of the learning rate: its rates, its rule, its end, and that it leaves nothing behind."""

import json

import cv2
import jax
import numpy as np
import pytest
from made import segmentation
from tiny_sets import class_tree, write_tree
from toy import CLASSES, ToyNet, toy_stream, toy_variables

from cvjax.cli.training import lr
from cvjax.engine.pacing.rate_range import Sweep, find_rate, smoothed_losses, sweep_rates
from cvjax.engine.parallel import JitStrategy
from cvjax.errors import ConfigError


def test_the_running_mean_is_that_of_the_weights_so_far():
    losses = np.random.default_rng(0).random(12)
    for count in range(1, 13):
        weights = 0.9 ** np.arange(count)[::-1]
        expected = (weights * losses[:count]).sum() / weights.sum()
        assert smoothed_losses(losses, 0.9)[count - 1] == pytest.approx(expected)
    assert smoothed_losses(losses, 0.0).tolist() == losses.tolist()


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_lowest_loss():
    rates = sweep_rates(1e-4, 1.0, 5)
    np.testing.assert_allclose(rates, [1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    found = Sweep(tuple(rates), (), (2.0, 1.9, 0.8, 0.5, 3.0), False)
    assert (found.lowest, found.suggestion) == (pytest.approx(0.1), pytest.approx(0.01))
    assert found.steepest == pytest.approx(1e-3)  # from there to the next it falls by 1.1
    assert found.as_json()["suggestion"] == found.suggestion


@pytest.mark.parametrize("rates", [(0.0, 1.0, 5), (1.0, 0.1, 5), (0.1, 1.0, 1)])
def test_a_sweep_that_is_none_is_refused(rates):
    with pytest.raises(ConfigError, match="--low below --high"):
        sweep_rates(*rates)


def test_a_sweep_ends_where_the_loss_goes_up_and_changes_nothing():
    variables = jax.device_get(toy_variables())
    before = jax.tree.map(np.copy, variables)
    shown = []
    found = find_rate(
        segmentation(CLASSES),
        ToyNet(dropout=0.0),
        variables,
        toy_stream,
        JitStrategy(jax.devices()[:1]),
        rates=sweep_rates(1e-3, 1e6, 60),
        advance=lambda *row: shown.append(row),
    )
    assert found.diverged
    assert 5 < len(found.rates) < 60
    assert found.smoothed[-1] > 4 * min(found.smoothed) or len(found.losses) < 60
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e9) / 59, rtol=1e-6)
    assert found.smoothed == pytest.approx(smoothed_losses(found.losses, 0.9).tolist())
    assert 1e-3 < found.suggestion < 10.0
    assert [loss for _, _, loss in shown] == list(found.losses)
    jax.tree.map(np.testing.assert_array_equal, variables, before)


@pytest.mark.slow
def test_the_command_draws_and_writes_its_figures(tmp_path, capsys):
    write_tree(tmp_path / "photos", class_tree("train/", 8) | class_tree("val/", 2))
    lr.main(
        (
            "resnet_imagenet quick --sweep 4 --low 0.001 --high 1 --data image_folder_classification --input.crop 32 32"
            " --model.width 4 --model.stage-sizes 1 1 1 1 --steps 1 --batch-size 8"
            f" --input.manual-dir {tmp_path / 'photos'} --workdir {tmp_path / 'run'}"
        ).split()
    )
    figures = json.loads((tmp_path / "run" / "lr.json").read_text())
    assert figures["rates"] == pytest.approx([0.001, 0.01, 0.1, 1.0][: len(figures["rates"])])
    assert f"--optim.learning-rate {figures['suggestion']:.2g}" in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / "run" / "lr.png"))
    assert picture.std() > 5
    assert not (tmp_path / "run" / "checkpoints").exists()
