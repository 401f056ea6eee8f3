"""The measurements behind the rules of products and sums."""

import jax
import numpy as np
import products
import pytest


def test_ours_and_others_compute_the_same():
    kinds = {}
    for kind, shape, other, ours, arrays, _ in products.cases():
        if (
            kind in kinds
            or arrays[0].size > 2e6
            or (kind in ("outer", "transposed", "matrix") and not products_of_onednn())
        ):
            continue
        kinds[kind] = shape
        a, b = (np.asarray(jax.jit(f)(*arrays), np.float64) for f in (other, ours))
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())
    assert {"narrowing", "sums", "tiles", "tiles_gradient"} <= set(kinds)


def products_of_onednn():
    from cvjax.ops.cpu import onednn

    return onednn.sums(np.dtype(np.float32))


def test_different_results_are_no_measurement():
    x = np.ones((4, 4), np.float32)
    times = products.measure({"other": lambda x: x * 2, "ours": lambda x: x + x}, [x], rounds=3)
    assert [len(t) for t in times.values()] == [3, 3]
    with pytest.raises(SystemExit, match="different"):
        products.measure({"other": lambda x: x * 2, "ours": lambda x: x * 3}, [x], rounds=1)


def test_the_table_says_what_the_rules_choose():
    hello = {"versions": {"jax": "1"}, "device": "cpu"}
    machine = {"processor": "P", "cores": 2, "threads": 1, "contestants": {"cvjax": hello}}
    row = {"case": "8x8", "mode": "outer", "times": {"other": [0.004, 0.002], "ours": [0.002, 0.001]}, "rule": "ours"}
    text = products.write({"machine": machine, "settings": {"rounds": 2}, "rows": [row]})
    assert "| outer | 8x8 | 3.00 | 1.50 | 2.00 | ours |" in text
