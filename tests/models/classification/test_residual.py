"""Residual blocks: shortcuts, BatchNorm's place, gates, deformable stages; and the nets made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model

TINY = {"width": 8, "stage_sizes": (1, 2, 1, 1)}


def _images(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def _pooled(stem):
    """What ResNets' first pooling makes of the stem's map."""
    padded = jnp.pad(stem, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return jax.lax.reduce_window(padded, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def _shapes(name, **options):
    model = create_model(name, num_classes=10, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return variables["params"]


def _projections(params):
    return sorted(name for name, tree in params.items() if "downsample_conv" in tree)


def test_shortcut_options():
    first = [f"stage{stage}_0" for stage in (1, 2, 3, 4)]
    options = {"stage_sizes": (2, 2, 1, 1)}
    assert _projections(_shapes("resnet18", **options)) == first[1:]
    assert _projections(_shapes("resnet18", shortcut="A", **options)) == []
    assert _projections(_shapes("resnet18", shortcut="none", **options)) == []
    everywhere = ["stage1_0", "stage1_1", "stage2_0", "stage2_1", "stage3_0", "stage4_0"]
    assert _projections(_shapes("resnet18", shortcut="C", **options)) == everywhere


def test_option_a_takes_every_other_pixel_and_adds_zeros():
    """With branches that add nothing, what leaves a net of such blocks is the stem's output, thinned."""
    model = create_model("resnet20_cifar", num_classes=0, blocks=1, zero_gamma=True)
    images = _images(2, 9, 8, 3)
    maps, _ = jax.jit(lambda key, x: model.init_with_output(key, x, method="features"))(jax.random.key(1), images)
    np.testing.assert_array_equal(maps["stage3"][..., :16], maps["stem"][:, ::4, ::4])
    assert not maps["stage3"][..., 16:].any()


def test_plain_twins_are_the_net_without_shortcuts():
    resnet, plain = _shapes("resnet50"), _shapes("plain50")
    without = {
        name: {key: leaf for key, leaf in tree.items() if not key.startswith("downsample")}
        for name, tree in resnet.items()
    }
    assert jax.tree.map(lambda leaf: leaf.shape, without) == jax.tree.map(lambda leaf: leaf.shape, plain)
    # Zero kernels cut a plain net off, and leave a residual one its shortcuts.
    for name, passes in (("resnet20_cifar", True), ("plain20_cifar", False)):
        model = create_model(name, num_classes=0, blocks=1)
        images = _images(1, 8, 8, 3)
        params = jax.jit(model.init)(jax.random.key(1), images)
        params["params"]["stage2_0"]["conv1"]["kernel"] *= 0
        assert bool(jax.jit(model.apply)(params, images).any()) == passes


@pytest.mark.slow
def test_norm_after_the_addition_normalizes_the_sum():
    model = create_model("resnet18", num_classes=0, norm_after=True, **TINY)
    images = _images(8, 32, 32, 3)
    variables = jax.jit(model.init)(jax.random.key(1), images)
    maps, _ = jax.jit(lambda v, x: model.apply(v, x, True, method="features", mutable=["batch_stats"]))(
        variables, images
    )
    # relu of a normalized sum: half the mass of a standard normal, whose mean is 0.4.
    before = jax.jit(
        lambda v, x: create_model("resnet18", num_classes=0, **TINY).apply(
            v, x, True, method="features", mutable=["batch_stats"]
        )[0]
    )(variables, images)
    assert jnp.abs(maps["stage2"].mean((0, 1, 2)) - 0.4).max() < 0.1
    assert jnp.abs(before["stage2"].mean((0, 1, 2)) - 0.4).max() > 0.1


