"""The commands as a person types them: train, evaluate, predict, and what they say to bad input."""

import json
import random
import shutil
import time

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import TINY, command, draw_folder, train

from cvjax.engine.checkpoint import complete_steps
from cvjax.models import create_model
from cvjax.weights import read_state_dict, to_torch, write_state_dict

pytestmark = pytest.mark.slow


def one_line(process) -> str:
    """The only line of stderr, which names the mistake; the status is 2."""
    lines = [line for line in process.err.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2, process.err
    assert len(lines) == 1
    assert "Traceback" not in process.err
    return lines[0]


def metrics(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    scores = [line for line in lines if "val/miou" in line]
    return losses, scores


def test_a_run_leaves_what_a_person_looks_at(trained):
    for name in ("config.json", "metrics.jsonl", "report.json", "report.md", "predictions.png", "curves.png"):
        assert (trained / name).stat().st_size > 100
    assert cv2.imread(str(trained / "predictions.png")).shape[1] > 500
    config = json.loads((trained / "config.json").read_text())
    assert config["model"]["name"] == "deeplabv3plus_resnet18"
    assert config["task"]["class_names"] == ["background", "disc", "square"]
    assert json.loads((trained / "report.json").read_text())["examples"] == 13


def test_evaluate_gives_the_loops_figures(trained, tmp_path):
    process = command("cvjax.cli.evaluate", trained, "--json", tmp_path / "report.json")
    assert process.returncode == 0, process.err
    report, looped = (json.loads((p / "report.json").read_text()) for p in (tmp_path, trained))
    assert {k: report[k] for k in looped} == looped


def test_evaluate_refines_and_scores_borders_as_the_loop_does(folder, tmp_path):
    # Hardly trained: a net that has learned to say background everywhere would leave the CRF nothing to change.
    length = "--steps 3 --eval-every 3 --checkpoint-every 3 --optim.learning-rate 1e-4".split()
    scores = ("--eval.crf", "2,2,6,6,20,2", "--eval.boundary", "--eval.trimap", 2, 4)
    process = train(folder, tmp_path / "run", *length, *scores)
    assert process.returncode == 0, process.err
    looped = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {"boundary_iou", "trimap_miou_2", "trimap_miou_4", "fwiou", "image_miou"} <= looped.keys()
    reports = []
    for crf in ("2,2,6,6,20,2", "off"):
        process = command("cvjax.cli.evaluate", tmp_path / "run", "--crf", crf, "--json", tmp_path / "report.json")
        assert process.returncode == 0, process.err
        reports.append(json.loads((tmp_path / "report.json").read_text()))
    refined, plain = reports
    assert {k: refined[k] for k in looped} == looped
    assert plain["miou"] != looped["miou"]


def test_evaluate_at_scales_flipped_in_windows_and_at_another_stride(trained, tmp_path):
    options = "--scales 0.75 1.0 --flip True --window 32 32 --output-stride 8 --parallel pmap --batch-size 8".split()
    process = command("cvjax.cli.evaluate", trained, *options, "--json", tmp_path / "r.json", devices=2)
    assert process.returncode == 0, process.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["examples"] == 13
    assert 0 < report["miou"] < 1


def test_predict_writes_overlay_and_mask_of_any_size(trained, tmp_path):
    for name, shape in (("wide", (7, 301, 3)), ("dot", (1, 1, 3)), ("gray", (90, 33))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full(shape, 128, np.uint8))
    images = [tmp_path / f"{name}.png" for name in ("wide", "dot", "gray")]
    process = command("cvjax.cli.predict", trained, *images, "--out", tmp_path / "out")
    assert process.returncode == 0, process.err
    for name, size in (("wide", (7, 301)), ("dot", (1, 1)), ("gray", (90, 33))):
        assert cv2.imread(str(tmp_path / "out" / f"{name}_mask.png"), cv2.IMREAD_UNCHANGED).shape[:2] == size
        assert (tmp_path / "out" / f"{name}_overlay.png").exists()


def test_a_run_starts_from_weights_of_the_backbone_and_is_exported(folder, tmp_path):
    sizes = (2, 1, 1, 1)
    model = create_model("resnet18", num_classes=5, width=8, stage_sizes=sizes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    weights = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, leaf.dtype), shapes)
    write_state_dict(tmp_path / "weights.npz", to_torch("resnet18", weights))
    tiny = list(TINY)  # DeepLab v3 has PyTorch's names, and v3+ has none
    decoder = tiny.index("--model.low-level-features")
    del tiny[decoder : decoder + 2]
    tiny[tiny.index("deeplabv3plus_resnet18")] = "deeplabv3_resnet18"
    options = (
        "--model.backbone.stage-sizes",
        *sizes,
        "--init",
        tmp_path / "weights.npz",
        "--optim.learning-rate",
        "1e-9",
    )
    place = ("--input.manual-dir", folder, "--workdir", tmp_path / "run")
    process = command("experiments.deeplab_voc", "quick", *tiny, *place, *options)
    assert process.returncode == 0, process.err
    process = command("cvjax.cli.convert", tmp_path / "run", tmp_path / "out.safetensors")
    assert process.returncode == 0, process.err
    exported = read_state_dict(tmp_path / "out.safetensors")
    np.testing.assert_allclose(exported["backbone.layer3.0.conv2.weight"], 0.01, rtol=1e-3)
    assert exported["classifier.4.weight"].shape == (3, 8, 1, 1)


def test_workers_change_nothing(folder, trained, tmp_path):
    for workers in (1, 4):
        process = train(folder, tmp_path / str(workers), "--input.workers", workers)
        assert process.returncode == 0, process.err
        assert metrics(tmp_path / str(workers))[0] == metrics(trained)[0]


def _two_hosts(folders, workdir, *flags, timeout=300):
    """Two processes of one run, each with its own data; returns them ended, with their output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        port = 29_500 + np.random.default_rng().integers(2000)
        processes = [
            train(
                folder,
                workdir,
                *("--cluster.coordinator", f"127.0.0.1:{port}"),
                *("--cluster.num-processes", 2, "--cluster.process-id", number, *flags),
                wait=False,
            )
            for number, folder in enumerate(folders)
        ]
        for process in processes:
            process.out, process.err = process.communicate(timeout=timeout)
    return processes


def test_hosts_with_other_data_end_with_one_sentence(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    for kind in ("images/012.jpg", "masks/012.png"):
        (other / "val" / kind).unlink()
    first, second = map(one_line, _two_hosts((folder, other), tmp_path / "run"))
    assert first == second
    assert "host 1 (" in first
    assert "it has evaluation split.examples 12 and not 13, evaluation split.content " in first
    assert not (tmp_path / "run").exists()


def test_a_host_without_its_data_ends_all(folder, tmp_path):
    first, second = map(one_line, _two_hosts((folder, tmp_path / "nothing"), tmp_path / "run"))
    assert first == second
    assert first.startswith(f"error: host 1 cannot start: {tmp_path / 'nothing'}: there is no split 'train'")


def test_a_moved_folder_resumes_and_changed_files_do_not(folder, trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    moved = shutil.copytree(folder, tmp_path / "moved")
    mask = moved / "train" / "masks" / "003.png"
    before = mask.read_bytes()
    assert cv2.imwrite(str(mask), np.zeros_like(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)))
    told = one_line(train(moved, workdir, "--resume", "--steps", 12))
    assert "was trained on other data (as many examples of the same classes, but the files' names, order or" in told
    mask.write_bytes(before)
    process = train(moved, workdir, "--resume", "--steps", 12)
    assert process.returncode == 0, process.err
    assert "at step 10 of 12 (was 10): learning rate at this step" in process.out


def test_a_killed_experiment_resumes_as_the_run_never_killed(folder, tmp_path):
    """The experiment's own net, optimizer and loader; `tests/engine/test_loop.py` kills a small one more often."""
    options = "--steps 30 --eval-every 30 --checkpoint-every 2 --log-every 1 --optim.name muon".split()
    assert train(folder, tmp_path / "whole", *options).returncode == 0
    checkpoints = tmp_path / "killed" / "checkpoints"
    process = train(folder, tmp_path / "killed", *options, "--resume", wait=False)
    while not complete_steps(checkpoints) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.Random(0).uniform(0, 0.5))
    process.kill()
    process.communicate()
    assert 2 <= max(complete_steps(checkpoints)) < 30
    finished = train(folder, tmp_path / "killed", *options, "--resume")
    assert finished.returncode == 0, finished.err
    assert metrics(tmp_path / "killed")[0] == metrics(tmp_path / "whole")[0]
    reports = [json.loads((tmp_path / run / "report.json").read_text()) for run in ("killed", "whole")]
    assert reports[0] == reports[1]


