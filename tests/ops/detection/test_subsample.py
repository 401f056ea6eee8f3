"""Balanced subsets: counts, places, and that every set is as likely."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cvjax.ops.detection.subsample import balanced_subsample

_DRAW = jax.jit(balanced_subsample, static_argnames=("size", "positive_fraction"))


def kinds(positives: int, negatives: int):
    """Masks over 72 boxes whose places are shuffled, so that no draw by position would do."""
    kind = np.random.default_rng(0).permutation([1] * positives + [2] * negatives + [0] * (72 - positives - negatives))
    return jnp.asarray(kind == 1), jnp.asarray(kind == 2)


# Few sizes and shares, since each pair of them compiles anew.
@pytest.mark.parametrize(
    ("positives", "negatives", "size", "share", "expected"),
    [
        (20, 50, 10, 0.7, (7, 3)),
        (3, 50, 10, 0.7, (3, 7)),  # negatives fill up
        (20, 2, 10, 0.7, (7, 2)),  # positives do not
        (0, 50, 10, 0.7, (0, 10)),
        (20, 0, 10, 0.7, (7, 0)),
        (0, 0, 10, 0.7, (0, 0)),
        (2, 3, 99, 0.5, (2, 3)),  # more than there are boxes
        (20, 50, 8, 0.0, (0, 8)),
        (20, 50, 8, 1.0, (8, 0)),
    ],
)
def test_counts_and_places(positives, negatives, size, share, expected):
    positive, negative = kinds(positives, negatives)
    got = _DRAW(jax.random.key(3), positive, negative, size=size, positive_fraction=share)
    assert got.indices.shape == (size,)
    assert (int(got.positive.sum()), int(got.negative.sum())) == expected
    chosen = np.asarray(got.indices)
    assert positive[chosen[got.positive]].all()
    assert negative[chosen[got.negative]].all()
    assert len(set(chosen[got.valid])) == sum(expected)
    assert not chosen[~got.valid].any()
    np.testing.assert_array_equal(got.valid, np.arange(size) < sum(expected))
    for mask, flag in zip(got.masks(positive.size), (got.positive, got.negative)):
        np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(chosen[flag]))


def test_every_row_of_a_batch_draws_by_its_own_key():
    positive, negative = kinds(20, 50)
    draw = partial(balanced_subsample, size=10, positive_fraction=0.7)
    keys = jax.random.split(jax.random.key(0), 4)
    rows = jax.jit(jax.vmap(draw, (0, None, None)))(keys, positive, negative)
    for i in range(4):
        alone = _DRAW(keys[i], positive, negative, size=10, positive_fraction=0.7)
        np.testing.assert_array_equal(rows.indices[i], alone.indices)
    assert len({tuple(row) for row in np.asarray(rows.indices)}) == 4


def test_every_box_of_a_kind_is_as_likely_and_pairs_are_independent():
    positive, negative = kinds(6, 12)
    draw = partial(balanced_subsample, size=8, positive_fraction=0.25)
    trials = 20_000
    rows = jax.jit(jax.vmap(draw, (0, None, None)))(jax.random.split(jax.random.key(1), trials), positive, negative)
    hits = np.zeros((trials, positive.size), bool)
    hits[np.arange(trials)[:, None], np.asarray(rows.indices)] = True
    for mask, drawn in ((positive, 2), (negative, 6)):
        mine = hits[:, np.asarray(mask)]
        population = mine.shape[1]
        share = drawn / population
        # Five standard deviations of a mean over the trials.
        slack = 5 * np.sqrt(share * (1 - share) / trials)
        np.testing.assert_allclose(mine.mean(0), share, atol=slack)
        pair = share * (drawn - 1) / (population - 1)
        together = (mine[:, :, None] & mine[:, None]).mean(0)[~np.eye(population, dtype=bool)]
        np.testing.assert_allclose(together, pair, atol=5 * np.sqrt(pair * (1 - pair) / trials))


def test_what_is_refused():
    positive, negative = kinds(2, 2)
    with pytest.raises(ValueError, match="size of 1"):
        balanced_subsample(jax.random.key(0), positive, negative, size=0, positive_fraction=0.5)
    with pytest.raises(ValueError, match="share"):
        balanced_subsample(jax.random.key(0), positive, negative, size=4, positive_fraction=1.5)