@pytest.mark.slow
def test_folded_norms_are_the_same_net():
    images = _images(8, 64, 64, 3)
    results = []
    for fold_norms in (False, True):
        model = create_model("resnet50", num_classes=3, width=8, stage_sizes=(1, 1, 1, 1), fold_norms=fold_norms)
        variables = jax.jit(model.init)(jax.random.key(1), images)

        def loss(params, model=model, variables=variables):
            logits, new = model.apply({**variables, "params": params}, images, True, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(logits)), (logits, new)

        results.append((variables, jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])))
    for want, got in zip(*map(jax.tree.leaves, results)):
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize(
    ("name", "modulated"), [("resnet18", False), pytest.param("resnet50", True, marks=pytest.mark.slow)]
)
def test_deformable_stages_start_as_the_plain_net(name, modulated):
    tiny = {"width": 8, "stage_sizes": (1, 1, 1, 1), "num_classes": 3, "output_stride": 16}
    plain = create_model(name, **tiny)
    bent = create_model(name, deformable=(3, 4), modulated=modulated, **tiny)
    images = _images(1, 48, 48, 3)
    variables = jax.jit(bent.init)(jax.random.key(1), images)
    offsets = [path for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"]) if "offset" in str(path)]
    assert {path[0].key for path in offsets} == {"stage3_0", "stage4_0"}
    stripped = jax.tree.map(lambda leaf: leaf, variables)
    for stage in ("stage3_0", "stage4_0"):
        del stripped["params"][stage]["conv2"]["offset"]
    np.testing.assert_allclose(
        jax.jit(bent.apply)(variables, images), jax.jit(plain.apply)(stripped, images), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_deformable_offsets_learn():
    model = create_model("resnet18", num_classes=3, deformable=(4,), **TINY)
    images = _images(2, 64, 64, 3)
    variables = jax.jit(model.init)(jax.random.key(1), images)

    def loss(params):
        return (model.apply({**variables, "params": params}, images) ** 2).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    assert gradients["stage4_0"]["conv2"]["offset"]["kernel"].any()


def test_attention_can_be_read_out():
    model = create_model("seresnet18", num_classes=3, **TINY)
    images = _images(2, 32, 32, 3)
    variables = jax.jit(model.init)(jax.random.key(1), images)
    _, state = jax.jit(lambda v, x: model.apply(v, x, mutable=["intermediates"]))(variables, images)
    attention = {name: tree["squeeze_excite"]["attention"][0] for name, tree in state["intermediates"].items()}
    assert {name: a.shape for name, a in attention.items()} == {
        "stage1_0": (2, 8), "stage2_0": (2, 16), "stage2_1": (2, 16), "stage3_0": (2, 32), "stage4_0": (2, 64)
    }  # fmt: skip
    assert all(((a > 0) & (a < 1)).all() for a in attention.values())
    assert jnp.abs(attention["stage4_0"][0] - attention["stage4_0"][1]).max() > 0  # of each image its own


def test_gates_close_the_branch():
    """With attention at zero a gated net is its shortcuts."""
    gated = create_model("seresnet18", num_classes=0, width=8, stage_sizes=(1, 1, 1, 1))
    images = _images(1, 32, 32, 3)
    variables = jax.jit(gated.init)(jax.random.key(1), images)
    for name, tree in variables["params"].items():
        if name.startswith("stage"):
            tree["squeeze_excite"]["expand"]["bias"] -= 100.0
    maps = jax.jit(lambda v, x: gated.apply(v, x, method="features"))(variables, images)
    np.testing.assert_allclose(maps["stage1"], _pooled(maps["stem"]), atol=1e-6)


def test_squeeze_excite_can_be_added_to_any_residual_net():
    bare, gated = _shapes("resnext50_32x4d"), _shapes("resnext50_32x4d", squeeze_excite=16)
    assert all(("squeeze_excite" in tree) == name.startswith("stage") for name, tree in gated.items())
    assert not any("squeeze_excite" in tree for tree in bare.values())
    small = _shapes("resnet20_cifar", squeeze_excite=4)
    assert small["stage3_2"]["squeeze_excite"]["reduce"]["kernel"].shape == (1, 1, 64, 16)
    assert not any("squeeze_excite" in tree for tree in _shapes("resnet20_cifar").values())


@pytest.mark.slow
def test_version_2_keeps_its_shortcuts_clean():
    """Branches that add nothing leave what entered the first stage, without a rectifier on the way."""
    model = create_model("resnetv2_18", num_classes=0, width=8, stage_sizes=(3, 1, 1, 1))
    images = _images(1, 32, 32, 3)
    variables = jax.jit(model.init)(jax.random.key(1), images)
    for block in range(3):
        variables["params"][f"stage1_{block}"]["conv2"]["kernel"] *= 0
    maps = jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, images)
    assert maps["stage1"].min() < 0
    np.testing.assert_array_equal(maps["stage1"], _pooled(maps["stem"]))


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"shortcut": "D"}, "A, B, C"),
        ({"shortcut": "none", "zero_gamma": True}, "leave it out"),
        ({"deformable": (5,)}, "1 to 4"),
        ({"fold_norms": True}, "needs bottlenecks"),
    ],
)
def test_impossible_options(options, fix):
    with pytest.raises(ConfigError, match=fix):
        create_model("resnet18", num_classes=2, **options).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
