"""The prepare command: what it prints, and how it ends."""

import subprocess
import sys
import tempfile

import pytest

from cvjax.cli import prepare
from cvjax.engine import command as _main
from cvjax.errors import DataError


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cvjax.cli.prepare", *args], capture_output=True, text=True, check=False
    )


def test_a_mistake_is_one_line_and_status_2(tmp_path):
    ended = command("voc_segmentation", "--data-dir", str(tmp_path), "--no-download")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: voc_segmentation is not in {tmp_path}, ")
    assert ended.stderr.count("\n") == 1


def test_image_folder_is_prepared_and_counted(tmp_path, capsys):
    import cv2
    import numpy as np

    for folder in ("images", "masks"):
        (tmp_path / "mine" / "train" / folder).mkdir(parents=True)
    for number in range(3):
        mask = np.full((8, 9), number, np.uint8)  # The last one's label, 2, is no class.
        cv2.imwrite(str(tmp_path / "mine" / "train" / "images" / f"{number}.png"), np.dstack([mask] * 3))
        cv2.imwrite(str(tmp_path / "mine" / "train" / "masks" / f"{number}.png"), mask)
    (tmp_path / "mine" / "classes.txt").write_text("a\nb\n")
    args = ["image_folder_segmentation", "--data-dir", str(tmp_path / "data"), "--no-progress"]
    args += ["--manual-dir", str(tmp_path / "mine")]
    with pytest.raises(DataError, match=r"^2\.png: label 2 is outside \[0, 2\)"):
        prepare.main(args)
    prepare.main([*args, "--skip-damaged"])
    printed = capsys.readouterr()
    assert printed.err.startswith("skipped: 2.png: label 2 is outside [0, 2)")
    assert printed.out.endswith("image_folder_segmentation/mine/1.0.0: train 2; 1 skipped\n")
    prepare.main([*args, "--void", "2", "--overwrite"])
    assert capsys.readouterr().out.endswith("train 3; 0 skipped\n")


def test_image_folder_needs_its_folder(tmp_path):
    with pytest.raises(ValueError, match="name the folder of images and masks with --manual-dir"):
        prepare.main(["image_folder_segmentation", "--data-dir", str(tmp_path)])


def test_run_keeps_the_traceback_of_bugs(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["cvjax", "a"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def mistaken() -> None:
        raise DataError("a.jpg: damaged; fetch it again.")

    def broken() -> None:
        raise ValueError("a bug")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        _main.run_command(mistaken)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: a.jpg: damaged; fetch it again.\n"
    with pytest.raises(SystemExit) as ended:
        _main.run_command(broken)
    assert ended.value.code == 1
    (kept,) = tmp_path.iterdir()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ValueError: a bug; this is a bug of cvjax")
    assert str(kept) in line
    assert "--traceback" in line
    assert 'raise ValueError("a bug")' in kept.read_text()
    monkeypatch.setattr(sys, "argv", ["cvjax", "a", "--traceback"])
    with pytest.raises(SystemExit) as ended:
        _main.run_command(broken)
    assert ended.value.code == 1
    assert 'raise ValueError("a bug")' in capsys.readouterr().err
    assert sys.argv == ["cvjax", "a"]
    with pytest.raises(SystemExit) as ended:
        _main.run_command(interrupted)
    assert ended.value.code == 130
