"""Pairs of hashes, and groups of pairs, against the plain way of finding them."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cvjax.datasets.findings import duplicates


def test_hashes_within_the_distance(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 7)  # so that pairs lie within blocks and across them
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 60, dtype=np.uint64)
    for index in range(20, 60):  # neighbors at all distances
        flips = rng.choice(64, index % 14, replace=False).tolist()
        hashes[index] = hashes[index % 20] ^ np.uint64(sum(1 << bit for bit in flips))
    texture = np.broadcast_to(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8), (60, 16, 16, 3))
    pairs = duplicates.near_pairs(hashes, texture, distance=6)
    wanted = [
        (i, j) for i, j in itertools.combinations(range(60), 2) if bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= 6
    ]
    assert sorted(map(tuple, pairs.tolist())) == wanted
    assert len(wanted) > 15


def test_pairs_are_confirmed_by_their_correlation():
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 200, (2, 16, 16, 3))
    small = np.stack([one, one // 2 + 60, other, np.full_like(one, 90), np.full_like(one, 90)]).astype(np.uint8)
    hashes = np.zeros(5, np.uint64)
    assert duplicates.near_pairs(hashes, small).tolist() == [[0, 1]]  # flat pictures show nothing to compare
    mixed = (0.9 * one + 0.1 * other).astype(np.uint8)
    correlation = np.corrcoef(one.ravel(), mixed.ravel())[0, 1]
    for likeness, expected in ((correlation - 1e-3, 1), (correlation + 1e-3, 0)):
        pairs = duplicates.near_pairs(hashes[:2], np.stack([one.astype(np.uint8), mixed]), likeness=likeness)
        assert len(pairs) == expected


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_groups_are_what_pairs_connect(pairs):
    groups = {index: {index} for index in range(12)}
    for first, second in pairs:
        joined = groups[first] | groups[second]
        for member in joined:
            groups[member] = joined
    wanted = sorted(sorted(group) for group in {frozenset(group) for group in groups.values()} if len(group) > 1)
    assert duplicates.groups_of(np.array(pairs, np.int64).reshape(-1, 2), 12) == wanted


def test_equal_digests():
    assert duplicates.same_pairs([b"a", b"b", None, b"a", None, b"a"]).tolist() == [[0, 3], [0, 5]]
