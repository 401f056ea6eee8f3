"""The inspect command: what it prints and writes, and how it ends."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from cvjax.cli import inspect as command
from cvjax.errors import ConfigError


def test_prints_and_writes(tmp_path, capsys):
    json_path, png_path = tmp_path / "new" / "a.json", tmp_path / "a.png"
    options = "--size 96 64 --num-classes 7 --depth 1 --options output_stride=8 deep_stem=True"
    command.main(["resnet18", *options.split(), "--json", str(json_path), "--png", str(png_path)])
    printed = capsys.readouterr().out
    assert "resnet18 at 96x64: 11.2 M parameters" in printed
    assert "stage4_1" in printed
    assert "stage4_1/conv1" not in printed
    read = json.loads(json_path.read_text())
    assert read["image_size"] == [96, 64]
    assert read["layers"][-1]["output_shape"] == [7]
    assert [layer["output_shape"] for layer in read["layers"] if layer["name"] == "stage4_1/conv2"] == [[12, 8, 512]]
    with Image.open(png_path) as picture:
        assert picture.width == 1440


def test_options_of_the_backbone(capsys):
    options = ["backbone.width=8", "backbone.stage_sizes=(1, 1, 1, 1)", "aspp_features=8"]
    command.main(["deeplabv3_resnet18", "--size", "33", "--depth", "2", "--options", *options])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[-7] for line in lines if line[:1] == ["backbone/stem_conv_0"]] == ["17x17x8"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--size", "0"], "at least 1x1 pixels, not 0x0"),
        (["--size", "1", "2", "3"], "a side, or height and width, not 1 2 3"),
        (["--depth", "0"], "--depth is at least 1"),
        (["--options", "strides=2"], "no option 'strides'"),
        (["--options", "deep_stem"], "NAME=VALUE, not 'deep_stem'"),
        (["--options", "image_size=2"], "NAME=VALUE, not 'image_size=2'"),
        (["--options", "norm.=2"], "NAME=VALUE, not 'norm.=2'"),
        (["--options", "norm=2", "norm.momentum=2"], "cannot have norm.momentum as well"),
        (["--options", "norm.decay=2"], "norm of resnet18 has no option 'decay'"),
    ],
)
def test_mistakes_are_one_sentence(args, message):
    with pytest.raises(ConfigError, match=message):
        command.main(["resnet18", *args])


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        command.main(["resnet18", "--size", "32", "--json", str(tmp_path / "file" / "a.json")])


def test_an_unknown_model_is_one_line_and_status_2():
    ended = subprocess.run(
        [sys.executable, "-m", "cvjax.cli.inspect", "resnet19"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: there is no model 'resnet19'; did you mean resnet18")
    assert ended.stderr.count("\n") == 1
