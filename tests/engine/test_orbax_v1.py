"""Checkpoints are orbax's own: its next interface, which is experimental yet, reads them too."""

import jax
import numpy as np
import pytest
from toy import ToyNet
from toy_run import toy_fit


# Of the interface itself: names to come, and that it looks up itself how the arrays lay.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Sharding info not provided:UserWarning")
def test_orbaxs_next_interface_reads_a_checkpoint(tmp_path):
    v1 = pytest.importorskip("orbax.checkpoint.experimental.v1")
    outcome = toy_fit(tmp_path, 3)
    read = v1.load_checkpointables(tmp_path / "checkpoints" / "3")
    assert set(read) >= {"variables", "optimizer", "ema", "info"}
    assert read["info"]["position"] == 3
    for saved, right in (
        (read["variables"], outcome.state.variables),
        (read["ema"], outcome.state.ema),
        (read["optimizer"]["step"], outcome.state.step),
    ):
        jax.tree.map(np.testing.assert_array_equal, saved, jax.device_get(right))
    images = np.zeros((1, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(
        ToyNet(width=8).apply(read["variables"], images), ToyNet(width=8).apply(outcome.state.variables, images)
    )
