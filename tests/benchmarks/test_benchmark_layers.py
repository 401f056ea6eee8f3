"""Cases of the layers' benchmark: their names, how each side builds them, and the layers that models consist of."""

import dataclasses
import json

import flax.linen
import jax
import jax.numpy as jnp
import layer_sides
import layers
import numpy as np
import pytest
import stock
from layer_sides import Layer

import cvjax.nn

SMALL = (
    Layer("conv", (5, 6, 8), 4, (3, 3), (2, 2), ((1, 1), (1, 1))),
    Layer("conv", (5, 6, 8), 8, (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), groups=8),
    Layer("conv", (5, 6, 8), 16, (3, 3), (1, 1), ((1, 0), (0, 1)), groups=4),
    Layer("conv", (5, 6, 8), 16, (1, 1)),
    Layer("resize", (5, 6, 3), window=(9, 11)),
)


def test_names_tell_all_layers_apart():
    named = [layers.name_of(layer) for layer in (*layers.LAYERS, *SMALL)]
    assert len(set(named)) == len(named)
    assert "depthwise 3x3 stride 2, 112x112x96" in named
    assert "3x3 in 32 groups, 28x28x256 to 256" in named
    assert "transposed 64x64 stride 32, 7x7x21 to 21" in named
    assert "max-pool 3x3 stride 2, 112x112x64" in named
    assert "bilinear resize, 33x33x21 to 513x513" in named
    assert "3x3 in 4 groups padded 1+0, 0+1, 5x6x8 to 16" in named


@pytest.mark.parametrize("layer", [*layers.LAYERS, *SMALL], ids=layers.name_of)
def test_layers_survive_the_pipe(layer):
    assert Layer.from_json(json.loads(json.dumps(dataclasses.asdict(layer)))) == layer


@pytest.mark.parametrize("layer", layers.LAYERS, ids=layers.name_of)
def test_flax_has_every_case_with_the_shape_meant(layer):
    x, kernel = (None if a is None else jax.ShapeDtypeStruct(a.shape, a.dtype) for a in layer_sides.arrays(layer, 1))
    output = jax.eval_shape(layer_sides.jax_function(layer, flax.linen, jnp.float32), x, kernel)
    if layer.kind == "resize":
        expected = layer.window
    elif layer.kind == "conv_transpose":
        expected = [side * stride for side, stride in zip(layer.shape, layer.strides)]
    else:
        expected = [-(-side // stride) for side, stride in zip(layer.shape, layer.strides)]
    assert output.shape[1:3] == tuple(expected)


@pytest.mark.parametrize("layer", SMALL, ids=layers.name_of)
def test_sides_agree_on_output_and_gradients(layer):
    case = {"layer": dataclasses.asdict(layer), "mode": "gradients", "batch": 2, "dtype": "float32"}
    ours, theirs = (layer_sides.prepare_jax(case, side).values for side in ("cvjax-plain", "flax"))
    expected = ["output", "input gradient", "kernel gradient"]
    assert list(ours) == (expected[:2] if layer.kind == "resize" else expected)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=1e-4)


def test_forward_computes_the_output_alone():
    case = {"layer": dataclasses.asdict(SMALL[0]), "mode": "forward", "batch": 2, "dtype": "float32"}
    work = layer_sides.prepare_jax(case, "flax")
    assert {name: value.shape for name, value in work.values.items()} == {"output": (2, 3, 3, 4)}
    np.testing.assert_array_equal(work.wait(work.step())[0], work.values["output"])


@pytest.mark.parametrize("layer", [SMALL[0], Layer("conv_transpose", (3, 3, 2), 5, (4, 4), (2, 2))])
def test_weights_to_torch_and_back(layer):
    kernel = layer_sides.arrays(layer, 1)[1]
    weight = layer_sides.torch_weight(layer, kernel)
    assert weight.shape[:2] == ((2, 5) if layer.kind == "conv_transpose" else (4, 8))
    np.testing.assert_array_equal(layer_sides.flax_kernel(layer, weight), kernel)


@pytest.mark.parametrize("mode", ["forward", "gradients"])
@pytest.mark.parametrize("layer", [layer for layer in layers.LAYERS if layer.shape[0] < 30], ids=layers.name_of)
def test_torch_computes_the_same(layer, mode):
    pytest.importorskip("torch")
    case = {"layer": dataclasses.asdict(layer), "mode": mode, "batch": 1, "dtype": "float32"}
    ours, theirs = layer_sides.prepare_jax(case, "flax").values, layer_sides.prepare_torch(case).values
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, atol=1e-3)


