"""The registry: published counts, filters, options, and errors that name the fix."""

import subprocess
import sys

import pytest

import cvjax
from cvjax.errors import ConfigError


def test_counts_known_from_elsewhere():
    # Written again, so that the table cannot drift together with the code.
    published = {
        "resnet18": 11_689_512,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "resnet101": 44_549_160,
        "resnet152": 60_192_808,
        "resnext50_32x4d": 25_028_904,
        "resnext101_32x8d": 88_791_336,
        "wide_resnet50_2": 68_883_240,
        "wide_resnet101_2": 126_886_696,
        "efficientnet_b0": 5_288_548,
        "efficientnet_b1": 7_794_184,
        "efficientnet_b2": 9_109_994,
        "efficientnet_b3": 12_233_232,
        "efficientnet_b4": 19_341_616,
        "efficientnet_b5": 30_389_784,
        "efficientnet_b6": 43_040_704,
        "efficientnet_b7": 66_347_960,
        "deeplabv3_resnet50": 42_004_074,
        "deeplabv3_resnet101": 60_996_202,
        "fcn_resnet50": 35_322_218,
        "fcn_resnet101": 54_314_346,
        "fasterrcnn_resnet50_fpn": 41_808_406,
    }
    assert {name: cvjax.model_info(name).params for name in published} == published


def test_list_filters():
    assert cvjax.list_models("classification", "*resnet18") == ["resnet18", "seresnet18"]
    assert "deeplabv3plus_resnet50" in cvjax.list_models(pattern="deeplab*50")
    assert "yolov1" in cvjax.list_models("detection")
    with pytest.raises(ConfigError, match="segmentation"):
        cvjax.list_models("segmentaton")


def test_errors_name_the_fix():
    with pytest.raises(ConfigError, match="deeplabv3_resnet50"):
        cvjax.create_model("deeplab3_resnet50", num_classes=2)
    with pytest.raises(ConfigError, match=r"'strides'.*output_stride"):
        cvjax.create_model("resnet18", num_classes=2, strides=8)
    with pytest.raises(ConfigError, match="resnet"):
        cvjax.model_info("resnet19")


def test_options_come_with_their_defaults():
    options = cvjax.model_options("deeplabv3_resnet18")
    assert options["backbone"].stage_sizes == (2, 2, 2, 2)
    assert options["output_stride"] == 8
    assert "num_classes" not in options


def test_imports_stay_light():
    code = "import sys, cvjax; assert 'jax' not in sys.modules; import cvjax.models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    roots = {module.split(".")[0] for module in loaded.split()}
    assert not roots & {"torch", "tensorflow", "grain", "cv2", "matplotlib", "safetensors"}
