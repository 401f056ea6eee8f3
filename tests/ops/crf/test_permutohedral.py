"""The permutohedral lattice against sums over all pairs of points, and against its own algebra."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads

from cvjax.ops.cpu import lattice as cpu
from cvjax.ops.crf import permutohedral
from cvjax.ops.crf.permutohedral import build_lattice, permutohedral_filter


def _points(count, dimensions, spread, seed=0):
    return np.random.default_rng(seed).normal(scale=spread, size=(count, dimensions)).astype(np.float32)


_build, _apply = jax.jit(build_lattice), jax.jit(permutohedral_filter)


@jax.jit
def _filter(points, values):
    return permutohedral_filter(build_lattice(points), values)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_close_to_the_sum_over_all_pairs(dimensions):
    points = _points(1500, dimensions, 1.0)
    values = np.random.default_rng(1).uniform(size=(1500, 3)).astype(np.float32)
    both = np.concatenate([values, np.ones((1500, 1), np.float32)], axis=1)
    kernel = np.exp(-0.5 * np.square(points[:, None] - points[None]).sum(-1))
    exact, ours = kernel @ both, np.asarray(_filter(points, both))
    mean, approximate = exact[:, :3] / exact[:, 3:], ours[:, :3] / ours[:, 3:]
    # The lattice's kernel has flatter flanks than a Gaussian, so this is an approximation however it is written.
    assert np.abs(mean - approximate).mean() < 0.02
    weights = np.corrcoef(exact[:, 3], ours[:, 3])[0, 1]
    assert weights > 0.99


def test_barycentric_weights_are_those_of_a_simplex_around_the_point():
    points = _points(500, 4, 3.0)
    lattice = _build(points)
    weight, corner = np.asarray(lattice.weight).T, np.asarray(lattice.corner).T
    np.testing.assert_allclose(weight.sum(1), 1.0, atol=1e-5)
    assert weight.min() > -1e-5
    assert corner.min() == 0
    assert corner.max() == int(lattice.count) - 1
    assert all(len(set(row)) == 5 for row in corner)


def test_neighbors_are_mutual_and_of_the_next_class():
    lattice = _build(_points(300, 3, 1.0))
    count, room = int(lattice.count), lattice.after.shape[1]
    after, before = np.asarray(lattice.after).T, np.asarray(lattice.before).T
    for axis in range(4):
        there = np.flatnonzero(after[:count, axis] < room)
        assert len(there) > 0
        np.testing.assert_array_equal(before[after[there, axis], axis], there)
    assert (after[count:] == room).all()
    # A corner of class k is in column k of `corner` and nowhere else.
    rank = np.full(count, -1)
    for k, column in enumerate(np.asarray(lattice.corner)):
        assert np.isin(rank[column], (-1, k)).all()
        rank[column] = k
    for axis in range(4):
        there = np.flatnonzero(after[:count, axis] < room)
        np.testing.assert_array_equal(rank[after[there, axis]], (rank[there] + 1) % 4)


def test_equal_points_share_their_corners():
    points = np.repeat(_points(5, 3, 2.0), 4, axis=0)
    lattice = _build(points)
    corner = np.asarray(lattice.corner).T.reshape(5, 4, 4)
    np.testing.assert_array_equal(corner, np.broadcast_to(corner[:, :1], corner.shape))
    assert int(lattice.count) <= 5 * 4


def test_a_single_point_and_a_far_one():
    points = np.array([[0.0, 0.0], [1e4, -1e4]], np.float32)
    out = np.asarray(_filter(points, np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)))
    assert out[0, 0] > 0
    assert out[1, 1] > 0
    assert out[0, 1] == out[1, 0] == 0


def test_linear_and_gradient_is_the_transpose():
    points = _points(200, 5, 0.7)
    lattice = _build(points)
    columns = np.asarray(_apply(lattice, jnp.eye(200)))
    rng = np.random.default_rng(2)
    values, weights = rng.normal(size=(2, 200, 3)).astype(np.float32)
    np.testing.assert_allclose(_apply(lattice, values), columns @ values, atol=1e-4)
    gradient = jax.grad(lambda v: (_apply(lattice, v) * weights).sum())(jnp.asarray(values))
    np.testing.assert_allclose(gradient, columns.T @ weights, atol=1e-4)
    check_grads(lambda v: _apply(lattice, v), (jnp.asarray(values),), order=1, modes=["rev"], rtol=1e-2)


def test_vmap_is_one_after_the_other():
    points = np.stack([_points(60, 3, 1.0, seed) for seed in range(3)])
    values = np.random.default_rng(3).normal(size=(3, 60, 2)).astype(np.float32)
    together = jax.vmap(_filter)(jnp.asarray(points), jnp.asarray(values))
    for i in range(3):
        np.testing.assert_allclose(together[i], _filter(points[i], values[i]), atol=1e-5)


def test_more_corners_than_one_block():
    # Far apart, so that no corner is shared: every point keeps its own value, by the lattice's constant factor.
    points = np.stack(np.meshgrid(*[np.arange(16) * 40.0] * 3, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    values = np.random.default_rng(4).normal(size=(len(points), 1)).astype(np.float32)
    alone = permutohedral_filter(_build(points), jnp.ones((len(points), 1)))
    assert int(_build(points).count) == 4 * len(points)
    np.testing.assert_allclose(_filter(points, values), np.asarray(alone) * values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dimensions", "spread", "room"), [(2, 0.0, 0), (2, 2.2, 1), (2, 30.0, 2), (3, 0.0, 0), (3, 1.2, 1), (3, 30.0, 2)]
)
def test_each_room_on_cpu_filters_as_accelerators_do(dimensions, spread, room, monkeypatch):
    monkeypatch.setattr(cpu, "_FEW_CORNERS", 0)
    points = _points(150, dimensions, spread)
    lattice = _build(points)
    rooms = cpu._rooms(lattice.after.shape[1], 2)
    assert int(lattice.count) < rooms[room]
    assert room == 0 or int(lattice.count) >= rooms[room - 1]
    values = np.random.default_rng(5).normal(size=(150, 2)).astype(np.float32)
    for backwards in (False, True):
        here = jax.jit(partial(cpu.lattice_filter, backwards=backwards))(*lattice, values)
        there = jax.jit(partial(permutohedral._filter_at_once, backwards=backwards))(*lattice, values)
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5 * np.abs(there).max())


@pytest.mark.parametrize("spread", [0.0, 1.0, 100.0])
def test_corners_are_the_same_by_place_and_by_code(spread):
    quotient, rank, _ = permutohedral._enclosing_simplex(jnp.asarray(_points(400, 3, spread).T))
    codes, _ = permutohedral._codes(quotient, rank)
    for here, there in zip(
        jax.tree.leaves(permutohedral._corners_by_place(codes)), jax.tree.leaves(permutohedral._corners_by_code(codes))
    ):
        np.testing.assert_array_equal(here, there)


def test_accelerators_get_no_loop_over_blocks_and_no_numbers_of_64_bits():
    def lowered(platform):
        function = jax.jit(lambda p, v: permutohedral_filter(build_lattice(p), v))
        shapes = jax.ShapeDtypeStruct((20_000, 2), jnp.float32), jax.ShapeDtypeStruct((20_000, 3), jnp.float32)
        return export.export(function, platforms=[platform])(*shapes).mlir_module()

    assert "xui64>" in lowered("cpu")
    for platform in ("cuda", "tpu"):
        program = lowered(platform)
        assert "xui64>" not in program
        assert program.count("stablehlo.while") == 3  # two bisections, and the pairs of axes
