"""Least times of a step, and the search of the largest batch, against values worked out by hand."""

import pytest

from cvjax.errors import ConfigError
from cvjax.inspection.chips import CHIPS, parse_topology
from cvjax.inspection.program_cost import Collective
from cvjax.inspection.roofline import largest_batch, sent_bytes, step_time


def test_times_by_hand():
    # 197 TFLOP in a second of v5e; 819 GB of memory; an all-reduce of 100 GB sends 2 * 3/4 of that, at 200 GB/s.
    time = step_time(CHIPS["v5e"], 98.5e12, 819e9, [Collective("all-reduce", 100 * 10**9, 4, "")], 4)
    assert (time.arithmetic, time.memory, time.interconnect) == pytest.approx((0.5, 1.0, 0.75))
    assert (time.binding, time.seconds) == ("memory", 1.0)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("all-reduce", 1500), ("all-gather", 750), ("reduce-scatter", 750), ("collective-permute", 1000)],
)
def test_bytes_that_a_chip_sends(kind, sent):
    assert sent_bytes(Collective(kind, 1000, 4, ""), 99) == sent
    assert sent_bytes(Collective(kind, 1000, 0, "", times=2), 4) == 2 * sent
    assert sent_bytes(Collective(kind, 1000, 1, ""), 4) in (0, 1000)


@pytest.mark.parametrize("true", [0, 1, 7, 100, 1000])
@pytest.mark.parametrize("start", [1, 64, 4000])
@pytest.mark.parametrize("bend", [1.0, 0.8, 1.1])
def test_the_search_finds_the_largest_batch(true, start, bend):
    tried = []

    def temporaries(batch: int) -> int | None:
        tried.append(batch)
        return int(1000 * batch**bend) if batch <= true else None

    found, said = largest_batch(temporaries, start, room=1000 * max(true, 1) ** bend)
    assert said == tried == list(dict.fromkeys(tried))
    assert true - max(1, true // 16) < found <= true or found == true
    assert len(tried) <= 16


def test_the_search_needs_few_compilations_where_memory_grows_with_the_batch():
    found, tried = largest_batch(lambda b: 35 * b if b <= 450 else None, 128, room=35 * 460)
    assert 450 - 28 < found <= 450
    assert len(tried) <= 6


def test_the_search_does_not_creep_up_to_its_guess():
    """Temporaries that mostly do not grow, as of a small net: each guess is closer to the room, and below it."""
    found, tried = largest_batch(lambda b: 8000 + 6 * b if b <= 1400 else None, 800, room=16_000)
    assert 1400 - 88 < found <= 1400
    assert len(tried) <= 10


def test_topologies():
    assert parse_topology("h100:8").chips == 8
    pod = parse_topology("v5e:16x16")
    assert (pod.chip.name, pod.chips, pod.name) == ("v5e", 256, "v5e:16x16")
    assert parse_topology("v4:2x2x1").chips == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v9:2x2", "unknown chip; choose one like v4:2x2x1"),
        ("v5e", "has no shape"),
        ("v5e:2x0", "has no shape"),
        ("v5e:2x2x2", "along 2 axes, as up to 256 chips; choose one like v5e:2x2"),
        ("v6e:32x16", "up to 256 chips"),
        ("h100:16", "up to 8 chips; choose one like h100:1, h100:8"),
    ],
)
def test_topologies_that_do_not_exist(name, said):
    with pytest.raises(ConfigError, match=said):
        parse_topology(name)


def test_figures_of_chips_are_in_step_with_one_another():
    for chip in CHIPS.values():
        # Every one of them needs more than a hundred operations for each byte of memory, and has slower links.
        assert 100 < chip.flops / chip.bandwidth < 1000
        assert chip.interconnect < chip.bandwidth
        assert chip.source
