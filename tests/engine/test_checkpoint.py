"""Checkpoints: folders of any name, and files that changed after they were written."""

import json
import shutil

import jax
import numpy as np
import pytest
from toy import toy_variables
from toy_run import toy_fit

from cvjax.engine.checkpoint import (
    Checkpoints,
    complete_steps,
    find_checkpoint,
    read_metadata,
    read_stored_variables,
)
from cvjax.engine.optim import OptimizerConfig, make_optimizer
from cvjax.engine.state import create_state
from cvjax.errors import CheckpointError

NAMES = [
    "run [a]",
    "a[0-9]b",
    "back\\slash",
    "*",
    "a?b",
    "100%",
    "%s{0}{name}",
    "a b",
    "'q' \"d\"",
    "über-日本",
    "-dash",
    "new\nline",
    "dot.",
    "~",
    "$HOME",
    "x" * 200,
    "a:b",
    "gs:",
    "[red]x",
    "1",
    "\udcff",  # no UTF-8
    "x.orbax-checkpoint-tmp",
]


def some_state(seed=0.0):
    """A state with numbers of its own, and one optimizer for all."""
    state = create_state(toy_variables(), make_optimizer(OptimizerConfig(ema_decay=0.9), 10), ema=True)
    return jax.tree.map(lambda x: x + np.asarray(seed, x.dtype), state)


def save(folder, *states, scores=None, keep=9):
    """Saves states as the steps 1, 2, ...; the metadata holds the step as `position`."""
    checkpoints = Checkpoints(folder / "checkpoints", keep=keep)
    for step, state in enumerate(states, 1):
        score = {"miou": 0.5 if scores is None else scores[step - 1]}
        metadata = {"model": {"name": "toy"}, "data": {}, "position": step, "metric": "miou", "scores": score}
        checkpoints.save(state.replace(step=np.int32(step)), metadata, score, wait=True)
    checkpoints.close()
    return folder / "checkpoints"


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def files_of(place):
    """All files of a checkpoint that anything of ours reads, but the list of them."""
    found = sorted(path for path in place.rglob("*") if path.is_file() and path.parent != place)
    return [path for path in found if path.name != "commit_success.txt"]


def restore(folder, like):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(like), checkpoints.passed_over
    finally:
        checkpoints.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_is_written_and_read_back(tmp_path, name):
    state = some_state(0.25)
    folder = save(tmp_path / name, state)
    assert complete_steps(folder) == [1]
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]
    restored, _ = restore(folder, state)
    assert same(restored.state, state.replace(step=np.int32(1)))
    assert restored.metadata["position"] == 1
    assert same(read_stored_variables(tmp_path / name), state.ema)


def test_a_relative_folder_and_one_behind_a_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real [x]").mkdir()
    (tmp_path / "link").symlink_to("real [x]")
    state = some_state()
    save(tmp_path / "link", state)
    assert find_checkpoint("real [x]") == tmp_path / "real [x]" / "checkpoints" / "1"
    assert same(read_stored_variables("link"), state.ema)


