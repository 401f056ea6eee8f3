"""GoogLeNet: inception blocks, classifiers that only training sees, poolings that round up."""

import jax
import jax.numpy as jnp
import pytest

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.classification.googlenet import ConvReLU, Inception


def _variables(model, size=64):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return images, jax.eval_shape(model.init, jax.random.key(0), images)


def test_auxiliary_classifiers_exist_in_training_only():
    model = create_model("googlenet_original", num_classes=7)
    images, variables = _variables(model)
    train = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=True, rngs={"dropout": jax.random.key(0)}), variables, images
    )
    assert {name: logit.shape for name, logit in train[1].items()} == {"aux1": (2, 7), "aux2": (2, 7)}
    bare = create_model("googlenet_original", num_classes=7, aux=False)
    operations = [len(jax.make_jaxpr(net.apply)(variables, images).eqns) for net in (model, bare)]
    assert operations[0] == operations[1] > 100


def test_without_them_nothing_else_changes():
    full, bare = (create_model("googlenet", num_classes=1000, aux=aux) for aux in (True, False))
    (_, with_aux), (_, without) = _variables(full), _variables(bare)
    assert sum(leaf.size for leaf in jax.tree.leaves(without["params"])) == 6_624_904  # torchvision's
    kept = {name: tree for name, tree in with_aux["params"].items() if not name.startswith("aux")}
    assert jax.tree.structure(kept) == jax.tree.structure(without["params"])


@pytest.mark.parametrize("name", ["googlenet", "googlenet_original"])
def test_maps_have_the_published_sizes(name):
    model = create_model(name, num_classes=0)
    images, variables = _variables(model, 224)
    maps = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, images)
    sizes = {"conv1": 112, "conv3": 56, "inception3a": 28, "inception3b": 28, "inception4e": 14, "inception5b": 7}
    assert {key: maps[key].shape[1] for key in sizes} == sizes
    assert [maps[f"inception{key}"].shape[-1] for key in ("3a", "3b", "4a", "4e", "5b")] == [256, 480, 512, 832, 1024]


def test_reduction_is_what_makes_a_block_cheap():
    x = jax.ShapeDtypeStruct((1, 14, 14, 480), jnp.float32)

    def size(**options):
        block = Inception((192, 96, 208, 16, 48, 64), ConvReLU, **options)
        y, variables = jax.eval_shape(lambda key, x: block.init_with_output(key, x, False), jax.random.key(0), x)
        return y.shape[-1], sum(leaf.size for leaf in jax.tree.leaves(variables))

    (narrow, few), (wide, many) = size(), size(naive=True)
    assert (narrow, wide) == (512, 192 + 208 + 48 + 480)
    kernels = [(1, 480, 192), (1, 480, 96), (9, 96, 208), (1, 480, 16), (25, 16, 48), (1, 480, 64)]
    assert few == sum((taps * channels + 1) * features for taps, channels, features in kernels)
    assert many > 3.5 * few


@pytest.mark.slow
def test_auxiliary_losses_reach_early_blocks_alone():
    model = create_model("googlenet_original", num_classes=3, aux_dropout=0.0, dropout=0.0)
    images = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)

    def loss(params):
        return model.apply({"params": params}, images, train=True)[1]["aux1"].var()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    reached = {name for name, tree in gradients.items() if any(leaf.any() for leaf in jax.tree.leaves(tree))}
    early = {"conv1", "conv2", "conv3", "inception3a", "inception3b", "inception4a", "aux1"}
    assert reached == early


def test_too_small_images():
    with pytest.raises(ConfigError, match="15x15"):
        create_model("googlenet", num_classes=2).init(jax.random.key(0), jnp.zeros((1, 14, 14, 3)))


def test_fewer_blocks_are_the_first_of_each_stage():
    """The others keep their layers; the second auxiliary classifier sits on the last block that is left."""
    model = create_model("googlenet_original", num_classes=7, width=0.25, stage_sizes=(1, 2, 1))
    images, variables = _variables(model)
    blocks = [name for name in variables["params"] if name.startswith("inception")]
    assert sorted(blocks) == ["inception3a", "inception4a", "inception4b", "inception5a"]
    _, auxiliary = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=True, rngs={"dropout": jax.random.key(0)}), variables, images
    )
    assert auxiliary["aux2"].shape == (2, 7)
    whole = create_model("googlenet_original", num_classes=7, width=0.25)
    kernels = [_variables(net)[1]["params"]["aux2"]["conv"]["conv"]["kernel"].shape[2] for net in (model, whole)]
    assert kernels == [(160 + 224 + 64 + 64) / 4, (112 + 288 + 64 + 64) / 4]  # channels of 4b and of 4d


@pytest.mark.parametrize("sizes", [(2, 5, 3), (2, 0, 2)])
def test_stages_have_the_papers_blocks_or_fewer(sizes):
    with pytest.raises(ConfigError, match="1 to 2, 1 to 5 and 1 to 2"):
        _variables(create_model("googlenet", num_classes=7, width=0.1, stage_sizes=sizes))
