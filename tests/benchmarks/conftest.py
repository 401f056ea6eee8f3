"""Makes the benchmarks importable: they are programs, not a package."""

import pathlib
import sys
from collections.abc import Callable

import jax
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture
def stem_here() -> Callable[[str], str]:
    """What a benchmark's results are called on this machine's CPU, with the JAX that is installed."""
    import reporting

    hello = {"versions": {"jax": jax.__version__}, "device": "cpu"}
    return lambda name: reporting.stem_of(name, {"contestants": {"cvjax": hello}}, None)