def test_a_missing_set_asked_for_by_name_never_falls_back(tmp_path):
    process = command("experiments.deeplab_voc", "voc", "--data-dir", tmp_path, "--workdir", tmp_path / "run")
    assert "VOCtrainval_11-May-2012.tar" in one_line(process)


def test_an_unknown_preset_is_named_with_the_known():
    process = command("experiments.deeplab_voc", "fast")
    assert "there is no preset 'fast'; presets are quick, voc, voc_pod, v1, " in one_line(process)


def test_an_unknown_flag_is_named():
    process = command("experiments.deeplab_voc", "quick", "--optim.learning-rat", "1")
    assert process.returncode == 2
    assert "--optim.learning-rat" in process.err


def test_help_shows_every_field_with_its_default():
    process = command("experiments.deeplab_voc", "--help")
    assert process.returncode == 0
    for field in ("--workdir", "--model.output-stride", "--input.crop", "--optim.schedule", "--cluster.coordinator"):
        assert field in process.out


def test_damaged_records_stop_the_run_or_are_counted(tmp_path):
    folder = draw_folder(tmp_path / "data", train=16, val=8)
    image = folder / "train" / "images" / "003.jpg"
    image.write_bytes(image.read_bytes()[:600])
    mask = folder / "val" / "masks" / "005.png"
    label = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    label[0, 0] = 77
    cv2.imwrite(str(mask), label)
    told = one_line(train(folder, tmp_path / "stops"))
    assert "005.png: label 77" in told  # all masks are looked at before the first step
    process = train(folder, tmp_path / "skips", "--input.on-bad-record", "skip")
    assert process.returncode == 0, process.err
    assert "bad records passed over" in process.out
    report = json.loads((tmp_path / "skips" / "report.json").read_text())
    assert (report["examples"], report["skipped"]) == (7, 1)
    label[0, 0] = 0
    cv2.imwrite(str(mask), label)
    assert "003" in one_line(train(folder, tmp_path / "again"))


