"""Hosts and devices as they come, under every layout: the same losses, score and checkpoint as one process's."""

import collections
import json
import os
import pathlib
import subprocess
import sys

import jax
import layout_runs
import numpy as np
import pytest
from tiny_run import draw_folder
from toy import largest_difference

from cvjax.engine.checkpoint import read_metadata, read_variables
from cvjax.engine.checkpoint.reading import read_item
from cvjax.engine.optim import make_optimizer
from cvjax.engine.state import create_state, init_variables

pytestmark = pytest.mark.slow
EXAMPLES = 13


def _run(data, out, hosts, devices, layouts):
    """The runs of some layouts by so many processes with so many devices each."""
    environment = dict(os.environ, JAX_NUM_CPU_DEVICES=str(devices), JAX_PLATFORMS="cpu")
    port = 29_500 + np.random.default_rng().integers(2000)
    started = [
        subprocess.Popen(
            [sys.executable, layout_runs.__file__, *map(str, (data, out, hosts, number, port, *layouts))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(hosts)
    ]
    errors = [process.communicate(timeout=500)[1] for process in started]
    assert [process.returncode for process in started] == [0] * hosts, errors
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("data"), val=EXAMPLES)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    return _run(data, tmp_path_factory.mktemp("alone"), 1, 1, ["jit"]) / "jit"


def _contents(workdir: pathlib.Path):
    """Losses by step, the report, and all arrays of the last checkpoint."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    place = workdir / "checkpoints" / str(layout_runs.STEPS)
    config = layout_runs.CONFIG
    model, optimizer = config.model.build(num_classes=3), make_optimizer(config.optim, layout_runs.STEPS)
    like = jax.eval_shape(
        lambda key: create_state(init_variables(model, key, (32, 32, 3)), optimizer, ema=True), jax.random.key(0)
    )
    arrays = [
        read_variables(place, like.variables, averaged=False),
        read_item(place, "ema", like.ema),
        read_item(place, "optimizer", {"opt_state": like.opt_state, "step": like.step}),
    ]
    assert read_metadata(place)["position"] == layout_runs.STEPS
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    return losses, json.loads((workdir / "report.json").read_text()), arrays


def _check(workdir, reference):
    losses, report, arrays = _contents(workdir)
    want, want_report, want_arrays = _contents(reference)
    assert losses.keys() == want.keys() == set(range(1, layout_runs.STEPS + 1))
    np.testing.assert_allclose(list(losses.values()), list(want.values()), rtol=2e-5)
    assert report["examples"] == EXAMPLES
    assert report["miou"] == pytest.approx(want_report["miou"], rel=1e-3)
    assert largest_difference(arrays, want_arrays) < 1e-3


@pytest.mark.parametrize(("hosts", "devices"), [(2, 2), (4, 1)])
def test_hosts_give_what_one_process_gives_under_every_layout(data, alone, tmp_path, hosts, devices):
    _run(data, tmp_path, hosts, devices, layout_runs.LAYOUTS)
    for name in layout_runs.LAYOUTS:
        _check(tmp_path / name, alone)
    part = -(-EXAMPLES // hosts)
    for number in range(hosts):  # each host read the sizes of its own part, once for each layout's run
        read = collections.Counter((tmp_path / f"sizes-{number}.txt").read_text().splitlines())
        own = range(EXAMPLES)[number * part :][:part]
        assert read == {f"val {index}": len(layout_runs.LAYOUTS) for index in own}
