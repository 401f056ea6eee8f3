"""Convolution equals XLA's own in values and derivatives, and holds the lowering of the platform it is exported for."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import export, lax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cvjax.ops import primitives
from cvjax.ops.conv import conv2d, conv_general_dilated
from cvjax.ops.cpu import conv as conv_cpu
from cvjax.ops.cpu import grouped, instructions, narrowing
from cvjax.ops.cpu import onednn as onednn_module
from cvjax.ops.geometry import Geometry
from cvjax.runtime.compiler import compiled


@contextmanager
def _compilation_cache(**options):
    """JAX's persistent cache under other options."""

    def configure(values):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    before = {name: getattr(jax.config, name) for name in options}
    configure(options)
    try:
        yield
    finally:
        configure(before)


@pytest.fixture(scope="module", autouse=True)
def _libraries_may_be_called():
    """As for a user: other tests' programs are stored, and programs that go into the cache may not call oneDNN."""
    onednn_module.forget()
    with (
        mock.patch.dict("os.environ"),
        _compilation_cache(jax_enable_compilation_cache=False),
    ):
        os.environ.pop("CVJAX_ONEDNN", None)
        yield
    onednn_module.forget()


def _stock(x, kernel, strides=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), input_dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        lhs_dilation=input_dilation,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _reference(x, kernel, padding=((0, 0), (0, 0)), input_dilation=(1, 1), **options):
    """Stock on maps that are spread and padded beforehand.

    Where its own padding is negative on one side it reads beside the map on CPU (jaxlib 0.10.2). So does its gradient
    where padding reaches beyond the kernel.
    """
    edges = [(*pads, step - 1) for pads, step in zip(padding, input_dilation)]
    return _stock(lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0))), kernel, **options)


def _arrays(x_shape, kernel_shape, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (x_shape, kernel_shape))


def _assert_close(got, expected, tolerance=1e-5):
    """Equal within a part of the largest element, tree by tree."""

    def check(a, b):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = float(jnp.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, atol=tolerance * max(scale, 1e-3), rtol=0)

    jax.tree.map(check, got, expected)


def _faces(conv):
    """The value and both gradients, for a cotangent that differs everywhere."""

    def run(x, kernel):
        y, pull = jax.vjp(conv, x, kernel)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return jax.jit(run)


def _assert_equals_stock(x_shape, kernel_shape, **options):
    """As programs of this process compute it, with thresholds of size left out, and as exported programs do."""
    x, kernel = _arrays(x_shape, kernel_shape)
    ours, expected = partial(conv2d, **options), _faces(partial(_reference, **options))(x, kernel)
    anything = mock.patch.multiple(onednn_module, _FEW_PIXELS=0, _LONG_STRIDE=99, FEW_ROWS=0, _MANY_ROWS=20)
    with anything, mock.patch.multiple(conv_cpu, _MANY_CHANNELS=0, _MANY_PIXELS=0):
        _assert_close(_faces(ours)(x, kernel), expected)
    with mock.patch.object(primitives, "_is_local", return_value=False):
        _assert_close(_faces(ours)(x, kernel), expected)