def test_stock_layers_are_flaxs_while_the_context_lasts():
    def primitives():
        x = jnp.ones((1, 4, 4, 8))
        model = cvjax.nn.ConvBNReLU(8, groups=8)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        return str(jax.make_jaxpr(model.apply)(variables, x))

    ours = primitives()
    with stock.stock_layers():
        theirs = primitives()
    assert "feature_group_count=8" in theirs
    assert ours != theirs
    assert primitives() == ours


def test_layers_of_reads_shapes_from_the_operations():
    padding = ((1, 1), (1, 1))

    def net(x):
        x = flax.linen.Conv(6, (3, 3), 2, padding, kernel_dilation=1, name="a")(x)
        x = flax.linen.Conv(6, (3, 3), 1, padding, feature_group_count=3, name="b")(x)
        x = flax.linen.max_pool(x, (3, 2), (2, 1), ((1, 1), (0, 1)))
        x = flax.linen.ConvTranspose(4, (4, 4), (2, 2), name="c")(x)
        return flax.linen.avg_pool(x, (2, 2), (2, 2))

    module = type("Net", (flax.linen.Module,), {"__call__": flax.linen.compact(lambda self, x: net(x))})()
    x = jax.ShapeDtypeStruct((2, 9, 8, 3), jnp.float32)
    with jax.numpy_dtype_promotion("standard"):  # Flax's average divides floats by integers
        found = stock.layers_of(lambda x: module.init_with_output(jax.random.key(0), x)[0], x)
    assert found == [
        Layer("conv", (9, 8, 3), 6, (3, 3), (2, 2), padding),
        Layer("conv", (5, 4, 6), 6, (3, 3), (1, 1), padding, groups=3),
        Layer("max_pool", (5, 4, 6), 0, (3, 2), (2, 1), ((1, 1), (0, 1))),
        Layer("conv_transpose", (3, 4, 6), 4, (4, 4), (2, 2), ((2, 2), (2, 2))),
        Layer("avg_pool", (6, 8, 4), 0, (2, 2), (2, 2)),
    ]


def test_zoo_counts_who_has_a_layer():
    found = layers.zoo(["resnet18", "resnet34"], 64)
    by_name = {layers.name_of(layer): models for layer, models in found.items()}
    assert by_name["7x7 stride 2, 64x64x3 to 64"] == ["resnet18", "resnet34"]
    assert by_name["max-pool 3x3 stride 2, 32x32x64"] == ["resnet18", "resnet34"]
    assert len(by_name) == 12  # stem, pool, one layer of stage 1, three of each further stage
    assert layers.zoo(["resnet18"], 64).keys() == found.keys()


def test_write_names_the_worst_and_the_missing():
    hello = {"versions": {"jax": "1"}, "device": "cpu"}
    machine = {"processor": "P", "cores": 2, "threads": 2, "contestants": {"cvjax": hello, "flax": hello}}
    settings = {"title": "Layers", "batch": 4, "dtype": "float32", "rounds": 3}
    rows = [
        _row("a", {"cvjax": [1.0, 2.0, 3.0], "flax": [2.0, 4.0, 6.0]}),
        _row("b", {"cvjax": [1.0, 1.0, 1.0], "flax": [0.5, 0.9, 1.0]}),
        _row("c", {"flax": [1.0, 1.0, 1.0]}, {"cvjax": "no such layer"}),
    ]
    text = layers.write({"machine": machine, "settings": settings, "rows": rows})
    assert "| a | forward | 2000 | 4000 | 2.00 |" in text
    assert "| c | forward | - | 1000 | - |" in text
    assert "flax / cvjax: worst 0.900 at b (forward)" in text
    assert "Without cvjax: c (forward): no such layer." in text


def _row(name, times, absent=None):
    seconds = {side: sorted(mine)[1] for side, mine in times.items()}
    return {"case": name, "mode": "forward", "times": times, "seconds": seconds, "absent": absent or {}}
