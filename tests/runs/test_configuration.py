"""Command lines and configurations, without running anything."""

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil

import jax
import numpy as np
import pytest
from commands import configure

import cvjax
import experiments
from cvjax.engine.config import as_json, config_from_json, resolve
from cvjax.engine.optim import make_schedule
from cvjax.engine.run import with_steps
from cvjax.errors import ConfigError
from experiments import deeplab_voc, efficientnet_imagenet, faster_rcnn_voc, rcnn_voc, resnet_imagenet, unet_isbi

EXPERIMENTS = [
    module.name for module in pkgutil.iter_modules(experiments.__path__) if not module.ispkg and module.name[0] != "_"
]
PRESETS = deeplab_voc.PRESETS


def _experiment(name: str):
    return importlib.import_module(f"experiments.{name}")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_are_runs_that_can_start(name):
    experiment = _experiment(name)
    assert "quick" in experiment.PRESETS
    for preset, config in experiment.PRESETS.items():
        assert config.workdir == ""  # follows from experiment and preset
        schedule = make_schedule(config.optim, with_steps(config, 45_000).steps)
        assert float(schedule(1)) > 0
        model = config.model.build(num_classes=21)
        if preset.startswith("quick") or preset == "cifar10":
            task = resolve(config.task)(config, tuple(map(str, range(21))))
            jax.eval_shape(lambda key, task=task, model=model: task.init(model, key), jax.random.key(0))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_recipes_are_pages(name):
    """A docstring with a table of the presets, and values; no classes, no functions."""
    experiment = _experiment(name)
    source = inspect.getsource(experiment)
    assert source.count("\n") <= 100
    assert not any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in ast.walk(ast.parse(source)))
    rows = [line.split("|")[1] for line in experiment.__doc__.splitlines() if line.startswith("| ")]
    listed = {preset.strip() for row in rows[2:] for preset in row.split(",")}
    assert listed == experiment.PRESETS.keys()


def test_a_run_is_named_by_experiment_and_preset():
    assert configure(deeplab_voc, ["v1"]) == dataclasses.replace(PRESETS["v1"], workdir="runs/deeplab_voc/v1")
    assert configure(deeplab_voc, ["v1", "--workdir", "here"]).workdir == "here"


def test_fields_override_the_preset():
    argv = ["voc", "--steps", "7", "--optim.schedule", "cosine", "--input.crop", "321", "321"]
    config = configure(deeplab_voc, argv)
    assert config.steps == 7
    assert config.input.crop == (321, 321)
    assert dataclasses.replace(config.optim, schedule="poly") == PRESETS["voc"].optim
    assert config.model == PRESETS["voc"].model


def test_flags_of_a_model_are_its_fields_and_those_of_its_parts():
    argv = "quick --model.output-stride 8 --model.backbone.stage-sizes 1 1 1 1 --model.norm.frozen".split()
    model = configure(deeplab_voc, argv).model.build(num_classes=2)
    assert (model.output_stride, model.backbone.stage_sizes, model.backbone.width) == (8, (1, 1, 1, 1), 32)
    assert (model.norm.momentum, model.norm.frozen) == (0.95, True)


