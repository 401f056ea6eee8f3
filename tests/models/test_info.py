"""The records of the registry say what a photograph is brought to."""

import pytest

import cvjax
from cvjax.models import ModelInfo, Preprocessing

FIELDS = {"name": "net", "paper": "1", "year": 2020, "params": 1, "gmacs": None, "params_classes": 1000}


def test_every_model_has_a_preprocessing_at_its_size():
    for name in cvjax.list_models():
        info = cvjax.model_info(name)
        assert info.preprocessing.size == (info.image_size if info.task == "classification" else None)


def test_default_is_imagenets():
    assert ModelInfo(task="classification", image_size=224, **FIELDS).preprocessing == Preprocessing(224, 256)


def test_sizes_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="260 pixels and crops of 288"):
        ModelInfo(task="classification", image_size=260, preprocessing=Preprocessing(288, 288), **FIELDS)
    with pytest.raises(ValueError, match="too short"):
        Preprocessing(256, 224)
    with pytest.raises(ValueError, match="lanczos"):
        Preprocessing(interpolation="lanczos")
