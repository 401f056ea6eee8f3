"""The product of dense layers: values, derivatives of every order, mapping, devices and platforms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from cvjax.ops.cpu import onednn
from cvjax.ops.dense import dense

pytestmark = pytest.mark.usefixtures("stored_and_local")


def _draw(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("rows", [0, 1, 8, 100])
def test_values_and_gradients(rows):
    x, kernel, ct = _draw((rows, 40), (40, 33), (rows, 33))
    y, pull = jax.vjp(jax.jit(lambda x, kernel: dense(x, kernel)), x, kernel)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(y, x.astype(np.float64) @ kernel)
    of_x, of_kernel = pull(ct)
    close(of_x, ct.astype(np.float64) @ kernel.T)
    close(of_kernel, x.astype(np.float64).T @ ct)


def test_derivatives_of_every_order_and_mapping():
    with jax.enable_x64(True):
        check_grads(lambda x, kernel: jnp.sin(dense(x, kernel)), _draw((3, 4), (4, 2), dtype=np.float64), order=3)
    x, kernel, kernels = _draw((5, 3, 4), (4, 2), (5, 4, 2))

    def gradient(x, kernel):
        return jax.grad(lambda x: jnp.sin(dense(x, kernel)).sum())(x)

    for matrices, axis in ((kernel, None), (kernels, 0)):
        got = jax.vmap(gradient, (0, axis))(x, matrices)
        each = [gradient(a, matrices if axis is None else matrices[i]) for i, a in enumerate(x)]
        np.testing.assert_allclose(got, np.stack(each), rtol=1e-5, atol=1e-6)


def test_on_devices_and_for_other_platforms():
    x, kernel = _draw((4, 6), (6, 3))

    def loss(kernel, x):
        return jnp.sin(dense(x, kernel)).sum()

    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spread = jax.shard_map(
        lambda kernel, x: jax.lax.psum(loss(kernel, x), "data"), mesh=mesh, in_specs=(P(), P("data")), out_specs=P()
    )
    got, expected = (jax.jit(jax.grad(f, (0, 1)))(kernel, x) for f in (spread, loss))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), got, expected)
    exported = export.export(jax.jit(jax.grad(loss, 1)), platforms=["cpu", "tpu"])(kernel, x)
    assert "onednn" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(kernel, x), expected[1], rtol=1e-4, atol=1e-5)


def test_few_rows_go_to_onednn_where_it_may_be_called(request):
    x, kernel = _draw((8, 40), (40, 33))
    text = jax.jit(jax.grad(lambda x: jnp.sin(dense(x, kernel)).sum())).lower(x).as_text()
    ct = jnp.zeros((8, 33))
    local = "local" in request.node.name
    assert ("__onednn$matmul" in text) == (local and onednn.suits_transposed(ct, kernel))
    assert not onednn.suits_transposed(jnp.zeros((100, 33)), kernel)
