"""Every registered model: shapes, parameter counts, and errors that name the fix."""

import collections
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import cvjax
from cvjax.errors import ConfigError
from cvjax.models.detection.detector import Detections, Proposals, Truth


def _small_first(*tasks):
    """Models of these tasks; the two smallest of each architecture at once, the others among the slow tests."""
    seen = collections.Counter()
    names = [name for task in tasks for name in cvjax.list_models(task)]
    for name in sorted(names, key=lambda name: cvjax.model_info(name).params):
        kind = type(cvjax.create_model(name, num_classes=2))
        seen[kind] += 1
        yield pytest.param(name, marks=[pytest.mark.slow] if seen[kind] > 2 else [])


@pytest.mark.parametrize("name", list(_small_first("classification", "segmentation")))
def test_shapes_and_published_parameters(name):
    info = cvjax.model_info(name)
    model = cvjax.create_model(name, num_classes=info.params_classes)
    sizes = (96, 96), (97, 71)
    if hasattr(model, "margin"):  # Its logits are smaller than its images, which must fit.
        sizes = tuple(model.input_size(size) for size in sizes)
    square, oblong = (jax.ShapeDtypeStruct((2, *sides, 3), jnp.float32) for sides in sizes)
    at_square, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), square)
    at_oblong = jax.eval_shape(model.apply, variables, oblong)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == info.params
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    for images, logits in ((square, at_square), (oblong, at_oblong)):
        assert logits.dtype == jnp.float32
        sides = model.output_size(images.shape[1:3]) if hasattr(model, "margin") else images.shape[1:3]
        expected = sides if info.task == "segmentation" else ()
        assert logits.shape == (2, *expected, info.params_classes)


@pytest.mark.parametrize("name", list(_small_first("detection")))
def test_detections_losses_and_published_parameters(name):
    info = cvjax.model_info(name)
    model = cvjax.create_model(name, num_classes=info.params_classes)
    array, kinds = jax.ShapeDtypeStruct, (jnp.int32, bool, bool)
    truth = Truth(array((2, 5, 4), jnp.float32), *(array((2, 5), kind) for kind in kinds))
    rngs = {"sample": jax.random.key(1), "dropout": jax.random.key(2)}

    proposals = None
    if getattr(model, "needs_proposals", False):
        proposals = Proposals(array((2, 9, 4), jnp.float32), array((2, 9), bool))

    def losses(variables, images, sizes, proposals, truth):
        kept = {"mutable": ["batch_stats"], "rngs": rngs}
        return model.apply(variables, images, sizes, proposals, truth=truth, train=True, **kept)[0]

    for height, width in ((info.image_size,) * 2, (info.image_size - 16, info.image_size - 40)):
        given = array((2, height, width, 3), jnp.float32), array((2, 2), jnp.int32), proposals
        found, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), *given)
        assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == info.params
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
        most = found.valid.shape[1]
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == Detections(
            ((2, most, 4), jnp.float32), ((2, most), jnp.float32), ((2, most), jnp.int32), ((2, most), bool)
        )
        for loss in jax.eval_shape(losses, variables, *given, truth).values():
            assert (loss.shape, loss.dtype) == ((2,), jnp.float32)


def test_counts_known_from_torchvision():
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
