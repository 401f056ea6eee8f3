"""The same numbers as torchvision's, under the same weights."""

import _reference as reference
import jax
import pytest
from agreement import Agreement

from cvjax.models import create_model
from cvjax.weights import from_torch
from cvjax.weights.convert import recognize


def _agreement(name, folder, state):
    return Agreement(f"{folder.name}/{name}", name, recognize(name, state)[0].layout)


def _run_classifier(name, folder):
    state, outputs = reference.load(folder, name)
    model = create_model(name, num_classes=1000)
    images = reference.images((2, 224, 224, 3))
    logits = jax.jit(model.apply)(from_torch(name, state), images)
    _agreement(name, folder, state)(logits, outputs["logits"])


def _run_segmentation(name, folder, step):
    state, outputs = reference.load(folder, name)
    # Frozen statistics, no dropout: the training pass equals evaluation, and has the auxiliary logits.
    model = create_model(name, num_classes=21, norm={"frozen": True}, dropout=0.0, aux_dropout=0.0)
    images = reference.images((2, 112, 112, 3))
    variables = from_torch(name, state)
    logits, extra = jax.jit(lambda v, x: model.apply(v, x, train=True))(variables, images)
    agrees = _agreement(name, folder, state)
    agrees(logits[:, ::step, ::step], outputs["out"])
    agrees(extra["aux"][:, ::step, ::step], outputs["aux"])


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "resnet18",
        "efficientnet_b0",
        *(pytest.param(n, marks=SLOW) for n in ("vgg11", "densenet121", "xception65")),
    ],
)
def test_classifier_agrees_with_its_reference(name):
    _run_classifier(name, reference.GOLDEN)


@SLOW
def test_googlenet_and_its_auxiliary_classifiers_agree_with_torchvision():
    state, outputs = reference.load(reference.GOLDEN, "googlenet")
    # Frozen statistics, no dropout: the training pass equals evaluation, and has the auxiliary logits.
    model = create_model("googlenet", num_classes=1000, norm={"frozen": True}, dropout=0.0, aux_dropout=0.0)
    run = jax.jit(lambda v, x: model.apply(v, x, train=True))
    logits, extra = run(from_torch("googlenet", state), reference.images((2, 224, 224, 3)))
    agrees = _agreement("googlenet", reference.GOLDEN, state)
    for ours, key in ((logits, "logits"), (extra["aux1"], "aux1"), (extra["aux2"], "aux2")):
        agrees(ours, outputs[key])


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "fcn_resnet50"])
def test_segmentation_agrees_with_torchvision(name):
    _run_segmentation(name, reference.GOLDEN, step=8)


@SLOW
@pytest.mark.parametrize(
    "name",
    [
        "vgg16_bn",
        "resnet50",
        "resnext50_32x4d",
        "wide_resnet50_2",
        "seresnet50",
        "seresnext50_32x4d",
        "legacy_senet154",
        "efficientnet_v2_s",
    ],
)
def test_classifier_agrees_with_the_full_reference(name, shared_dir):
    _run_classifier(name, shared_dir / "reference")


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "fcn_resnet50"])
def test_segmentation_agrees_with_the_full_reference(name, shared_dir):
    _run_segmentation(name, shared_dir / "reference", step=1)
