"""The command `cvjax`: its table, its pages, its refusals, and how little it imports to answer."""

import importlib.util
import runpy
import subprocess
import sys

import pytest

from cvjax.cli import commands
from cvjax.cli.main import main
from cvjax.cli.shell.experiments import experiment_files, study_files

_HEAVY = {"jax", "numpy", "tyro", "rich", "flax", "experiments", "cv2"}


def _refused(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_each_row_is_a_module_with_a_main(name):
    row = commands.COMMANDS[name]
    spec = importlib.util.find_spec(row.module)
    assert spec is not None
    assert "\ndef main(" in spec.loader.get_source(row.module)
    assert row.sentence.endswith(".")
    assert name.count(" ") == (name.partition(" ")[0] in commands.GROUPS)


def test_the_overview_lists_what_may_follow(capsys):
    main([])
    shown = capsys.readouterr().out
    main(["--help"])
    assert capsys.readouterr().out == shown
    assert shown.startswith("usage: cvjax COMMAND")
    for word in ("train", "evaluate", "predict", "convert", "inspect", "crf", "crf-search", "aot", "data"):
        assert f"\n  {word} " in shown
    assert "\n  prepare" not in shown


def test_a_group_lists_its_commands(capsys):
    main(["data"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: cvjax data COMMAND")
    for word in ("prepare", "boxes", "propose"):
        assert f"\n  {word} " in shown


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian"], "train"),
        (["crf_serch"], "crf-search"),
        (["prepare"], "data prepare"),
        (["data", "bokes"], "boxes"),
        (["train", "deeplab"], "deeplab_voc"),
        (["train", "camvit"], "camvid"),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_the_nearest(capsys, words, meant):
    assert f"did you mean {meant}?" in _refused(capsys, *words)


def test_nothing_is_guessed_where_no_name_is_like_it(capsys):
    assert "did you mean" not in _refused(capsys, "xyzzy")
    assert "cvjax --help lists them" in _refused(capsys, "xyzzy")
    assert "before --steps" in _refused(capsys, "train", "--steps", "1")


def test_train_alone_lists_the_experiments(capsys):
    main(["train"])
    shown = capsys.readouterr().out
    names = experiment_files()
    assert len(names) > 15
    assert all(f"\n  {name} " in shown for name in names)
    assert "Street scenes of CamVid with U-Net or DeepLab v3+." in shown


def test_study_alone_lists_the_studies(capsys):
    main(["study"])
    shown = capsys.readouterr().out
    assert study_files()
    assert all(f"\n  {name} " in shown for name in study_files())
    assert "did you mean depth?" in _refused(capsys, "study", "deph")
    assert "before --seeds" in _refused(capsys, "study", "--seeds", "1")


@pytest.mark.parametrize(
    ("words", "module", "argv"),
    [
        (["train", "camvid", "quick", "--steps", "1"], "experiments.camvid", ["quick", "--steps", "1"]),
        (["study", "depth", "--seeds", "1"], "experiments.studies.depth", ["--seeds", "1"]),
    ],
)
def test_experiments_and_studies_run_as_python_runs_them(monkeypatch, words, module, argv):
    seen = {}

    def run_module(name, **how):
        seen.update(how, name=name, argv=sys.argv[1:])

    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setattr(sys, "argv", ["cvjax"])
    main(words)
    assert seen == {"name": module, "argv": argv, "run_name": "__main__", "alter_sys": True}


@pytest.mark.parametrize("words", [["--help"], ["data"], ["train"], ["study"], ["--version"]], ids=" ".join)
def test_answers_import_nothing_heavy(words):
    code = "import sys; from cvjax.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout
    assert not _HEAVY & set(done.stderr.split())


def test_neither_help_nor_a_refusal_imports_jax():
    """JAX takes a second or two, for which nobody waits who mistypes a flag. One process asks all commands in turn."""
    code = (
        "import contextlib, io, sys\n"
        "from cvjax.cli.commands import COMMANDS\n"
        "from cvjax.cli.main import main\n"
        "for name in COMMANDS:\n"
        "    for flag in ('--help', '--xyzzy'):\n"
        "        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "            with contextlib.suppress(SystemExit):\n"
        "                main([*name.split(), flag])\n"
        "        heavy = {'jax', 'flax', 'optax', 'orbax', 'grain', 'tensorflow', 'torch'} & set(sys.modules)\n"
        "        assert not heavy, f'cvjax {name} {flag} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_experiments_help_imports_what_describes_a_run_alone():
    """Its flags are the fields of configurations and of a net, so it needs Flax, and nothing that reads or writes."""
    code = (
        "import sys; from cvjax.cli.main import main\n"
        "try: main(['train', 'deeplab_voc', 'quick', '--help'])\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--optim.learning-rate" in done.stdout
    unneeded = {
        "orbax",
        "orbax.checkpoint",
        "grain",
        "tensorflow",
        "tensorflow_datasets",
        "matplotlib",
        "sklearn",
        "torch",
    }
    assert not unneeded & set(done.stderr.split())


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "cvjax", "data"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: cvjax data COMMAND")
