"""Test session set-up: eight CPU devices, quick and cached compilation, and the reference data's place.

The environment is set here, before anything imports JAX, because XLA reads it once.
"""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).resolve().parent.parent / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Programs that call oneDNN cannot be stored. tests/ops/test_conv.py turns it on.
os.environ.setdefault("CVJAX_ONEDNN", "0")
# Tests compile much and compute little: LLVM's first level takes 0.4 of the time of its last.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1".strip()

# Nothing is promoted that the code does not promote itself, neither dtypes nor ranks, also in processes that tests
# start. Where a library promotes on its own, its call is under `jax.numpy_dtype_promotion("standard")`, and says why.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jaxtyping
import pytest

# The annotations of shapes in these packages are checked at every call; see `shape_checks`. Processes that tests start
# import the packages as they are.
jaxtyping.install_import_hook(["cvjax.ops", "cvjax.nn", "cvjax.tasks"], "shape_checks.after_the_call")

_ZOO = ("benchmarks", "errors", "inspection", "models", "visual", "weights")
_TESTS = pathlib.Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that look at one architecture, refused input or picture after another."""
    for item in items:
        if item.path.relative_to(_TESTS).parts[0] in _ZOO:
            item.add_marker(pytest.mark.zoo)


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder with real images and reference outputs; tests that need it are skipped without it."""
    place = os.environ.get("CVJAX_TEST_DATA")
    if not place or not pathlib.Path(place).is_dir():
        pytest.skip("set CVJAX_TEST_DATA to the folder that holds data/ and reference/")
    return pathlib.Path(place)
