"""Test session set-up: eight CPU devices, quick and cached compilation, and the reference data's place.

The environment is set here, before anything imports JAX, because XLA reads it once.
"""

import os
import pathlib
from collections.abc import Iterator

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

import jaxtyping
import pytest

# The annotations of shapes in these packages are checked at every call; see `shape_checks`. Processes that tests start
# import the packages as they are.
jaxtyping.install_import_hook(["cvjax.ops", "cvjax.nn", "cvjax.tasks"], "shape_checks.after_the_call")

# Here nothing is promoted that the code does not promote itself, neither dtypes nor ranks.
_STRICT = ("ops/", "nn/", "models/classification/")
_ZOO = ("inspection", "models", "weights")
_TESTS = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="module", autouse=True)
def _explicit_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.path.relative_to(_TESTS).as_posix().startswith(_STRICT):
        yield
        return
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that look at one architecture after another."""
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
