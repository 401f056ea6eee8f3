"""Default options are those of the release that `model_info` names, with the figure that is published of it."""

import pytest

import cvjax
from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.models.releases import _PAPERS, _RELEASES
from cvjax.weights import list_pretrained
from cvjax.weights.layouts.known import architectures


def _with_the_defaults(name: str) -> set[str]:
    """Layouts whose options are the defaults."""
    try:
        known = architectures(name)
    except ConfigError:
        return set()
    model = create_model(name)
    return {architecture.layout for architecture in known if create_model(name, **architecture.options) == model}


@pytest.mark.parametrize("name", cvjax.list_models())
def test_the_release_has_the_default_options(name):
    info, layouts = cvjax.model_info(name), _with_the_defaults(name)
    if info.release == "darknet":  # its files are no state dicts; our darknet nets have no other form
        assert not layouts
        assert name.startswith(("yolov1", "darknet_"))
    elif info.release in ("paper", "own"):
        assert not layouts
    else:
        assert info.release in layouts
    if info.release == "own":
        assert info.figure is None


def test_figures_are_those_of_the_published_files():
    rows = list_pretrained()
    for row in rows:
        info = cvjax.model_info(row.model)
        if row.default and info.release == row.layout:
            assert info.figure == row.figure
    compared = 0
    for name in cvjax.list_models():
        info = cvjax.model_info(name)
        told = {row.figure for row in rows if row.model == name and row.figure}
        if info.figure and told:
            assert info.figure in told or name == "deeplabv3plus_resnet101"  # the paper's, which has no file
            compared += 1
    assert compared >= 60
    assert str(cvjax.model_info("resnet50").figure) == "80.86 top-1, ImageNet (torchvision)"


def test_every_pattern_and_figure_is_of_a_model():
    for pattern, _ in _RELEASES:
        assert cvjax.list_models(pattern=pattern)
    assert set(_PAPERS) <= set(cvjax.list_models())