def test_help_says_of_each_field_what_its_class_says(capsys):
    with pytest.raises(SystemExit) as stopped:
        configure(faster_rcnn_voc, ["--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in (
        "DeepLab" not in faster_rcnn_voc.__doc__ and "--model.rois-per-image",
        "Number of regions of an image that train the second stage.",
        "--model.backbone.deformable",
        "--model.norm.momentum",
        "Number of examples a step, over all devices and hosts.",
        "Largest number of boxes that an image may have.",
    ):
        assert part in text, part


def test_another_architecture_keeps_the_options_that_it_has(capsys):
    config = configure(deeplab_voc, ["quick", "--model.name", "deeplabv3_resnet34"])
    assert capsys.readouterr().out == (
        "deeplabv3_resnet34 has no option low_level_features, separable_decoder; left out\n"
    )
    kept = {"aspp_features": 48, "aspp_rates": (2, 4, 6), "dropout": 0.0, "norm": {"momentum": 0.95}}
    assert config.model.options == kept | {"backbone": {"width": 32, "stage_sizes": (2, 1, 1, 1)}}
    names = ["--model.name", "deeplabv2_resnet18", "--model.name", "deeplabv3_resnet34"]
    assert configure(deeplab_voc, ["quick", *names]).model == config.model
    # Another class of backbone has fields of its own, whatever their names.
    config = configure(rcnn_voc, ["quick", "--model.name", "rcnn_alexnet"])
    assert "rcnn_alexnet has no option backbone.stage_sizes, backbone.widths" in capsys.readouterr().out
    assert config.model.options == {
        "window_size": 48,
        "context": 4,
        "rois_per_image": 12,
        "positive_fraction": 0.4,
        "dropout": 0.2,
        "norm": {"momentum": 0.95},
    }


def test_a_run_is_repeated_from_its_config(tmp_path):
    first = configure(rcnn_voc, ["quick", "--steps", "5", "--model.context", "2", "--svm.rounds", "3"])
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format": 2, "run": as_json(first)}))
    assert configure(rcnn_voc, ["--config", path]) == first
    again = configure(rcnn_voc, [f"--config={path}", "--steps", 6, "--model.context", "3"])
    changed = dataclasses.replace(first, steps=6, model=first.model.replace(context=3))
    assert again == changed


def test_what_is_no_config_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json cannot be read \(No such file or directory\); give the config"):
        configure(rcnn_voc, ["--config", tmp_path / "none.json"])
    wheels = '{"format": 2, "run": {"model": {"name": "a", "options": {}}, "wheels": 4}}'
    steps = '{"format": 2, "run": {"steps": true}}'
    bad = {
        '{"run" 1}': "is no JSON from line 1, column 8 on",
        "{}": "holds no run",
        "[1]": "holds no run",
        wheels: "holds wheels, which such a run does not have",
        steps: ": steps is True",
    }
    for text, told in bad.items():
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ConfigError, match=rf"bad\.json ?{told}.*give the config\.json of a run"):
            configure(rcnn_voc, ["--config", tmp_path / "bad.json"])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_survives_json(name):
    for config in _experiment(name).PRESETS.values():
        assert config_from_json(type(config), json.loads(json.dumps(as_json(config)))) == config


@pytest.mark.parametrize("name", cvjax.list_models())
def test_every_architecture_has_flags(name):
    """Its own options, each with a sentence; parsed without flags, the model is the registered one."""
    from cvjax.models.schema import model_fields

    def check(fields):
        for field in fields:
            assert field.sentence.endswith("."), (name, field.name)
            if isinstance(field.kind, list):
                check(field.kind)

    check(model_fields(name))


def test_voc_preset_is_the_papers_recipe():
    config = PRESETS["voc"]
    assert (config.steps, config.batch_size, config.input.crop) == (30_000, 16, (513, 513))
    assert (config.optim.learning_rate, config.optim.power, config.optim.weight_decay) == (0.007, 0.9, 1e-4)
    assert (config.model.get("output_stride"), config.model.get("multi_grid")) == (16, (1, 2, 4))
    assert config.input.train_split == "trainaug"


