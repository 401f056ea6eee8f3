"""The package as installed: what importing it may pull in; and what the tests run under."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest


def test_import_needs_neither_tensorflow_nor_torch():
    code = "import cvjax, sys; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'tensorflow'" not in loaded
    assert "'torch'" not in loaded


def test_nothing_is_promoted_in_tests():
    """Whatever imports JAX before `conftest.py` does would keep what that sets from it."""
    with pytest.raises(jax.dtypes.TypePromotionError):
        jnp.float32(1) + jnp.int32(1)
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
