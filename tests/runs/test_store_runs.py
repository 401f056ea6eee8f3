"""Whole runs at gs:// and s3://, against emulators of the two stores, killed and resumed there."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest
from denoising_run import config
from tiny_run import ROOT, draw_folder

from cvjax.cli.prepare import Prepare, prepare
from cvjax.engine.checkpoint import complete_steps, read_stored_variables
from cvjax.engine.run import train
from cvjax.storage import as_path

pytestmark = pytest.mark.slow

HELPERS = pathlib.Path(__file__).parents[1] / "helpers"

# How each library is told of an emulator: gcsfs and Google's client by the first, TensorStore, with which Orbax
# writes, by the second. No credentials are looked for.
GCS = {
    "STORAGE_EMULATOR_HOST": "http://localhost:{port}",
    "TENSORSTORE_GCS_HTTP_URL": "http://localhost:{port}",
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    "NO_GCE_CHECK": "true",
}
S3 = {
    "AWS_ENDPOINT_URL": "http://localhost:{port}",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(params=["gs", "s3"])
def store(request, tmp_path, monkeypatch):
    """A bucket of an emulator, which lives in a process of its own."""
    needed = {"gs": ("gcsfs", "gcp_storage_emulator"), "s3": ("s3fs", "moto", "flask")}[request.param]
    for module in needed:
        pytest.importorskip(module, reason="pip install 'cvjax[emulators]' brings the emulators of stores")
    port = _free_port()
    settings = GCS if request.param == "gs" else S3
    with (tmp_path / "emulator.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, str(HELPERS / "store_emulator.py"), request.param, str(port)], stdout=log, stderr=log
        )
    try:
        for name, value in settings.items():
            monkeypatch.setenv(name, value.format(port=port))
        monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path / "cache"))
        until = time.monotonic() + 120
        while not _answers(port):
            assert server.poll() is None, (tmp_path / "emulator.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.2)
        bucket = as_path(f"{request.param}://bucket/here")
        while True:
            try:
                bucket.exists()
                (bucket / "x").write_bytes(b"")
                break
            except OSError:  # the bucket is being made
                assert time.monotonic() < until
                time.sleep(0.2)
        yield bucket
    finally:
        server.kill()
        server.wait()


def _free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _answers(port):
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _started(*arguments, devices=8):
    return subprocess.Popen(
        [sys.executable, str(HELPERS / "denoising_run.py"), *map(str, arguments)],
        cwd=ROOT,
        env=dict(os.environ, JAX_NUM_CPU_DEVICES=str(devices), COLUMNS="300", PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_run_that_was_killed_and_resumed_in_a_store_is_one_that_never_stopped(store, tmp_path):
    folder = draw_folder(tmp_path / "drawn")
    prepare(Prepare("image_folder_segmentation", data_dir=f"{store}/sets", manual_dir=folder, progress=False))
    prepare(Prepare("image_folder_segmentation", data_dir=str(tmp_path / "sets"), manual_dir=folder, progress=False))
    train(config(tmp_path / "run", tmp_path / "sets"))

    workdir = store / "run"
    process, seen = _started(workdir, f"{store}/sets", "slow"), []
    for line in process.stdout:
        seen.append(line)
        if "step 8/12" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL, "".join(seen)
    left = complete_steps(workdir / "checkpoints")
    assert left
    assert left[-1] < 12
    assert (workdir / "run.lock").exists(), "nobody lets go of a killed run's lock"

    resumed = _started(workdir, f"{store}/sets", "resume")
    said, _ = resumed.communicate(timeout=500)
    assert resumed.returncode == 0, said
    assert f"resuming {workdir} at step {left[-1]} of 12" in said
    assert _losses(workdir) == _losses(tmp_path / "run")
    assert (workdir / "report.json").read_text() == (tmp_path / "run/report.json").read_text()
    assert complete_steps(workdir / "checkpoints") == complete_steps(tmp_path / "run/checkpoints")
    same = jax.tree.map(np.array_equal, read_stored_variables(workdir), read_stored_variables(tmp_path / "run"))
    assert all(jax.tree.leaves(same))
    names = {name.partition("/")[0] for name in workdir.files_below()}
    there = {"checkpoints", "config.json", "curves.png", "metrics.jsonl", "predictions.png", "report.json"}
    assert names == there | {"tensorboard"}
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len([name for name in workdir.files_below() if name.startswith("tensorboard/")]) == 2


@pytest.mark.parametrize("store", ["gs"], indirect=True)
def test_two_processes_write_their_parts_of_a_checkpoint_into_googles_store(store, tmp_path):
    folder = draw_folder(tmp_path / "drawn")
    prepare(Prepare("image_folder_segmentation", data_dir=f"{store}/sets", manual_dir=folder, progress=False))
    prepare(Prepare("image_folder_segmentation", data_dir=str(tmp_path / "sets"), manual_dir=folder, progress=False))
    train(config(tmp_path / "run", tmp_path / "sets"))
    workdir, cluster = store / "run", f"localhost:{_free_port()}"
    both = [_started(workdir, f"{store}/sets", cluster, number, devices=4) for number in range(2)]
    for process, (said, _) in [(process, process.communicate(timeout=500)) for process in both]:
        assert process.returncode == 0, said
    losses, expected = _losses(workdir), _losses(tmp_path / "run")
    assert sorted(losses) == sorted(expected)
    np.testing.assert_allclose([*losses.values()], [*expected.values()], rtol=1e-4)
    files = (workdir / "checkpoints" / "12" / "variables").files_below()
    assert {name.partition("/")[0] for name in files} > {"ocdbt.process_0", "ocdbt.process_1"}
    score = json.loads((workdir / "report.json").read_text())["psnr"]
    outcome = train(config(workdir, f"{store}/sets", resume=True))  # one process, from what the two have written
    assert outcome.step == 12
    np.testing.assert_allclose(outcome.report["psnr"], score, rtol=1e-6)
