"""Several studies by one command: each as far as it is not measured, and what they found on one page."""

import json
import subprocess
import sys

import pytest
from lessons import NAMES
from lessons import study as defined

from cvjax.cli.shell.experiments import study_files
from cvjax.cli.shell.sources import study_task
from cvjax.cli.studying import several, study
from cvjax.errors import ConfigError


def test_tasks_are_read_from_the_sources():
    files = study_files()
    assert list(files) == NAMES
    assert {name: study_task(name) for name in files} == {name: defined(name).task for name in NAMES}


@pytest.mark.slow
def test_several_are_measured_once_and_shown_together(tmp_path, monkeypatch, capfd):
    words = ["parameters", "kernels", "--trial", "--seeds", "1", "--workdir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["cvjax"])
    study.main([*words, "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found) == ["parameters", "kernels"]
    page = (tmp_path / "index.html").read_text()
    for name, table in found.items():
        assert f">{name}</h2>" in page
        record = json.loads((tmp_path / name / "study.json").read_text())
        assert record["table"] == table
    assert page.count("<img") == 2

    capfd.readouterr()
    (tmp_path / "kernels" / "study.json").write_text("no JSON")
    with pytest.raises(SystemExit) as ended:
        study.main(words)
    assert ended.value.code == 2
    told = capfd.readouterr().err
    assert "kernels" in told.splitlines()[-1]
    assert "holds no measurements of a study" in told
    assert "parameters" not in told.splitlines()[-1]


def test_each_study_gets_the_data_of_its_task(tmp_path, monkeypatch):
    started = {}

    def run(words, check):
        place = tmp_path / words[words.index("--workdir") + 1].rpartition("/")[2]
        place.mkdir()
        table = {"columns": [], "rows": [], "verdict": "seen"}
        (place / "study.json").write_text(json.dumps({"table": table, "settings": {}}))
        started[place.name] = words[words.index("--workdir") + 2 :]
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    words = ["kernels", "skips", "proposals", "--labels", "L", "--masks", "M", "--void", "11", "12"]
    several.main([*words, "--workdir", str(tmp_path)])
    assert started == {
        "kernels": ["--data", "L"],
        "skips": ["--data", "M", "--void", "11", "12"],
        "proposals": [],
    }


def test_a_store_is_refused():
    with pytest.raises(ConfigError, match="is a URL"):
        several.main(["all", "--workdir", "memory://studies"])
