"""Public classifiers of PyTorch from their publishers' files: the same numbers, and the weights back bit for bit."""

import jax
import numpy as np
import public_reference as public
import published_files
import pytest
from _reference import load
from agreement import Agreement

from cvjax.models import create_model
from cvjax.weights import to_torch
from cvjax.weights.layouts.classifiers import PaddedInTheMiddle

# The model and the layout that are found.
NETS = {
    **{f"akamaster_resnet{depth}": (f"resnet{depth}_cifar", "akamaster") for depth in (20, 32, 44, 56)},
    "timm_resnetv2_50": ("resnetv2_50", "timm"),
    "timm_legacy_seresnet50": ("seresnet50", "timm_legacy"),
    "timm_legacy_seresnext50_32x4d": ("seresnext50_32x4d", "timm_legacy"),
}


@pytest.mark.slow
@pytest.mark.parametrize("entry", NETS)
def test_an_entry_is_recognized_and_gives_its_numbers(entry, shared_dir, tmp_path):
    folder = shared_dir / "reference" / "torch"
    _, outputs = load(folder, entry)
    opened = published_files.open_torch(folder, entry, tmp_path)
    model_name, layout = NETS[entry]
    assert opened.model == model_name
    assert opened.whose.endswith(f"in the layout of {layout}")
    model = create_model(model_name, num_classes=opened.num_classes, **opened.options)
    agrees = Agreement(entry, model_name, layout)
    for name, images in public.inputs(folder, entry).items():
        key = f"logits{name.removeprefix('input')}"
        found = jax.jit(model.apply)(opened.variables, images)
        agrees(found, outputs[key], public.tolerance(folder, entry, key))
    back = to_torch(model_name, opened.variables, layout=layout)
    assert back.keys() == opened.state_dict.keys()
    assert all(np.array_equal(back[key], value) for key, value in opened.state_dict.items())


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
