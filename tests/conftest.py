"""Test session set-up: eight CPU devices, quick and cached compilation, and the reference data's place.

The environment is set here, before anything imports JAX, because XLA reads it once.
"""

import contextlib
import gc
import os
import pathlib
from collections.abc import Iterator
from importlib import metadata

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).resolve().parent.parent / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Programs that call oneDNN cannot be stored. tests/ops/test_conv.py turns it on.
os.environ.setdefault("CVJAX_ONEDNN", "0")
# Tests compile much and compute little. Without LLVM's optimization and XLA's newer emitters of fusions a training step
# of a U-Net on ResNet-18 takes a sixth of the processor's time to compile, and a tenth more to run.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0"]
    if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):  # later ones don't know the flag
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()

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


def pytest_collection_finish() -> None:
    """Has the garbage collector look at what tests make alone, and less often, which is a seventh of a trace's time."""
    gc.collect()
    gc.freeze()  # modules, and whatever else stays until the end
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder with real images and reference outputs; tests that need it are skipped without it."""
    place = os.environ.get("CVJAX_TEST_DATA")
    if not place or not pathlib.Path(place).is_dir():
        pytest.skip("set CVJAX_TEST_DATA to the folder that holds data/ and reference/")
    return pathlib.Path(place)


@pytest.fixture(params=["stored", "local"])
def stored_and_local(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs a test with the lowering of programs that JAX stores, and again with that of a user's, which it does not."""
    import jax

    from cvjax.ops.cpu import onednn
    from cvjax.runtime.compiler import unstored

    def forget() -> None:
        jax.clear_caches()  # which don't know how a program was lowered
        onednn.forget()

    forget()
    local = request.param == "local"
    if local:
        monkeypatch.delenv("CVJAX_ONEDNN", raising=False)
    with unstored() if local else contextlib.nullcontext():
        yield
    forget()
