"""The picture of a model's layers."""

import numpy as np
import pytest
from PIL import Image

from cvjax.errors import ConfigError
from cvjax.visual import layers
from cvjax.visual.tables import quantity

DEEP = ["stem", *(f"stage{s}_{b}/conv{c}" for s in range(1, 5) for b in range(9) for c in range(3)), "head"]


@pytest.mark.parametrize("names", [["conv1"], ["conv1", "conv2", "fc"], DEEP])
def test_bars_are_as_high_as_their_numbers(names, tmp_path):
    # Only the last layer has parameters, only the first puts anything out.
    first, last = np.eye(len(names), dtype=int)[[0, -1]] * 1000
    layers.plot_layers(tmp_path / "a.png", names, last, first, "a title")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (672, 1440, 3)
    blue, orange = (
        np.argwhere((pixels == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(-1))
        for color in (layers._ACTIVATIONS, layers._PARAMS)
    )
    assert blue[:, 0].max() < orange[:, 0].min()
    if len(names) > 1:
        assert blue[:, 1].max() < orange[:, 1].min()


def test_bands_are_stages_and_look_into_what_holds_most():
    assert [band[2] for band in layers._bands(DEEP)] == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    inner = [f"backbone/{name}" for name in DEEP]
    found = layers._bands([*inner, "head/conv"])
    assert [band[2] for band in found][:3] == ["backbone/stem", "backbone/stage1", "backbone/stage2"]
    assert found[-1] == (len(inner), len(inner), "head")
    assert layers._bands(["a_0/x", "a_1/x", "b_layer1", "b_layer12"]) == [(0, 1, "a"), (2, 3, "b")]


def test_labels_keep_a_distance():
    assert layers._apart([0, 5, 5.5, 6], 2).tolist() == [0, 2, 4, 6]


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        layers.plot_layers(tmp_path / "file" / "a.png", ["a"], [1], [1])


def test_quantities_as_people_say_them():
    said = {0: "0", 64: "64", 999: "999", 1000: "1 K", 9408: "9.41 K", 999_960: "1 M", 25_557_032: "25.6 M",
            4_089_184_256: "4.09 G", 2.5e15: "2.5e+03 T"}  # fmt: skip
    assert {number: quantity(number) for number in said} == said
