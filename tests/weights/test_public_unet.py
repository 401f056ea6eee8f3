"""Public U-Nets from their publishers' files: the same numbers, the weights back, and names for all layers."""

import logging
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import public_reference as public
import published_files
import pytest
from _reference import load
from agreement import Agreement

from cvjax.models import create_model, list_models, model_options
from cvjax.weights import from_torch, to_torch
from cvjax.weights.convert import recognize
from cvjax.weights.layouts.torchvision import torch_key
from cvjax.weights.layouts.unet import UNETS

# The reference's net, our model, and the name of its layout.
NETS = (
    ("milesial_unet", "unet", "milesial"),
    ("milesial_unet_bilinear", "unet", "milesial_bilinear"),
    ("mmseg_fcn_unet_s5_d16", "unet", "mmsegmentation"),
    ("smp_unet_resnet34", "unet_resnet34", "smp"),
    ("smp_unet_vgg16_bn", "unet_vgg16_bn", "smp"),
    ("smp_unet_densenet121", "unet_densenet121", "smp"),
    ("smp_unet_efficientnet_b0", "unet_efficientnet_b0", "smp"),
    ("smp_unet_timm_efficientnet_b0", "unet_efficientnet_b0", "smp_timm"),
)
# Encoders whose names and skips are looked at in every run; the others are slow to build.
QUICK = ("vgg11", "densenet161", "efficientnet_b1")
SMALL = {"width": 2}


def shapes(model, channels=3):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, channels)))


def keys_of(variables, architecture):
    leaves = jax.tree_util.tree_leaves_with_path(
        {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    )
    return [torch_key(tuple(part.key for part in path)[1:], architecture.table) for path, _ in leaves]


@pytest.mark.slow
@pytest.mark.parametrize(("net", "name", "layout"), NETS, ids=[row[0] for row in NETS])
def test_a_net_gives_the_library_s_numbers(net, name, layout, shared_dir, tmp_path):
    folder = shared_dir / "reference" / "torch"
    _, outputs = load(folder, net)
    opened = published_files.open_torch(folder, net, tmp_path)
    assert opened.model == name
    assert opened.whose.endswith(f"in the layout of {layout}")
    variables, state, aux = opened.variables, opened.state_dict, opened.options.get("aux", False)
    assert aux == (layout == "mmsegmentation")
    model = create_model(name, num_classes=opened.num_classes, **opened.options)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == public.index(folder, net)["params"]

    @jax.jit
    def run(variables, images):
        found = {"logits": model.apply(variables, images)}
        if aux:  # the scores themselves, at the head's own resolution
            found["aux_scores"] = model.apply(
                variables, images, method=lambda net, images: net.aux_head(net.decoded(images)[-2])
            )
        return found

    agrees = Agreement(net, name, layout)
    for given, images in public.inputs(folder, net).items():
        for output, found in run(variables, images).items():
            key = f"{output}{given.removeprefix('input')}"
            agrees.hold(public.error(outputs, key, np.asarray(found)), public.tolerance(folder, net, key))
    back = to_torch(name, variables, layout=layout)
    assert set(back) == set(state)
    assert not [key for key, value in state.items() if not np.array_equal(value, back[key])]


def options_of(layout):
    (architecture,) = [a for a in UNETS["unet"] if a.layout == layout]
    return architecture.options


@pytest.mark.parametrize("layout", ["milesial", "milesial_bilinear", "mmsegmentation"])
def test_small_nets_come_back_bit_for_bit(layout, caplog):
    options = {**options_of(layout), **SMALL, **({"aux": True} if layout == "mmsegmentation" else {})}
    model = create_model("unet", num_classes=3, **options)
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), dict(shapes(model)))
    state = to_torch("unet", drawn, layout=layout)
    assert recognize("unet", state)[0].layout == layout
    empty = jax.tree.map(jnp.zeros_like, drawn)
    with caplog.at_level(logging.WARNING, logger="cvjax.weights"):
        back = from_torch("unet", {**state, "mask_values": np.array([0, 1])} if "mile" in layout else state, empty)
    assert ("does not use mask_values" in caplog.text) == ("mile" in layout)
    jax.tree.map(np.testing.assert_array_equal, back, drawn)


def test_smp_reads_the_enlarged_map_before_the_skip():
    """Of each first convolution the inputs that see the skip are last there, and first here."""
    (architecture,) = UNETS["unet_resnet18"]
    model = create_model("unet_resnet18", num_classes=2, **architecture.options)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), dict(shapes(model)))
    skips = {0: 256, 1: 128, 2: 64, 3: 64}
    for block, channels in skips.items():
        variables["params"][f"join_{block}_0"]["conv"]["kernel"][:, :, :channels] = 1
    state = to_torch("unet_resnet18", variables, layout="smp")
    for block, channels in skips.items():
        kernel = state[f"decoder.blocks.{block}.conv1.0.weight"]
        assert not kernel[:, :-channels].any()
        assert kernel[:, -channels:].all()


def test_all_models_with_an_encoder_have_the_layout():
    assert all(pattern in UNETS for pattern in list_models(pattern="unet_*"))


def encoders():
    names = [name.removeprefix("unet_").replace("*", "50_32x4d") for name in UNETS if "unet_" in name]
    names.remove("original")
    # Those between differ from their neighbors in numbers of blocks and channels alone.
    names = [name for name in names if not re.fullmatch("efficientnet_b[3-6]", name)]
    return [pytest.param(name, marks=pytest.mark.zoo if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("encoder", encoders())
def test_every_encoder_has_names_and_skips(encoder):
    """Names are those of the table for each leaf, once each; the skips have the channels that are rolled.

    Only the encoder is built; names of decoders are the same for all, and in tests/weights/test_round_trips.py.
    """
    pattern = "unet_resnext*" if "resnext" in encoder else f"unet_{encoder}"
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    for architecture in UNETS[pattern]:
        backbone = create_model(encoder, num_classes=0, **architecture.options.get("backbone", {}))
        run = partial(backbone.init_with_output, method="features")
        maps, variables = jax.eval_shape(run, jax.random.key(0), images)
        keys = keys_of({kind: {"backbone": tree} for kind, tree in variables.items()}, architecture)
        assert None not in keys
        assert len(set(keys)) == len(keys)
        assert architecture.input_key in keys
        channels = [maps[name].shape[-1] for name in architecture.options["skips"]]
        assert list(architecture.rolled.values()) == channels[-2::-1]
        assert [64 // maps[name].shape[1] for name in architecture.options["skips"]] == [2, 4, 8, 16, 32]


def test_options_of_layouts_are_options_of_models():
    for pattern, layouts in UNETS.items():
        name = pattern if pattern in list_models() else "unet_resnet18"
        for architecture in layouts:
            assert set(architecture.options) <= set(model_options(name))