def test_early_presets_are_their_papers_recipes():
    v1, vgg, resnet = (PRESETS[name] for name in ("v1", "v2_vgg16", "v2_resnet101"))
    assert [(c.steps, c.batch_size) for c in (v1, vgg, resnet)] == [(6_000, 20), (20_000, 10), (20_000, 10)]
    rates = make_schedule(v1.optim, v1.steps)
    assert [float(rates(step)) for step in (0, 1999, 2001, 4001)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
    assert [float(make_schedule(c.optim, c.steps)(10_000)) for c in (vgg, resnet)] == pytest.approx(
        [1e-3 * 0.5**0.9, 2.5e-4 * 0.5**0.9]
    )
    for config in (v1, vgg, resnet):
        assert (config.input.crop, config.loss_stride) == ((321, 321), 8)
        assert (config.optim.name, config.optim.momentum, config.optim.weight_decay) == ("sgd", 0.9, 5e-4)
        assert (config.optim.head_lr_mult, config.optim.bias_lr_mult) == (10, 2)
    assert [c.eval.crf.appearance_sigma for c in (v1, vgg)] == [49, 67]
    assert (resnet.aux_weight, resnet.model.build(num_classes=2).norm.frozen) == (1.0, True)


def test_quick_presets_of_all_generations_differ_by_the_model():
    quick = PRESETS["quick"]
    for name, others in (("quick_v1", {"optim"}), ("quick_v2", {"aux_weight"}), ("quick_v3", set())):
        same = {f.name for f in dataclasses.fields(quick)} - {"model"} - others
        assert all(getattr(PRESETS[name], field) == getattr(quick, field) for field in same)


@pytest.mark.parametrize(
    ("experiment", "preset", "data"), [(deeplab_voc, "voc", "voc_segmentation"), (rcnn_voc, "voc07", "voc_detection")]
)
def test_a_bare_command_takes_voc_where_it_is_and_says_so_where_not(experiment, preset, data, monkeypatch, capsys):
    monkeypatch.setattr("cvjax.cli.commandline.is_available", lambda *given, **more: False)
    assert configure(experiment).data == "scenes"
    assert f"{data} is not prepared or found under" in capsys.readouterr().out
    monkeypatch.setattr("cvjax.cli.commandline.is_available", lambda name, *given, **more: name == data)
    config = configure(experiment, ["--steps", "3"])
    name = experiment.__name__.split(".")[1]
    assert config == dataclasses.replace(experiment.PRESETS[preset], steps=3, workdir=f"runs/{name}/{preset}")
    assert configure(experiment, ["--data", "scenes"]).data == "scenes"
    assert configure(experiment, ["quick"]).data == "scenes"


def test_an_unknown_preset_is_an_error_of_one_line():
    with pytest.raises(ConfigError, match="presets are quick, voc, voc_pod"):
        configure(deeplab_voc, ["fast"])


def test_epochs_are_steps_where_no_steps_are_given():
    config = dataclasses.replace(resnet_imagenet.PRESETS["cifar10"], epochs=2.0)
    assert with_steps(config, 45_000).steps == 704  # 703.125
    assert with_steps(dataclasses.replace(config, steps=7), 45_000).steps == 7
    with pytest.raises(ConfigError, match="--steps, --epochs or --hours"):
        with_steps(dataclasses.replace(config, epochs=None), 45_000)


def test_imagenet_preset_is_flaxs_recipe():
    config = resnet_imagenet.PRESETS["imagenet"]
    assert config.batch_size / 256 * 0.1 == config.optim.learning_rate
    assert config.steps == round(90 * 1_281_167 / 1024)
    schedule = make_schedule(config.optim, config.steps)
    assert schedule(config.steps // 18) == pytest.approx(0.4, rel=1e-3)
    assert (config.optim.name, config.optim.weight_decay) == ("nesterov", 1e-4)
    assert config.model.build(num_classes=2).zero_gamma


def test_phi_scales_efficientnet():
    model = configure(efficientnet_imagenet, ["imagenet", "--model.phi", "2"]).model
    scaled, by_hand = (
        jax.eval_shape(made.build(num_classes=3).init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
        for made in (model, model.replace(phi=None, depth_coefficient=1.44, width_coefficient=1.21))
    )
    assert scaled == by_hand


def test_resnets_options_reach_the_model():
    config = configure(resnet_imagenet, ["quick", "--model.deformable", "3", "4", "--model.shortcut", "C"])
    model = config.model.build(num_classes=2)
    assert (model.deformable, model.shortcut) == ((3, 4), "C")


def test_lists_of_pairs_are_read():
    config = configure(faster_rcnn_voc, ["quick", "--input.sizes", "96", "96", "128", "128"])
    assert config.input.sizes == ((96, 96), (128, 128))
    assert configure(unet_isbi, ["quick"]).model == unet_isbi.PRESETS["quick"].model
