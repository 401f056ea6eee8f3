"""Completion: what it answers is what the commands take, and real shells take it."""

import contextlib
import importlib
import io
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from commands import configure

import cvjax
from cvjax.cli.commandline import read_fields
from cvjax.cli.commands import COMMANDS, first_words, members
from cvjax.cli.shell.completion import candidates
from cvjax.cli.shell.examples import EXAMPLES
from cvjax.cli.shell.experiments import experiment_files, study_files
from cvjax.cli.shell.reading import flags_of
from cvjax.cli.shell.sources import presets
from cvjax.cli.studying import several


def _page(show) -> list[str]:
    """The flags of a page of help."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        show()
    return flags_of(shown.getvalue())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("train", "study", "completion")])
def test_flags_of_commands_are_those_of_their_help(name):
    module = importlib.import_module(COMMANDS[name].module)
    told = set(_page(lambda: module.main(["--help"])))
    assert set(candidates([*name.split(), "--"])) == told


def test_presets_are_the_experiments():
    for name in experiment_files():
        module = importlib.import_module(f"experiments.{name}")
        assert presets(name) == list(module.PRESETS), name
        assert candidates(["train", name, ""]) == list(module.PRESETS)


@pytest.mark.parametrize("name", ["camvid", "densenet_imagenet", "rcnn_voc", "hypercolumn_masks", "faster_rcnn_voc"])
def test_flags_of_experiments_are_those_of_their_help(name):
    module = importlib.import_module(f"experiments.{name}")
    told = {flag for flag in _page(lambda: configure(module, ["--help"])) if not flag.startswith("--model.")}
    assert set(candidates(["train", name, "quick", "--"])) == told | {"--model.name", "--config", "--json"}


def test_studies_and_their_flags_are_completed():
    names = list(study_files())
    assert candidates(["study", ""]) == [*names, "all"]
    assert candidates(["study", "depth", "kern"]) == [name for name in names if name.startswith("kern")]
    for name in names:
        module = importlib.import_module(f"experiments.studies.{name}")
        settings = module.STUDY.settings
        told = set(_page(lambda settings=settings: read_fields(settings, ["--help"], "study", "")))
        assert set(candidates(["study", name, "--"])) == told | {"--trial", "--json", "--quiet", "--traceback"}
    told = set(_page(lambda: several.main(["--help"])))
    assert set(candidates(["study", "all", "--"])) == set(candidates(["study", names[0], "other", "--"])) == told


def test_examples_have_flags_that_exist():
    for name, lines in EXAMPLES.items():
        for line in lines:
            first, *words = shlex.split(line, comments=True)
            if first == "eval":
                continue
            words = words[: words.index("--")] if "--" in words else words
            assert [first, *words][: 1 + len(name.split())] == ["cvjax", *name.split()]
            flags = {word for word in words if word.startswith("--") and not word.startswith("--input.")}  # of a run
            places = {"train": 2, "study": 1}.get(name, 0)
            known = candidates([*words[: len(name.split()) + places], "--"])
            assert flags <= set(known), line


def test_names_are_completed_at_their_places():
    assert candidates([""]) == list(first_words())
    assert candidates(["ev"]) == ["evaluate"]
    assert candidates(["data", ""]) == list(members("data"))
    assert candidates(["train", "cam"]) == ["camvid"]
    assert candidates(["inspect", "resnet5"]) == [name for name in cvjax.list_models() if name.startswith("resnet5")]
    assert "unet" in candidates(["train", "camvid", "quick", "--model.name", "un"])
    assert candidates(["lr", "camvid", "qu"]) == ["quick", "quick_deeplab"]
    assert {"--sweep", "--batch-size"} <= set(candidates(["lr", "camvid", "quick", "--"]))
    assert candidates(["completion", ""]) == ["bash", "zsh"]
    assert candidates(["evaluate", "runs/"]) == candidates(["nothing", ""]) == []  # the shell completes files


@pytest.fixture
def command(tmp_path):
    """A `cvjax` on the shell's path, and its environment."""
    script = tmp_path / "cvjax"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cvjax "$@"\n')
    script.chmod(0o755)
    return dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}", HOME=str(tmp_path))


def test_bash_completes(command, tmp_path):
    (tmp_path / "runs").mkdir()
    code = """
    eval "$(cvjax completion bash)"
    say() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _cvjax; echo "${COMPREPLY[*]}"; }
    say cvjax tr
    say cvjax train cam
    say cvjax train camvid q
    say cvjax evaluate --bat
    say cvjax evaluate ru
    complete -p cvjax
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", code], env=command, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    answers = done.stdout.splitlines()
    assert answers[:5] == ["train", "camvid", "quick quick_deeplab", "--batch-size", ""]
    assert "-o default" in answers[5]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_completes(command, tmp_path):
    code = """
    eval "$(cvjax completion zsh)"
    compadd() { shift; print -r -- ${(P)1} }
    _files() { print files }
    say() { words=("$@"); CURRENT=$#; _cvjax }
    say cvjax tr
    say cvjax train camvid q
    say cvjax evaluate ru
    print -r -- $_comps[cvjax]
    """
    done = subprocess.run(["zsh", "-f", "-c", code], env=command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["train", "quick quick_deeplab", "files", "_cvjax"]
