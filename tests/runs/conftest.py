"""A folder of small labeled drawings, and a finished run on it."""

import pathlib

import pytest
from tiny_run import draw_folder, train


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> pathlib.Path:
    """The folder of drawings."""
    return draw_folder(tmp_path_factory.mktemp("drawings"))


@pytest.fixture(scope="session")
def trained(folder, tmp_path_factory) -> pathlib.Path:
    """The work folder of a finished run of one process with one device."""
    workdir = tmp_path_factory.mktemp("run") / "whole"
    process = train(folder, workdir)
    assert process.returncode == 0, process.err
    return workdir
