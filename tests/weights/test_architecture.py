"""Single arrays between PyTorch's layout and ours."""

import numpy as np
import pytest

from cvjax.weights.layouts.architecture import Architecture
from cvjax.weights.layouts.timm import vgg_timm

FLAT = Architecture(
    (),
    classes_key="classifier.6.weight",
    input_key="features.0.weight",
    flattened={"classifier.0.weight": (2, 3)},
    windows={"pre_logits.fc1.weight": (2, 3), "*.se.fc?.weight": (1, 1)},
    renamed=((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _maps() -> np.ndarray:
    return _normal(4, 2, 3, 5)  # NHWC


def test_a_linear_layer_on_a_flattened_map_computes_what_pytorchs_does():
    weight, maps = _normal(7, 5 * 2 * 3), _maps()
    theirs = maps.transpose(0, 3, 1, 2).reshape(4, -1) @ weight.T
    dense = FLAT.to_flax("classifier.0.weight", weight)
    np.testing.assert_allclose(maps.reshape(4, -1) @ dense, theirs, rtol=1e-4, atol=1e-5)


def test_a_convolution_that_is_a_dense_layer_here_computes_what_pytorchs_does():
    weight, maps = _normal(7, 5, 2, 3), _maps()
    theirs = np.einsum("oihw,nhwi->no", weight, maps)
    dense = FLAT.to_flax("pre_logits.fc1.weight", weight)
    np.testing.assert_allclose(maps.reshape(4, -1) @ dense, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "shape", "ours"),
    [
        ("conv.weight", (8, 5, 3, 2), (3, 2, 5, 8)),
        ("fc.weight", (8, 5), (5, 8)),
        ("fc.bias", (8,), (8,)),
        ("classifier.0.weight", (8, 30), (30, 8)),
        ("pre_logits.fc1.weight", (8, 5, 2, 3), (30, 8)),
        ("layer1.0.se.fc1.weight", (8, 5, 1, 1), (5, 8)),
    ],
)
def test_there_and_back(key, shape, ours):
    array = _normal(*shape)
    converted = FLAT.to_flax(key, array)
    assert converted.shape == ours
    np.testing.assert_array_equal(FLAT.to_torch(key, converted), array)


def test_a_linear_layer_of_another_map_keeps_its_shape_for_the_error_message():
    assert FLAT.to_flax("classifier.0.weight", _normal(7, 31)).shape == (31, 7)


def test_older_spellings():
    assert FLAT.current_key("features.denselayer1.norm.2.weight") == "features.denselayer1.norm2.weight"
    assert FLAT.current_key("features.denselayer1.norm2.weight") == "features.denselayer1.norm2.weight"


def test_timms_vgg_differs_in_its_dense_layers():
    table = ((r"conv1_1", r"features.0"), (r"head/fc6", r"classifier.0"), (r"head/head", r"classifier.6"))
    theirs = dict(vgg_timm(table))
    assert theirs == {"conv1_1": "features.0", "head/fc6": "pre_logits.fc1", "head/head": "head.fc"}
