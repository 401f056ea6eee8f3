"""Runs that start from somebody's weights: of the same net with other classes, or of a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_variables import drawn_variables

from cvjax.errors import CheckpointError, ConfigError
from cvjax.models.config import ModelConfig
from cvjax.models.info import Preprocessing
from cvjax.weights import start_from, to_torch
from cvjax.weights.layouts.caffe import FCN
from cvjax.weights.own import to_own

RUN = Preprocessing()  # ImageNet's mean and deviation, red first
IMAGES = jnp.zeros((1, 64, 64, 3))
NARROW = {"widths": (4, 4, 4, 4, 4)}


def _made(config: ModelConfig, classes: int, *images):
    return drawn_variables(config.build(num_classes=classes), *(images or (IMAGES,)))


def _bytes(photograph: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """What a net with that preprocessing sees of pixels in 0..255."""
    x = (photograph / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    return (x[..., ::-1] if preprocessing.bgr else x).astype(np.float32)


def test_a_caffe_net_with_other_classes_fills_all_but_its_scores_and_reads_the_runs_images(caplog):
    config = ModelConfig("fcn8s_vgg16", backbone={**NARROW, "hidden": 8})
    theirs, fresh = _made(config, 5), _made(config, 3)
    started = start_from(config, fresh, to_torch("fcn8s_vgg16", theirs, layout="caffe"), RUN)
    for layer in ("score", "score_pool4", "score_pool3", "up_pool4", "up_pool3", "up_image8"):
        jax.tree.map(np.testing.assert_array_equal, started["params"][layer], fresh["params"][layer])
    backbone = started["params"]["backbone"]
    np.testing.assert_array_equal(backbone["conv2_1"]["kernel"], theirs["params"]["backbone"]["conv2_1"]["kernel"])
    # The first convolution gives on the run's images what the authors' gave on theirs, away from the border.
    photograph = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3)).astype(np.float64)
    given = theirs["params"]["backbone"]["conv1_1"]
    found = []
    for preprocessing, layer in ((RUN, backbone["conv1_1"]), (FCN, given)):
        seen = np.lib.stride_tricks.sliding_window_view(_bytes(photograph, preprocessing), (3, 3), axis=(1, 2))
        found.append(np.einsum("bhwcij,ijco->bhwo", seen, layer["kernel"]) + np.asarray(layer["bias"]))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=0.01)
    assert "score_fr" in caplog.text
    assert "start anew" in caplog.text
    assert "red first" in caplog.text


def test_vgg_16_fc_reduced_fills_deeplabs_branch_without_thinning_it_out(caplog):
    config = ModelConfig("deeplabv1_largefov_vgg16", hidden=8, backbone=NARROW)
    theirs, fresh = _made(config, 1000), _made(config, 3)
    weights = to_torch("deeplabv1_largefov_vgg16", theirs, layout="caffe")
    weights = {key.replace("fc8_voc12", "fc8"): value for key, value in weights.items()}
    started = start_from(config, fresh, weights, RUN)
    branch = started["params"]["backbone"]["branch_0"]
    np.testing.assert_array_equal(branch["fc6"]["kernel"], theirs["params"]["backbone"]["branch_0"]["fc6"]["kernel"])
    np.testing.assert_array_equal(
        started["params"]["classifier_0"]["kernel"], fresh["params"]["classifier_0"]["kernel"]
    )
    assert "these weights are left out: fc8" in caplog.text


def test_weights_that_need_another_structure_say_which_flags_to_add():
    msra = {"stride_in_1x1": True, "stem_pool": "ceil"}
    narrow = {"width": 8, "stage_sizes": (3, 4, 6, 3)}
    theirs = _made(ModelConfig("resnet50", width=8, **msra), 7)
    weights = to_torch("resnet50", theirs, layout="caffe")
    plain = ModelConfig("deeplabv3plus_resnet50", aspp_features=8, low_level_features=4, backbone=narrow)
    two = jnp.zeros((2, 64, 64, 3))
    with pytest.raises(ConfigError, match=r"--model\.backbone\.stride-in-1x1 --model\.backbone\.stem-pool ceil; add"):
        start_from(plain, _made(plain, 3, two), weights, RUN)
    fitting = plain.replace(backbone=msra)
    started = start_from(fitting, _made(fitting, 3, two), weights, RUN)
    kernel = ("stage1_0", "conv1", "kernel")
    given, found = theirs["params"], started["params"]["backbone"]
    for part in kernel:
        given, found = given[part], found[part]
    np.testing.assert_array_equal(found, given)
    with pytest.raises(
        ConfigError, match=r"torchvision need --model\.backbone\.no-stride-in-1x1 .*stem-pool padded; add"
    ):
        start_from(fitting, _made(fitting, 3, two), to_torch("resnet50", theirs), RUN)


def test_a_classifier_of_other_classes_keeps_its_head_and_our_own_names_are_read():
    config = ModelConfig("resnet18", width=8)
    theirs, fresh = _made(config, 5), _made(config, 3)
    for weights in (to_torch("resnet18", theirs), to_own(theirs)):
        started = start_from(config, fresh, weights, RUN)
        np.testing.assert_array_equal(started["params"]["head"]["kernel"], fresh["params"]["head"]["kernel"])
        np.testing.assert_array_equal(
            started["params"]["stage4_0"]["conv1"]["kernel"], theirs["params"]["stage4_0"]["conv1"]["kernel"]
        )


def test_weights_of_another_net_are_refused():
    config = ModelConfig("resnet18", width=8)
    wide = ModelConfig("resnet18", width=16)
    with pytest.raises(CheckpointError, match="mis-shaped"):
        start_from(config, _made(config, 3), to_torch("resnet18", _made(wide, 3)), RUN)
