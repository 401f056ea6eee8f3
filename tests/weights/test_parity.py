"""The same numbers as torchvision's, under the same weights."""

import _reference as reference
import jax
import pytest

from cvjax.models import create_model
from cvjax.weights import from_torch


def _run_classifier(name, folder):
    state, outputs = reference.load(folder, name)
    model = create_model(name, num_classes=1000)
    images = reference.images((2, 224, 224, 3))
    logits = jax.jit(model.apply)(from_torch(name, state), images)
    assert reference.relative_error(logits, outputs["logits"]) < 1e-4


def _run_deeplab(folder, step):
    name = "deeplabv3_resnet50"
    state, outputs = reference.load(folder, name)
    # Frozen statistics, no dropout: the training pass equals evaluation, and has the auxiliary logits.
    model = create_model(name, num_classes=21, freeze_bn=True, dropout=0.0, aux_dropout=0.0)
    images = reference.images((2, 112, 112, 3))
    variables = from_torch(name, state)
    logits, extra = jax.jit(lambda v, x: model.apply(v, x, train=True))(variables, images)
    assert reference.relative_error(logits[:, ::step, ::step], outputs["out"]) < 1e-4
    assert reference.relative_error(extra["aux"][:, ::step, ::step], outputs["aux"]) < 1e-4


def test_resnet18_agrees_with_torchvision():
    _run_classifier("resnet18", reference.GOLDEN)


def test_efficientnet_b0_agrees_with_torchvision():
    _run_classifier("efficientnet_b0", reference.GOLDEN)


def test_deeplabv3_agrees_with_torchvision():
    _run_deeplab(reference.GOLDEN, step=8)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_classifier_agrees_with_the_full_reference(name, shared_dir):
    _run_classifier(name, shared_dir / "reference")


def test_deeplabv3_agrees_with_the_full_reference(shared_dir):
    _run_deeplab(shared_dir / "reference", step=1)