def test_a_checkpoint_of_another_model_is_refused_and_survives(folder, trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "copy")
    told = one_line(train(folder, workdir, "--resume", "--steps", 12, "--model.backbone.width", 16))
    assert "is a checkpoint of deeplabv3plus_resnet18 with other variables" in told
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == sorted(
        p.name for p in (trained / "checkpoints").iterdir()
    )


def test_a_crop_that_nobody_can_take_is_refused(folder, tmp_path):
    assert "crop" in one_line(train(folder, tmp_path / "run", "--input.crop", 0, 48))


def test_a_folder_without_checkpoints_is_named(tmp_path):
    assert f"{tmp_path} holds no checkpoint" in one_line(command("cvjax.cli.evaluate", tmp_path))


def test_cvjax_train_is_the_same_run_and_says_its_result_alone(folder, trained, tmp_path):
    place = ("--input.manual-dir", folder, "--workdir", tmp_path / "run", "--quiet", "--json", "-")
    process = command("cvjax", "train", "deeplab_voc", "quick", *TINY, *place)
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert result["workdir"] == str(tmp_path / "run")
    assert (result["step"], result["stopped"]) == (10, False)
    assert result["report"] == json.loads((trained / "report.json").read_text())
    assert "step" not in process.err
    assert metrics(tmp_path / "run")[0] == metrics(trained)[0]
