"""Hosts of a run compare their code, configuration and data before they start."""

import dataclasses

import jax
import pytest
from made import segmentation

from cvjax.engine import distributed
from cvjax.engine.distributed import check_same_on_hosts, code_facts, difference_of_hosts, ending_together
from cvjax.engine.guards.facts import host_facts
from cvjax.errors import ConfigError, DataError, UserError

FACTS = {"cvjax": "1", "training split.examples": "24", "configuration.optim.momentum": "0.9"}


def test_equal_hosts_start():
    assert difference_of_hosts(["a", "b"], [FACTS, dict(reversed(FACTS.items()))]) == ""


def test_the_host_that_differs_is_named_with_what_differs():
    sentence = difference_of_hosts(["a", "b"], [FACTS, FACTS | {"training split.examples": "23"}])
    assert sentence == (
        "the hosts of a run start alike, and host 1 (b) differs from host 0 (a): it has training split.examples 23 and"
        " not 24; give all hosts the same data, code and command"
    )


def test_of_many_hosts_the_odd_one_is_named_also_if_it_is_the_first():
    sentence = difference_of_hosts("abc", [FACTS | {"cvjax": "2"}, FACTS, FACTS])
    assert "host 0 (a) differs from host 1 (b): it has cvjax 2 and not 1;" in sentence


def test_what_one_host_alone_has_and_many_differences_are_counted():
    sentence = difference_of_hosts("ab", [FACTS, FACTS | dict.fromkeys("pqrstu", "1")])
    assert "it has p 1 and not none, q 1 and not none" in sentence
    assert "and 2 more differences;" in sentence


@pytest.fixture
def two_hosts(monkeypatch):
    """This process as host 0 of two; what the other one hands over is appended to the list."""
    others = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "_gather", lambda value: [value, others.pop(0)])
    return others


def test_facts_are_compared_flat_and_long_ones_by_their_digest(two_hosts):
    names = [f"class {number}" for number in range(1000)]
    mine = {"split": {"class_names": names, "examples": 3}}
    flat = distributed._flat(mine)
    assert len(flat["split.class_names"]) < 130
    two_hosts.append(["b", flat])
    check_same_on_hosts(mine)
    two_hosts.append(["b", distributed._flat({"split": {"class_names": [*names[:-1], "x"], "examples": 3}})])
    with pytest.raises(ConfigError, match=r"it has split.class_names class 0, class 1, "):
        check_same_on_hosts(mine)


def test_a_failure_elsewhere_ends_this_host_too(two_hosts):
    two_hosts.append("data: cannot be read")
    with pytest.raises(UserError, match="host 1 cannot start: data: cannot be read"), ending_together():
        pass


def test_a_failure_here_is_told_and_raised(two_hosts):
    two_hosts.append("")
    with pytest.raises(UserError, match="host 0 cannot start: mine"), ending_together():
        raise DataError("mine")
    two_hosts.append("")
    with pytest.raises(KeyError), ending_together():
        raise KeyError("a bug keeps its own kind")


def test_one_host_alone_asks_nobody():
    check_same_on_hosts({})
    with pytest.raises(DataError), ending_together():
        raise DataError("mine")


class _Data:
    name, split, class_names, void = "mine", "train", ("a",), ()

    def __len__(self):
        return 3

    def fingerprint(self):
        return "0123"


def test_places_and_workers_may_differ_between_hosts_and_settings_may_not(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"weights")
    (tmp_path / "v.npz").write_bytes(b"weights, others")
    config = segmentation(("a",)).config

    def facts(**changes):
        data = {name: changes.pop(name) for name in ("manual_dir", "workers", "crop") if name in changes}
        run = dataclasses.replace(config, input=dataclasses.replace(config.input, **data), **changes)
        return distributed._flat(host_facts(run, _Data(), _Data()))

    assert facts(manual_dir="x", workers=3, workdir=str(tmp_path), data_dir="d") == facts()
    assert facts(crop=(16, 16)) != facts()
    assert facts(seed=1) != facts()
    assert facts(init=str(tmp_path / "w.npz")) != facts(init=str(tmp_path / "v.npz"))
    assert code_facts().items() <= facts().items()
