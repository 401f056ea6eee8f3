"""What README and docs promise: commands that parse, links that lead somewhere, Python that runs."""

import importlib
import json
import pathlib
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tyro
from commands import configure
from documented import PAGES, ROOT, blocks, commands

from cvjax.cli.commandline import read_fields
from cvjax.engine.config import as_json
from experiments import deeplab_voc

COMMANDS = sorted({(found.page, found.text) for found in commands()})


def test_there_are_commands():
    assert len(COMMANDS) > 40
    assert {page for page, _ in COMMANDS} >= {"README.md", "guide.md", "weights.md", "pods.md", "results.md"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_parse(page, command, tmp_path):
    module, *argv = shlex.split(command)
    if "." not in module:
        module = f"experiments.{module}"
    argv = [word for word in argv if not word.startswith("$")]
    if module.startswith("experiments.studies."):
        words = [word for word in argv if word != "--trial"]
        read_fields(importlib.import_module(module).STUDY.settings, words, "study", "")
        return
    if module.startswith("experiments."):
        if "--config" in argv:
            path = tmp_path / "config.json"
            path.write_text(json.dumps({"format": 2, "run": as_json(deeplab_voc.PRESETS["quick"])}))
            argv[argv.index("--config") + 1] = str(path)
        configure(importlib.import_module(module), argv)
        return
    command_line = importlib.import_module(module)
    read = getattr(command_line, "read", None)
    if getattr(read, "__module__", None) == module:  # its further flags are an experiment's
        read(["scenes" if word == "FOLDER" else word for word in argv])
        return
    if "--" in argv:  # of each run of a sweep
        place = argv.index("--")
        configure(importlib.import_module(f"experiments.{argv[0]}"), [argv[1], *argv[place + 1 :]])
        argv = argv[:place]
    names = ("Arguments", "Prepare", "Propose")
    kind = next(getattr(command_line, name) for name in names if hasattr(command_line, name))
    tyro.cli(kind, args=argv)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    names = re.findall(r"`((?:cvjax|experiments|tests|benchmarks|docs)/[\w/]+(?:\.\w+)+)`", page.read_text())
    for name in names:
        assert (ROOT / name).exists() or list(ROOT.glob(name.replace("PLATFORM", "*"))), name


def test_the_readme_fits_on_a_page_or_two():
    assert len((ROOT / "README.md").read_text().splitlines()) < 80


def _run(code: str, folder: pathlib.Path) -> str:
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path):
    (code,) = blocks(ROOT / "README.md", "python")
    assert len(code.splitlines()) <= 10
    assert "1512.03385" in _run(code + "assert logits.shape == (2, 65, 65, 21)\n", tmp_path)


@pytest.mark.slow
def test_the_first_pages_python_runs(tmp_path):
    """The run is shortened to two steps on a few scenes."""
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((70, 90, 3), 128, np.uint8))
    run, net = blocks(ROOT / "docs" / "index.md", "python")
    few = "from cvjax.datasets.scenes import render\nrender.SIZES = {'train': 16, 'val': 4, 'test': 4}\n"
    assert "steps=4000" in run
    assert _run(few + run.replace("steps=4000", "steps=2"), tmp_path).splitlines()[-1].startswith("2 (70, 90) 0.")
    _run(net + "assert logits.shape == (1, 10)\n", tmp_path)


def test_the_python_about_models_runs(tmp_path):
    (code,) = blocks(ROOT / "docs" / "models.md", "python")
    _run(code, tmp_path)


@pytest.mark.slow
def test_the_python_about_nnx_runs(tmp_path):
    _run("".join(blocks(ROOT / "docs" / "nnx.md", "python")) + "assert float(loss) > 0\n", tmp_path)


@pytest.mark.slow
def test_the_guides_python_runs(tmp_path):
    """Two steps from the first to the last line, on a few scenes: trained, loaded, scored, predicted."""
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((70, 90, 3), 128, np.uint8))
    (code,) = blocks(ROOT / "docs" / "guide.md", "python")
    few = "from cvjax.datasets.scenes import render\nrender.SIZES = {'train': 16, 'val': 4, 'test': 4}\n"
    _run(few + code + "assert labels.shape == (70, 90) and 0 <= report['miou'] <= 1 and outcome.step == 2\n", tmp_path)