@pytest.mark.slow
def test_every_damaged_file_is_named_and_the_checkpoint_before_is_read(tmp_path):
    """Emptied, cut, overwritten, one bit turned, removed: each file of a checkpoint, none with a wrong result."""
    old, new = some_state(1.0), some_state(2.0)
    folder = save(tmp_path, old, new)
    rng = np.random.default_rng(0)
    files = files_of(folder / "2")
    assert len(files) > 15
    for path in files:
        whole = path.read_bytes()
        turned = bytearray(whole)
        turned[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        noise = rng.integers(0, 256, len(whole), np.uint8).tobytes()
        for damage in (b"", whole[: len(whole) // 2], noise, bytes(turned), None):
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage)
            restored, passed_over = restore(folder, old)
            assert restored.step == 1
            assert same(restored.state, old.replace(step=np.int32(1)))
            (told,) = passed_over
            assert str(folder / "2") in told
            assert path.relative_to(folder / "2").as_posix() in told
        path.write_bytes(whole)
    assert restore(folder, old)[0].step == 2


def test_inference_reads_the_best_that_is_whole_and_says_so(tmp_path, caplog):
    states = [some_state(float(n)) for n in range(3)]
    folder = save(tmp_path, *states, scores=[0.2, 0.7, 0.5])
    assert find_checkpoint(tmp_path) == folder / "2"
    optimizer = next(path for path in files_of(folder / "2") if "optimizer/d/" in path.as_posix())
    optimizer.unlink()  # nothing that inference reads
    assert find_checkpoint(tmp_path) == folder / "2"
    assert not caplog.records
    average = next(path for path in files_of(folder / "2") if "ema/d/" in path.as_posix())
    average.unlink()
    assert same(read_stored_variables(tmp_path), states[2].ema)
    assert f"{average.relative_to(folder / '2').as_posix()} is missing" in caplog.text
    assert f"{folder / '3'} is read instead" in caplog.text
    with pytest.raises(CheckpointError, match="is missing"):
        find_checkpoint(folder / "2")
    shutil.rmtree(folder / "3" / "ema")  # the whole item: the variables as trained are no silent substitute
    assert find_checkpoint(tmp_path) == folder / "1"
    (folder / "1" / "info" / "metadata").write_text("{")
    with pytest.raises(CheckpointError, match="no whole one here"):
        find_checkpoint(tmp_path)


def test_a_checkpoint_without_a_list_is_read_and_its_trouble_named(tmp_path):
    """As version 0.1 wrote them."""
    states = [some_state(1.0), some_state(2.0)]
    folder = save(tmp_path, *states)
    (folder / "2" / "files.json").unlink()
    assert same(restore(folder, states[0])[0].state, states[1].replace(step=np.int32(2)))
    (folder / "2" / "optimizer" / "manifest.ocdbt").write_bytes(b"")
    restored, (told,) = restore(folder, states[0])
    assert restored.step == 1
    assert "optimizer cannot be read" in told
    shutil.rmtree(folder / "2" / "info")
    assert "info/metadata is missing" in restore(folder, states[0])[1][0]


def test_a_damaged_list_is_no_checkpoint(tmp_path):
    state = some_state()
    folder = save(tmp_path, state)
    for text in ("", "[]", "{}", '{"files": {}, "digest": "0"}', "\x00"):
        (folder / "1" / "files.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"files\.json .*no whole one here"):
            restore(folder, state)


def test_scores_that_are_not_numbers_choose_nothing(tmp_path):
    folder = save(tmp_path, some_state(), some_state(1.0), some_state(2.0), scores=[0.1, 0.3, float("nan")])
    assert find_checkpoint(tmp_path) == folder / "2"
    text = (folder / "3" / "info" / "metadata").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["scores"] == {"miou": None}
    assert read_metadata(folder / "3")["scores"] == {"miou": None}


def test_a_run_goes_on_before_a_damaged_checkpoint_and_keeps_it(tmp_path, capsys):
    """The steps are taken anew, the damaged folder stays under another name, and the end is as before."""
    toy_fit(tmp_path)
    folder = tmp_path / "checkpoints"
    end = read_stored_variables(folder / "12")
    before, last = complete_steps(folder)[-2:]
    assert (before, last) == (9, 12)
    (folder / "12" / "variables" / "manifest.ocdbt").write_bytes(b"garbage")
    files = {path.name: path.read_bytes() for path in files_of(folder / "12")}
    capsys.readouterr()
    toy_fit(tmp_path, resume=True)
    said = capsys.readouterr().out
    assert "variables/manifest.ocdbt has 7 bytes" in said
    assert "at step 9 of 12" in said
    assert {path.name: path.read_bytes() for path in files_of(folder / "12.damaged")} == files
    assert same(read_stored_variables(folder / "12"), end)
    assert complete_steps(folder)[-2:] == [9, 12]
