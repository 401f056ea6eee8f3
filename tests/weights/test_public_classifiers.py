"""Public classifiers of PyTorch: the same numbers under the same weights, and the weights back bit for bit."""

import jax
import numpy as np
import public_reference as public
import pytest
from _reference import load
from agreement import Agreement

from cvjax.models import create_model
from cvjax.weights import find_model, from_torch, to_torch
from cvjax.weights.layouts.classifiers import PaddedInTheMiddle

NETS = {
    **{f"akamaster_resnet{depth}": f"resnet{depth}_cifar" for depth in (20, 32, 44, 56)},
    "timm_resnetv2_50": "resnetv2_50",
    "timm_legacy_seresnet50": "seresnet50",
    "timm_legacy_seresnext50_32x4d": "seresnext50_32x4d",
}


@pytest.mark.slow
@pytest.mark.parametrize("entry", NETS)
def test_an_entry_is_recognized_and_gives_its_numbers(entry, shared_dir):
    folder = shared_dir / "reference" / "torch"
    state, (_, outputs) = public.state_dict(folder, entry), load(folder, entry)
    fit = find_model(state)
    assert fit.model == NETS[entry]
    variables = from_torch(fit.model, state, layout=fit.architecture.layout)
    model = create_model(fit.model, **fit.options)
    agrees = Agreement(entry, fit.model, fit.architecture.layout)
    for name, images in public.inputs(folder, entry).items():
        key = f"logits{name.removeprefix('input')}"
        found = jax.jit(model.apply)(variables, images)
        agrees(found, outputs[key], public.tolerance(folder, entry, key))
    back = to_torch(fit.model, variables, layout=fit.architecture.layout)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[key], value) for key, value in state.items())


def test_channels_of_a_stage_follow_where_the_shortcuts_pad():
    """By hand for two channels: a stage of four has a zero, the two, a zero; the next has two zeros on either side."""
    stream, ours = np.array([1, 2]), np.array([1, 2])
    reorder = PaddedInTheMiddle(2)
    for stage in (2, 3):
        new = len(stream) // 2
        stream = np.concatenate([-np.arange(1, new + 1) * stage, stream, -np.arange(new + 1, 2 * new + 1) * stage])
        ours = np.concatenate([ours, -np.arange(1, 2 * new + 1) * stage])
        np.testing.assert_array_equal(reorder.to_ours(f"layer{stage}.1.bn2.weight", stream), ours)
        np.testing.assert_array_equal(reorder.to_theirs(f"layer{stage}.1.bn2.weight", ours), stream)
