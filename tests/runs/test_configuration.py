"""Command lines and configurations, without running anything."""

import dataclasses
import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import experiments
from cvjax.engine.config import as_json, from_json
from cvjax.engine.optim import make_schedule
from cvjax.engine.run import with_steps
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.detection.detector import beside_images
from experiments import _segmenters, deeplab_voc, efficientnet_imagenet, resnet_imagenet
from experiments.deeplab_voc import PRESETS, configure

EXPERIMENTS = [module.name for module in pkgutil.iter_modules(experiments.__path__) if module.name[0] != "_"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_are_runs_that_can_start(name):
    experiment = importlib.import_module(f"experiments.{name}")
    assert "quick" in experiment.PRESETS
    for preset, config in experiment.PRESETS.items():
        assert f"{preset} " in experiment.__doc__
        model = create_model(config.model.name, num_classes=21, **config.model.options())
        schedule = make_schedule(config.optim, with_steps(config, 45_000).steps)
        assert float(schedule(1)) > 0
        if preset.startswith("quick") or preset == "cifar10":
            images = jax.ShapeDtypeStruct((2, *config.input.crop, 3), jnp.float32)
            initialize = functools.partial(model.init, **beside_images(model, images.shape))
            jax.eval_shape(initialize, jax.random.key(0), images)


def test_fields_override_the_preset():
    config = configure(["voc", "--steps", "7", "--optim.schedule", "cosine", "--input.crop", "321", "321"])
    assert config.steps == 7
    assert config.input.crop == (321, 321)
    assert dataclasses.replace(config.optim, schedule="poly") == PRESETS["voc"].optim


def test_voc_preset_is_the_papers_recipe():
    config = PRESETS["voc"]
    assert (config.steps, config.batch_size, config.input.crop) == (30_000, 16, (513, 513))
    assert (config.optim.learning_rate, config.optim.power, config.optim.weight_decay) == (0.007, 0.9, 1e-4)
    assert (config.model.output_stride, config.model.multi_grid) == (16, (1, 2, 4))
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
    assert (resnet.aux_weight, resnet.model.freeze_bn) == (1.0, True)


def test_quick_presets_of_all_generations_differ_by_the_model():
    quick = PRESETS["quick"]
    for name, others in (("quick_v1", {"optim"}), ("quick_v2", {"aux_weight"}), ("quick_v3", set())):
        same = {f.name for f in dataclasses.fields(quick)} - {"model", "workdir"} - others
        assert all(getattr(PRESETS[name], field) == getattr(quick, field) for field in same)


def test_a_bare_command_takes_voc_where_it_is_and_says_so_where_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CVJAX_DATA_DIR", str(tmp_path))
    assert configure([]).data == "scenes"
    assert "no VOC 2012" in capsys.readouterr().out
    monkeypatch.setattr(_segmenters, "find_voc", lambda *_: tmp_path)
    config = configure(["--steps", "3"])
    assert config == dataclasses.replace(PRESETS["voc"], steps=3)
    assert configure(["--data", "scenes"]).data == "scenes"


def test_an_unknown_preset_is_an_error_of_one_line():
    with pytest.raises(ConfigError, match="presets are quick, voc, voc_pod"):
        configure(["fast"])


def test_configurations_survive_json():
    saved = as_json(PRESETS["quick"])
    again = deeplab_voc.DeepLabConfig(**from_json(saved["model"]))
    assert again == PRESETS["quick"].model


def test_epochs_are_steps_where_no_steps_are_given():
    config = dataclasses.replace(resnet_imagenet.PRESETS["cifar10"], epochs=2.0)
    assert with_steps(config, 45_000).steps == 704  # 703.125
    assert with_steps(dataclasses.replace(config, steps=7), 45_000).steps == 7
    with pytest.raises(ConfigError, match="--steps or --epochs"):
        with_steps(dataclasses.replace(config, epochs=None), 45_000)


def test_imagenet_preset_is_flaxs_recipe():
    config = resnet_imagenet.PRESETS["imagenet"]
    assert config.batch_size / 256 * 0.1 == config.optim.learning_rate
    assert config.steps == round(90 * 1_281_167 / 1024)
    schedule = make_schedule(config.optim, config.steps)
    assert schedule(config.steps // 18) == pytest.approx(0.4, rel=1e-3)
    assert (config.optim.name, config.optim.weight_decay, config.model.zero_gamma) == ("nesterov", 1e-4, True)


def test_phi_scales_efficientnet():
    config = efficientnet_imagenet.configure(["imagenet", "--model.phi", "2"])
    assert config.model.options()["depth_coefficient"] == pytest.approx(1.44)
    assert config.model.options()["width_coefficient"] == pytest.approx(1.21)
    assert "phi" not in config.model.options()


def test_resnets_options_reach_the_model():
    config = resnet_imagenet.configure(["quick", "--model.deformable", "3", "4", "--model.shortcut", "C"])
    model = create_model(config.model.name, num_classes=2, **config.model.options())
    assert (model.deformable, model.shortcut) == ((3, 4), "C")
