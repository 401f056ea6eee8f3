"""The time that a training step takes to compile."""

import sys

import compiling
import pytest


@pytest.mark.slow
def test_stages_are_timed_and_reported(tmp_path, monkeypatch, stem_here):
    command = ["compiling.py", "--models", "resnet20_cifar", "--batch", "2", "--size", "32", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    written = []
    table = compiling.write
    monkeypatch.setattr(compiling, "write", lambda record: written.append(record) or table(record))
    compiling.main()
    (row,) = written[-1]["rows"]
    seconds = row["seconds"]
    assert row["case"] == "resnet20_cifar"
    assert min(seconds.values()) > 0
    assert seconds["total"] == pytest.approx(sum(seconds[stage] for stage in compiling.STAGES))
    assert (tmp_path / f"{stem_here('compiling')}.md").read_text().count("| resnet20_cifar |") == 1