KINDS = {
    "dense": ((2, 7, 9, 3), (3, 3, 3, 5), {"padding": ((1, 1), (1, 1))}),
    "dense to few channels": ((2, 6, 7, 64), (3, 3, 64, 5), {"padding": ((1, 1), (1, 1))}),
    "dense to few channels, uneven": ((3, 6, 5, 65), (2, 3, 65, 2), {"padding": ((2, 0), (-1, 3))}),
    "dense strided": ((2, 8, 9, 3), (3, 3, 3, 5), {"strides": (2, 2), "padding": ((1, 1), (1, 1))}),
    "picture to features, strided": ((2, 11, 12, 3), (7, 7, 3, 4), {"strides": (2, 2), "padding": ((3, 3), (3, 3))}),
    "patches": ((2, 16, 19, 3), (8, 8, 3, 4), {"strides": (8, 8)}),
    "large stride, padded": ((2, 17, 15, 3), (11, 11, 3, 4), {"strides": (4, 4), "padding": ((2, 2), (2, 2))}),
    "pointwise": ((2, 5, 6, 4), (1, 1, 4, 7), {}),
    "pointwise strided": ((2, 5, 6, 4), (1, 1, 4, 7), {"strides": (2, 3), "padding": ((1, 0), (0, 2))}),
    "wide dilation": ((2, 6, 5, 3), (3, 3, 3, 4), {"dilation": (4, 4), "padding": ((4, 4), (4, 4))}),
    "taps that never meet the map": ((2, 2, 3, 3), (3, 3, 3, 4), {"dilation": (5, 4), "padding": ((5, 5), (4, 4))}),
    "depthwise": ((2, 6, 8, 5), (3, 3, 1, 5), {"groups": 5, "padding": ((1, 1), (1, 1))}),
    "depthwise 5x5, odd width": ((2, 9, 11, 3), (5, 5, 1, 3), {"groups": 3, "padding": ((2, 2), (2, 2))}),
    "depthwise, prime width": ((1, 4, 19, 3), (3, 3, 1, 3), {"groups": 3, "padding": ((1, 1), (1, 1))}),
    "depthwise strided": ((2, 9, 8, 3), (3, 3, 1, 3), {"groups": 3, "strides": (2, 2), "padding": ((1, 1), (0, 1))}),
    "depthwise dilated": ((2, 9, 8, 3), (3, 3, 1, 3), {"groups": 3, "dilation": (2, 3), "padding": ((2, 2), (3, 3))}),
    "depthwise, several outputs a channel": ((2, 6, 7, 3), (3, 3, 1, 6), {"groups": 3}),
    "grouped": ((2, 6, 7, 8), (3, 3, 2, 12), {"groups": 4, "padding": ((1, 1), (1, 1))}),
    "grouped strided": ((2, 6, 7, 8), (3, 3, 2, 12), {"groups": 4, "strides": (2, 2)}),
    "many groups": ((1, 4, 4, 80), (3, 3, 2, 40), {"groups": 40}),
    "grouped pointwise": ((2, 4, 3, 6), (1, 1, 3, 4), {"groups": 2}),
    "transposed": ((2, 4, 5, 3), (4, 4, 3, 12), {"input_dilation": (2, 2), "padding": ((2, 2), (2, 2))}),
    "transposed, all phases at once": (
        (2, 3, 2, 3),
        (8, 8, 3, 5),
        {"input_dilation": (4, 4), "padding": ((5, 5), (4, 6))},
    ),
    "transposed, gaps": ((2, 3, 2, 3), (2, 2, 3, 5), {"input_dilation": (3, 3), "padding": ((1, 1), (2, 1))}),
    "transposed, grouped": ((2, 4, 5, 4), (3, 3, 2, 6), {"input_dilation": (2, 1), "groups": 2}),
    "transposed, depthwise": ((2, 4, 5, 4), (3, 3, 1, 4), {"input_dilation": (2, 2), "groups": 4}),
    "strided over spread pixels": ((2, 5, 5, 3), (3, 3, 3, 2), {"input_dilation": (2, 2), "strides": (3, 3)}),
    "one pixel": ((2, 1, 1, 3), (3, 3, 3, 4), {"padding": ((1, 1), (1, 1))}),
    "cropped": ((2, 7, 7, 3), (3, 3, 3, 2), {"padding": ((-1, 0), (0, -2))}),
    "cropped on one side, padded on the other": ((1, 5, 3, 4), (2, 1, 4, 2), {"padding": ((0, 0), (-1, 1))}),
    "phases that are cropped": (
        (1, 5, 3, 4),
        (3, 2, 4, 2),
        {"input_dilation": (4, 2), "dilation": (2, 1), "padding": ((0, 0), (0, 2))},
    ),
    "padded beyond the kernel": ((1, 1, 2, 2), (2, 2, 2, 2), {"padding": ((2, 0), (1, 1))}),
    "cropped away": ((1, 3, 3, 4), (3, 3, 2, 4), {"padding": ((-3, 4), (2, 2)), "groups": 2}),
    "cropped beyond the map": ((1, 2, 2, 4), (2, 2, 2, 4), {"padding": ((-3, 4), (5, -4)), "groups": 2}),
    "strides that see nothing": (
        (1, 1, 1, 4),
        (1, 1, 2, 4),
        {"strides": (2, 2), "padding": ((1, 0), (1, 0)), "groups": 2},
    ),
    "empty batch": ((0, 5, 5, 4), (3, 3, 2, 4), {"groups": 2}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_equals_stock(kind):
    x_shape, kernel_shape, options = KINDS[kind]
    _assert_equals_stock(x_shape, kernel_shape, **options)


SWEEP = {
    "batch": st.integers(0, 2),
    "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "kernel": st.tuples(st.integers(1, 5), st.integers(1, 3)),
    "step": st.tuples(st.integers(1, 5), st.integers(1, 3)),
    "spread": st.booleans(),
    "dilation": st.tuples(st.integers(1, 3), st.integers(1, 2)),
    "pads": st.tuples(*[st.integers(-1, 4)] * 4),
    "groups": st.integers(1, 4),
    "inside": st.integers(1, 3),
    "outside": st.integers(1, 3),
}


def _sweep(batch, size, kernel, step, spread, dilation, pads, groups, inside, outside):
    padding = (pads[:2], pads[2:])
    input_dilation, strides = (step, (1, 1)) if spread else ((1, 1), step)
    reached = [(n - 1) * d + 1 + sum(p) for n, d, p in zip(size, input_dilation, padding)]
    assume(all(n >= (k - 1) * d + 1 for n, k, d in zip(reached, kernel, dilation)))
    _assert_equals_stock(
        (batch, *size, groups * inside),
        (*kernel, inside, groups * outside),
        strides=strides,
        padding=padding,
        dilation=dilation,
        input_dilation=input_dilation,
        groups=groups,
    )


@given(**SWEEP)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_values_and_gradients_equal_stock(**drawn):
    _sweep(**drawn)


@pytest.mark.slow
@given(**SWEEP)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_values_and_gradients_equal_stock_wherever_one_looks(**drawn):
    _sweep(**drawn)


OPTIONS = {"strides": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (1, 2), "groups": 2}
SHAPES = ((4, 5, 6, 4), (3, 2, 2, 6))


def _loss(conv):
    return lambda x, kernel: jnp.sin(conv(x, kernel, **OPTIONS)).sum()


def test_derivatives_of_all_orders_equal_stocks():
    x, kernel = _arrays(*SHAPES)
    directions = _arrays(*SHAPES, seed=1)

    def forward(conv):
        return jax.jvp(partial(conv, **OPTIONS), (x, kernel), directions)

    def forward_over_reverse(conv):
        return jax.jvp(jax.grad(_loss(conv), (0, 1)), (x, kernel), directions)

    def reverse_over_reverse(conv):
        def norm(x, kernel):
            return sum((g**2).sum() for g in jax.grad(_loss(conv), (0, 1))(x, kernel))

        return jax.grad(jax.checkpoint(norm), (0, 1))(x, kernel)

    for derivative in (forward, forward_over_reverse, reverse_over_reverse):
        ours, xla = (jax.jit(partial(derivative, conv))() for conv in (conv2d, _stock))
        _assert_close(ours, xla)


def test_hessian_of_the_kernel():
    x, kernel = _arrays((1, 3, 3, 2), (2, 2, 2, 2))

    def hessian(conv):
        return jax.jit(jax.hessian(lambda kernel: jnp.sin(conv(x, kernel)).sum()))(kernel)

    _assert_close(hessian(conv2d), hessian(_stock))


@pytest.mark.parametrize("axes", [(0, None), (None, 1), (2, 0)])
@pytest.mark.parametrize("groups", [1, 2])
def test_vmap_over_either_or_both(axes, groups):
    arrays = _arrays((2, 5, 4, 4), (3, 2, 4 // groups, 6))
    more = [a if axis is None else jnp.stack([a, a * 2 - 1, a**2], axis) for a, axis in zip(arrays, axes)]

    def mapped(conv):
        def each(x, kernel):
            def loss(x, kernel):
                return jnp.sin(conv(x, kernel, strides=(1, 2), groups=groups)).sum()

            return jax.value_and_grad(loss, (0, 1))(x, kernel)

        return jax.jit(jax.vmap(each, axes))(*more)

    _assert_close(mapped(conv2d), mapped(_stock))


def test_per_device_programs_and_sharded_arrays():
    x, kernel = _arrays(*SHAPES)
    gradient, expected = jax.grad(_loss(conv2d), (0, 1)), jax.grad(_loss(_stock), (0, 1))(x, kernel)
    data, everywhere = PartitionSpec("data"), PartitionSpec()
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    # The kernel does not vary over the devices, so its gradient is summed over them.
    mapped = jax.shard_map(gradient, mesh=mesh, in_specs=(data, everywhere), out_specs=(data, everywhere))
    _assert_close(jax.jit(mapped)(x, kernel), expected)
    spread = jax.device_put(x, NamedSharding(mesh, data))
    result = jax.jit(gradient)(spread, kernel)
    _assert_close(result, expected)
    per_device = jax.pmap(lambda x, k: lax.psum(gradient(x, k)[1], "data"), "data", in_axes=(0, None))
    _assert_close(per_device(x[:, None], kernel)[0], expected[1])

    typed = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(typed):
        arrays = jax.device_put(x, NamedSharding(typed, data)), jax.device_put(kernel, NamedSharding(typed, everywhere))
        _assert_close(jax.jit(gradient)(*arrays), expected)


PLATFORM_CASES = {
    "pointwise": ((1, 1, 8, 16), {}),
    "depthwise": ((3, 3, 1, 8), {"groups": 8}),
    "wide dilation": ((3, 3, 8, 8), {"dilation": (6, 6), "padding": ((6, 6), (6, 6))}),
    "large transposed": ((8, 8, 8, 8), {"input_dilation": (4, 4), "padding": ((7, 7), (7, 7))}),
}


@pytest.mark.parametrize("case", PLATFORM_CASES)
def test_exported_programs_hold_the_lowering_of_their_platform(case):
    kernel_shape, options = PLATFORM_CASES[case]
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 8, 8, 8), kernel_shape)]

    def texts(conv, platform):
        """StableHLO of the value, and of the value with both gradients, without the names in it."""
        programs = (jax.jit(partial(conv, **options)), _faces(partial(conv, **options)))
        return [export.export(p, platforms=[platform])(*shapes).mlir_module() for p in programs]

    for platform in ("tpu", "cuda"):
        value, gradients = (text.count("stablehlo.convolution") for text in texts(conv2d, platform))
        assert (value, gradients) == (1, 3)
    value, gradients = texts(conv2d, "cpu")
    if case == "large transposed":
        # Folded, so that nothing is spread: XLA's convolution would be told of `lhs_dilate`.
        assert "lhs_dilate = [4, 4]" in texts(_stock, "cpu")[0]
        assert "lhs_dilate = [4, 4]" not in value + gradients
    else:
        assert "stablehlo.convolution" not in value + gradients
        assert ("stablehlo.dot_general" in gradients) == (case != "depthwise")


@pytest.fixture
def onednn():
    if not onednn_module.is_available():
        pytest.skip("this jaxlib has no oneDNN, or another")


@pytest.mark.usefixtures("onednn")
def test_onednn_is_called_only_by_programs_of_this_process():
    x, kernel = _arrays((4, 16, 16, 32), (3, 3, 4, 32))
    convolve = jax.jit(partial(conv2d, groups=8))

    def calls(program, *arrays):
        return "__onednn$convolution" in program.lower(*arrays).as_text()

    assert calls(convolve, x, kernel)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    data, everywhere = PartitionSpec("data"), PartitionSpec()
    assert not calls(convolve, jax.device_put(x, NamedSharding(mesh, data)), kernel)  # XLA splits this one
    mapped = jax.shard_map(partial(conv2d, groups=8), mesh=mesh, in_specs=(data, everywhere), out_specs=data)
    assert calls(jax.jit(mapped), x, kernel)
    assert "__onednn" not in export.export(convolve, platforms=["cpu"])(x, kernel).mlir_module()
    assert "__onednn" not in convolve.trace(x, kernel).lower(lowering_platforms=("tpu",)).as_text()


@pytest.fixture
def stored(tmp_path):
    """A function that counts the stored programs of a name, while every program is stored that may be."""
    with _compilation_cache(
        jax_enable_compilation_cache=True,
        jax_compilation_cache_dir=str(tmp_path),
        jax_persistent_cache_min_compile_time_secs=0,
        jax_persistent_cache_min_entry_size_bytes=-1,
    ):
        yield lambda name: len([path for path in tmp_path.iterdir() if path.name.startswith(f"jit_{name}-")])


@pytest.mark.filterwarnings("error")
def test_jax_can_store_the_programs(stored):
    x, kernel = _arrays((4, 16, 16, 32), (3, 3, 4, 32))
    with _compilation_cache(jax_enable_compilation_cache=False):
        here = _faces(partial(conv2d, groups=8))(x, kernel)
    _assert_close(_faces(partial(conv2d, groups=8))(x, kernel), here)
    assert stored("run")


@pytest.mark.usefixtures("onednn")
@pytest.mark.filterwarnings("error")
def test_programs_with_onednn_are_passed_over_while_others_are_stored(stored):
    """The cache is on, and what `compiled` made calls oneDNN none the less, forward and backward."""
    x, kernel = _arrays((4, 28, 29, 48), (3, 3, 48, 64))

    def loss(x, kernel):
        return jnp.sin(conv2d(x, kernel, padding=((1, 1), (1, 1)), strides=(2, 1))).sum()

    def with_library(x, kernel):
        return jax.value_and_grad(loss, (0, 1))(x, kernel)

    def without(x, kernel):
        return jax.value_and_grad(loss, (0, 1))(x, kernel)

    calls = []
    with mock.patch.object(onednn_module, "convolve", side_effect=onednn_module.convolve) as call:
        ours = compiled(with_library)(x, kernel)
        calls.append(call.call_count)
        plain = jax.jit(without)(x, kernel)
        calls.append(call.call_count)
    assert calls == [3, 3]  # forward, and for each phase of the gradient
    assert stored("with_library") == 0
    assert stored("without") == 1
    for got, right in zip(jax.tree.leaves(ours), jax.tree.leaves(plain)):
        _assert_close(got, right)


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("groups", [1, 8])
def test_onednn_at_the_sizes_of_nets(groups):
    x, kernel = _arrays((4, 28, 29, 24), (3, 3, 24 // groups, 40))
    options = {"padding": ((1, 1), (1, 1)), "groups": groups}
    for strides in ((1, 1), (2, 2)):
        ours, xla = (_faces(partial(conv, strides=strides, **options)) for conv in (conv2d, _stock))
        assert "__onednn$convolution" in ours.lower(x, kernel).as_text()
        _assert_close(ours(x, kernel), xla(x, kernel))


def _is_available(change):
    with change:
        onednn_module.forget()
        try:
            if not onednn_module.is_available():
                _assert_equals_stock((2, 6, 7, 8), (3, 3, 2, 12), groups=4, strides=(2, 1))
            return onednn_module.is_available()
        finally:
            onednn_module.forget()


@pytest.mark.usefixtures("onednn")
def test_onednn_is_known_by_its_values():
    ours = onednn_module.convolve

    def one_is_wrong(wrong):
        def convolve(x, kernel, geometry, *, swapped=False):
            case = "grouped" if geometry.groups > 1 else "gradient" if swapped else "forward"
            return ours(x, kernel, geometry, swapped=swapped) * (1.01 if case == wrong else 1.0)

        return mock.patch.object(onednn_module, "convolve", convolve)

    assert _is_available(one_is_wrong(None))
    onednn_module.forget()
    x, kernel = _arrays((4, 28, 29, 24), (3, 3, 24, 40))
    assert "__onednn$convolution" in jax.jit(conv2d).lower(x, kernel).as_text()  # tried while a program is traced
    for case in ("forward", "gradient", "grouped"):
        assert not _is_available(one_is_wrong(case))
    assert not _is_available(mock.patch.object(onednn_module, "_CONVOLUTION", "__onednn$of_another_year"))
    assert not _is_available(mock.patch.dict("os.environ", {"CVJAX_ONEDNN": "0"}))


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("block", [1, 2**30])
@pytest.mark.parametrize(
    ("groups", "inside", "outside", "options"),
    [
        (8, 2, 3, {"padding": ((1, 1), (1, 1))}),
        (3, 20, 4, {"padding": ((2, 0), (-1, 3))}),
        (6, 4, 4, {"dilation": (2, 3), "padding": ((2, 2), (3, 3))}),
        (32, 4, 4, {"strides": (2, 2), "padding": ((1, 1), (1, 1))}),
    ],
)
def test_gradients_of_grouped_kernels(groups, inside, outside, options, block):
    x, kernel = _arrays((6, 11, 12, groups * inside), (3, 3, inside, groups * outside))
    ours, expected = (partial(conv, groups=groups, **options) for conv in (conv2d, _reference))
    with mock.patch.object(grouped, "_BLOCK", block), mock.patch.object(onednn_module, "FEW_ROWS", 0):
        _assert_close(_faces(ours)(x, kernel), _faces(expected)(x, kernel))


@pytest.mark.parametrize("block", [1, 5 * 9 * 7 * 4 * 2, 2**20])
def test_columns_of_any_number_of_rows(block):
    """One row at a time, two, and all images at once."""
    x, kernel = _arrays((4, 6, 7, 64), (3, 3, 64, 5))
    options = {"padding": ((1, 1), (1, 1))}
    ours, expected = (partial(conv, **options) for conv in (conv2d, _reference))
    with mock.patch.object(narrowing, "_BLOCK", block):
        _assert_close(_faces(ours)(x, kernel), _faces(expected)(x, kernel))


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize(("inside", "outside"), [(48, 20), (20, 48), (1, 7), (64, 64)])
def test_sums_of_products_over_rows(inside, outside):
    rng = np.random.default_rng(0)
    for rows in (onednn_module.FEW_ROWS, 2 * onednn_module._MANY_ROWS + 1):
        x, y = (rng.normal(size=(rows, n)).astype(np.float32) for n in (inside, outside))
        if not onednn_module.suits_outer(x, y):
            pytest.skip("oneDNN's products are not used on this machine")
        program = jax.jit(onednn_module.outer)
        assert "__onednn$matmul" in program.lower(x, y).as_text()
        np.testing.assert_allclose(program(x, y), x.astype(np.float64).T @ y, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("onednn")
def test_pointwise_kernels_of_large_maps_are_products_of_onednn():
    x, kernel = _arrays((2, 56, 57, 16), (1, 1, 16, 72))
    if not onednn_module.suits_matrix(x.reshape(-1, 16), kernel[0, 0]):
        pytest.skip("oneDNN's products are not used on this machine")
    ours, xla = (_faces(conv) for conv in (conv2d, _stock))
    # Forward and the gradient for the kernel; that for the input is to few channels.
    assert ours.lower(x, kernel).as_text().count("__onednn$matmul") == 2
    _assert_close(ours(x, kernel), xla(x, kernel))
    few = ours.lower(x[:1], kernel).as_text()
    assert few.count("__onednn$matmul") == 1


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize(
    ("side", "inside", "options"),
    [(3, 32, {"padding": ((1, 1), (1, 1))}), (1, 32, {}), (3, 8, {"groups": 4, "padding": ((1, 1), (1, 1))})],
)
def test_bfloat16_is_of_onednn_where_the_processor_multiplies_it(side, inside, options):
    """Values and gradients are float64's to the rounding of each result, sums over many pixels too."""
    x, kernel = (a.astype(jnp.bfloat16) for a in _arrays((4, 40, 39, 32), (side, side, inside, 64), seed=side))
    ct = _arrays(jax.eval_shape(partial(conv2d, **options), x, kernel).shape, (1,))[0].astype(jnp.bfloat16)

    @jax.jit
    def run(x, kernel, ct):
        y, pull = jax.vjp(partial(conv2d, **options), x, kernel)
        return y, *pull(ct)

    text = run.lower(x, kernel, ct).as_text()
    assert ("__onednn" in text) == onednn_module.is_available(jnp.bfloat16)
    assert onednn_module.is_available(jnp.bfloat16) <= instructions.has_bfloat16()
    with jax.enable_x64(True):
        y, pull = jax.vjp(partial(_stock, **options), x.astype(jnp.float64), kernel.astype(jnp.float64))
        wide = y, *pull(ct.astype(jnp.float64))
    for got, right in zip(run(x, kernel, ct), wide):
        assert got.dtype == jnp.bfloat16
        error = np.abs(np.asarray(got, np.float64) - np.asarray(right))
        assert np.sqrt((error**2).mean()) < 4e-3 * np.asarray(right).std()


@pytest.mark.parametrize(
    ("flags", "limit", "expected"),
    [
        ("avx2", "", (True, False, False)),
        ("avx2 avx512f avx512bw avx512dq avx512vl", "", (True, True, False)),
        ("avx2 avx512f avx512bw avx512dq avx512vl avx512_bf16", "", (True, True, True)),
        ("avx2 avx512f avx512bw avx512dq avx512vl avx512_bf16", "AVX512_CORE", (True, True, False)),
        ("avx2 avx512f avx512bw avx512dq avx512vl amx_bf16", "avx2", (True, False, False)),
        ("sse4_2", "", (False, False, False)),
    ],
)
def test_instructions_are_those_of_the_processor_and_of_the_environment(flags, limit, expected):
    with (
        mock.patch.object(instructions.pathlib.Path, "read_text", return_value=f"model: 1\nflags : fpu {flags}\n"),
        mock.patch.dict("os.environ", {"ONEDNN_MAX_CPU_ISA": limit}),
    ):
        got = instructions.has_avx2(), instructions.has_avx512(), instructions.has_bfloat16()
    assert got == expected


@pytest.mark.usefixtures("onednn")
def test_products_of_onednn_are_known_by_their_values_and_need_wide_vectors():
    def sums(change):
        with change:
            onednn_module.forget()
            try:
                return onednn_module.sums(np.dtype(np.float32))
            finally:
                onednn_module.forget()

    if not sums(mock.patch.dict("os.environ")):
        pytest.skip("oneDNN's products are not used on this machine")
    assert not onednn_module.sums(np.dtype(np.float64))
    right = onednn_module.outer
    assert not sums(mock.patch.object(onednn_module, "outer", lambda x, y: right(x, y) * 1.01))
    assert not sums(mock.patch.object(onednn_module, "_PRODUCT", "__onednn$of_another_year"))
    assert not sums(mock.patch.dict("os.environ", {"ONEDNN_MAX_CPU_ISA": "AVX2"}))


_WAITING = """
import jax
import numpy as np
from cvjax.ops.cpu import onednn
from cvjax.ops.geometry import Geometry

rng, cases = np.random.default_rng(0), []
while len(cases) < 160:
    size = tuple(int(n) for n in rng.integers(1, 40, 2))
    inside, outside = (int(rng.choice([1, 3, 8, 20, 21, 48, 64, 136])) for _ in range(2))
    kernel, dilation = int(rng.choice([1, 2, 3, 5, 7])), int(rng.choice([1, 1, 2, 3, 6, 12]))
    strides = (int(rng.choice([1, 1, 2, 3])),) * 2
    low, high = (int(rng.integers(0, kernel * dilation + 1)) for _ in range(2))
    groups = int(rng.choice([1, 1, inside, np.gcd(inside, outside)]))
    outside = outside if outside % groups == 0 else groups
    geometry = Geometry(
        size, (kernel, kernel), strides, ((low, high), (high, low)), kernel_dilation=(dilation,) * 2, groups=groups
    )
    x = np.ones((8, *size, inside), np.float32)
    w = np.ones((kernel, kernel, inside // groups, outside), np.float32)
    if 0 in geometry.output_size or not onednn.suits(x, w, geometry):
        continue
    cases.append((x, w, geometry))
    back = geometry.transposed
    y = np.ones((8, *geometry.output_size, outside), np.float32)
    swapped = np.ascontiguousarray(w.swapaxes(2, 3))
    if groups == 1 and min(*back.padding[0], *back.padding[1]) >= 0 and onednn.suits(y, swapped, back):
        cases.append((y, swapped, back))
sums = 0
for _ in range(40 if onednn.sums(np.dtype(np.float32)) else 0):
    rows, inside, outside = (int(rng.choice(n)) for n in ([300, 392, 1568, 6272], [1, 3, 20, 64, 136], [1, 8, 21, 512]))
    x, y = np.ones((rows, inside), np.float32), np.ones((rows, outside), np.float32)
    assert (np.asarray(jax.jit(onednn.outer)(x, y)) == rows).all()
    batched = np.ones((4, rows, inside), np.float32), np.ones((4, rows, outside), np.float32)
    assert (np.asarray(jax.jit(onednn.outer_batched)(*batched)) == rows).all()
    few = np.ones((8, outside), np.float32), np.ones((rows, outside), np.float32)
    assert (np.asarray(jax.jit(onednn.times_transposed)(*few)) == outside).all()
    sums += 3
print("sums", sums)
dilated, grouped = sum(g.kernel_dilation[0] > 1 for *_, g in cases), sum(g.groups > 1 for *_, g in cases)
print("cases", len(cases), dilated, grouped, flush=True)
for start in range(0, len(cases), 20):
    some = cases[start : start + 20]
    jax.jit(lambda arrays: [onednn.convolve(*a, g) for a, (*_, g) in zip(arrays, some)])([c[:2] for c in some])
jax.effects_barrier()
"""


@pytest.mark.usefixtures("onednn")
def test_onednn_takes_no_implementation_that_waits_for_its_own_threads():
    """Its code by matrix products waits in a thread of XLA's for others; of two threads none may be left."""
    environment = {**os.environ, "ONEDNN_VERBOSE": "1", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", _WAITING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    count, dilated, grouped = map(int, re.search(r"cases (\d+) (\d+) (\d+)", done.stdout).groups())
    assert min(count - 159, dilated - 20, grouped - 20) > 0
    taken = re.findall(r"exec,cpu,convolution,([^,]+),", done.stdout)
    assert len(taken) >= count
    products = re.findall(r"exec,cpu,matmul,([^,]+),", done.stdout)
    assert len(products) >= int(re.search(r"sums (\d+)", done.stdout)[1])
    assert not [name for name in taken + products if "gemm" in name or name.startswith("ref")]


@pytest.mark.usefixtures("onednn")
def test_onednn_is_left_alone_where_taps_miss_the_map_and_on_old_machines():
    x, kernel = _arrays((1, 7, 9, 64), (3, 3, 1, 64))
    dense = np.ones((3, 3, 64, 64), np.float32)
    near, far, thin = (
        Geometry((7, 9), (3, 3), padding=((d, d), (d, d)), kernel_dilation=(d, d), groups=groups)
        for d, groups in ((2, 1), (12, 1), (2, 64))
    )
    many = np.ones((16, 7, 9, 64), np.float32)
    assert onednn_module.suits(many, dense, near)
    assert not onednn_module.suits(many, dense, far)
    assert not onednn_module.suits(x, kernel, thin)
    assert not _is_available(mock.patch.dict("os.environ", {"ONEDNN_MAX_CPU_ISA": "AVX"}))


def test_one_program_for_two_platforms_and_for_any_batch():
    x, kernel = _arrays(*SHAPES)
    gradient = jax.jit(jax.grad(_loss(conv2d), (0, 1)))
    (batch,) = export.symbolic_shape("b")
    program = export.export(gradient, platforms=["cpu", "tpu"])(
        jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), kernel
    )
    _assert_close(program.call(x, kernel), jax.grad(_loss(_stock), (0, 1))(x, kernel))


@pytest.mark.parametrize("kind", ["dense", "pointwise", "depthwise", "grouped", "wide dilation", "transposed"])
def test_bfloat16(kind):
    x_shape, kernel_shape, options = KINDS[kind]
    x, kernel = (a.astype(jnp.bfloat16) for a in _arrays(x_shape, kernel_shape))
    y, pull = jax.vjp(partial(conv2d, **options), x, kernel)
    exact, exact_pull = jax.vjp(partial(_stock, **options), x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert {a.dtype for a in (y, *pull(y))} == {jnp.dtype(jnp.bfloat16)}
    cast = partial(jax.tree.map, lambda a: a.astype(jnp.float32))
    _assert_close(cast((y, *pull(y))), (exact, *exact_pull(y.astype(jnp.float32))), tolerance=2e-2)


def test_general_convolution_is_jax_laxs():
    rng = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    nhwc = ("NHWC", "HWIO", "NHWC")
    calls = [
        ((array(2, 6, 7, 4), array(3, 2, 2, 6), (2, 1), "SAME"), {"dimension_numbers": nhwc, "feature_group_count": 2}),
        ((array(2, 6, 7, 4), array(3, 2, 4, 6), (1, 1), "VALID", (1, 1), (2, 1)), {"dimension_numbers": nhwc}),
        ((array(2, 4, 6, 7), array(6, 4, 3, 3), (1, 1), "SAME"), {}),  # NCHW
        ((array(2, 9, 3), array(3, 3, 5), (2,), "SAME"), {"dimension_numbers": ("NHC", "HIO", "NHC")}),
        ((array(4, 5, 5, 3), array(3, 3, 3, 4), (1, 1), "SAME"), {"dimension_numbers": nhwc, "batch_group_count": 2}),
    ]
    for args, options in calls:
        _assert_close(conv_general_dilated(*args, **options), lax.conv_general_dilated(*args, **options))
    with pytest.raises(ValueError, match="conv_transpose"):
        conv_general_dilated(*calls[0][0], (2, 2), None, nhwc)


def test_arrays_that_do_not_fit():
    x, kernel = _arrays((1, 4, 4, 4), (3, 3, 4, 4))
    for bad in (
        lambda: conv2d(x[0], kernel),
        lambda: conv2d(x, kernel.astype(jnp.bfloat16)),
        lambda: conv2d(x, kernel, groups=2),
        lambda: conv2d(x, kernel[:, :, :2, :3], groups=2),
    ):
        with pytest.raises(AssertionError):
            bad()
