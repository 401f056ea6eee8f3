"""DeepLab and FCN from files of PyTorch's best-known releases: the same numbers, and the weights back."""

import json

import _reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import published_files
import pytest
from agreement import Agreement

from cvjax.errors import ConfigError
from cvjax.models import create_model
from cvjax.ops.resize import resize
from cvjax.weights import from_torch, to_torch
from cvjax.weights.convert import recognize
from cvjax.weights.layouts.known import architectures

# The reference's net, our model, and the layout that the file is in.
NETS = (
    ("vainf_deeplabv3plus_resnet50", "deeplabv3plus_resnet50", "vainf"),
    ("vainf_deeplabv3plus_resnet101", "deeplabv3plus_resnet101", "vainf"),
    ("vainf_deeplabv3_resnet50", "deeplabv3_resnet50", "vainf"),
    ("smp_deeplabv3plus_resnet50", "deeplabv3plus_resnet50", "smp"),
    ("smp_deeplabv3_resnet50", "deeplabv3_resnet50", "smp"),
    ("mmseg_deeplabv3plus_r50_d8", "deeplabv3plus_resnet50", "mmsegmentation"),
    ("mmseg_deeplabv3_r50_d8", "deeplabv3_resnet50", "mmsegmentation"),
    ("mmseg_fcn_r50_d8", "fcn_resnet50", "mmsegmentation"),
    ("pytorch_fcn_fcn32s", "fcn32s_vgg16", "caffe"),
    ("pytorch_fcn_fcn16s", "fcn16s_vgg16", "caffe"),
    ("pytorch_fcn_fcn8s", "fcn8s_vgg16", "caffe"),
    ("pytorch_fcn_fcn8satonce", "fcn8s_vgg16", "wkentaro_at_once"),
    ("kazuto_deeplabv2_resnet101", "deeplabv2_resnet101", "kazuto1011_one_scale"),
    ("kazuto_deeplabv2_resnet101_msc", "deeplabv2_resnet101", "kazuto1011"),
)
# The file cannot tell it from another one, so the user does.
TOLD = {"wkentaro_at_once"}
# Modules whose outputs are stored, by the name that they have there.
INNER = {
    "aspp": "tap_aspp",
    "classifier": "scores",
    "head": "scores",
    "aux_head": "aux_scores",
    "score": "tap_score_fr",
}
STAGES = ("stem", "stage1", "stage4")


def _outputs(model, variables, images, taps):
    """What a net computes on the way, and its logits, by the names of the reference's archives.

    `taps` says whether maps of the backbone are wanted, which takes as long to compile again.
    """
    train = getattr(model, "aux", False)

    def run(variables, images):
        logits, state = model.apply(
            variables, images, train=train, mutable=["intermediates"], capture_intermediates=lambda *_: True
        )
        outputs = {name: inner["__call__"] for name, inner in state["intermediates"].items() if "__call__" in inner}
        maps = model.apply(variables, images, method="features") if taps else {}
        return logits[0] if train else logits, outputs, maps

    logits, outputs, maps = jax.tree.map(np.asarray, jax.jit(run)(variables, images))
    found = {INNER[name]: values[0] for name, values in outputs.items() if name in INNER}
    found |= {f"tap_{stage}": maps[stage] for stage in STAGES if stage in maps}
    # The classifiers of DeepLab v2 are called once for each scale.
    branches = [outputs[f"classifier_{place}"] for place in range(4) if f"classifier_{place}" in outputs]
    for scale, scores in zip(("1", "0.75", "0.5"), zip(*branches)):
        found[f"scores_at_{scale}"] = sum(scores)
        # The module there returns the maximum of all on the grid of the largest.
        here = resize(found[f"scores_at_{scale}"], found["scores_at_1"].shape[1:3])
        found["scores"] = np.maximum(found.get("scores", -np.inf), here)
    return found | {"logits": logits, "logits_every4": logits[:, ::4, ::4]}


@pytest.mark.slow
@pytest.mark.parametrize(("net", "name", "layout"), NETS, ids=[row[0] for row in NETS])
def test_a_net_gives_its_releases_numbers(net, name, layout, shared_dir, tmp_path):
    folder = shared_dir / "reference" / "torch"
    facts = json.loads((folder / "index.json").read_text())[net]
    _, stored = reference.load(folder, net)
    opened = published_files.open_torch(folder, net, tmp_path, layout=layout if layout in TOLD else None)
    assert opened.model == name
    assert f"in the layout of {layout}" in opened.whose
    state, variables, options = opened.state_dict, opened.variables, opened.options
    if layout == "mmsegmentation":
        # Frozen statistics, no dropout: the training pass equals evaluation, and has the auxiliary scores.
        options |= {"dropout": 0.0, "aux_dropout": 0.0, "norm": {"frozen": True}}
    model = create_model(name, num_classes=opened.num_classes, **options)
    assert getattr(model, "aux", False) == (layout == "mmsegmentation")
    compared, agrees = set(), Agreement(net, name, layout)
    for key, shape in facts["inputs"].items():
        suffix, images = key.removeprefix("input"), reference.images(tuple(shape), key)
        for output, ours in _outputs(model, variables, images, taps=not suffix).items():
            there = output.replace("_every4", f"{suffix}_every4") if "_every4" in output else output + suffix
            if there not in stored or (output == "tap_stem" and net.startswith("kazuto")):  # theirs is pooled
                continue
            compared.add(there)
            limit = max(1e-4, 10 * facts["float32_error"].get(there, 0.0))
            agrees(ours[..., : stored[there].shape[-1]], stored[there], limit)
    assert {there for there in facts["outputs"] if not there.startswith("tap_")} <= compared
    back = to_torch(name, variables, layout=layout)
    assert back.keys() == state.keys()
    assert all(np.array_equal(state[key], back[key]) and state[key].dtype == back[key].dtype for key in state)


TINY = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
SMALL = {"aspp_features": 4}
FAST = (
    ("deeplabv3plus_resnet50", "vainf", SMALL),
    ("deeplabv3plus_resnet50", "smp", SMALL),
    ("deeplabv3plus_resnet50", "mmsegmentation", SMALL),
    ("deeplabv3_resnet50", "vainf", SMALL),
    ("deeplabv3_resnet50", "smp", SMALL),
    ("deeplabv3_resnet50", "mmsegmentation", SMALL),
    ("fcn_resnet50", "mmsegmentation", {}),
    ("deeplabv2_resnet101", "kazuto1011", {}),
    ("deeplabv2_resnet101", "kazuto1011_one_scale", {}),
)


def _drawn(name, layout, **changes):
    """Random variables of a small net with the options of a layout."""
    options = dict(recognize(name, {}, layout)[0].options)
    options |= changes | {"backbone": {**options.get("backbone", {}), **TINY}}
    model = create_model(name, num_classes=3, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 9, 9, 3)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)


def _same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize(("name", "layout", "changes"), FAST, ids=[f"{row[1]}-{row[0]}" for row in FAST])
def test_a_layout_is_recognized_and_given_back(name, layout, changes):
    variables = _drawn(name, layout, **changes)
    state = to_torch(name, variables, layout=layout)
    assert recognize(name, state)[0].layout == layout
    assert _same(from_torch(name, state, variables), variables)


def test_concatenations_are_in_the_publishers_order():
    """VainF joins the low-level map first, mmsegmentation the pooled branch first; here both come last."""
    variables = _drawn("deeplabv3plus_resnet50", "vainf", **SMALL)
    kernel = variables["params"]["refine_0"]["conv"]["kernel"].transpose(3, 2, 0, 1)
    there = to_torch("deeplabv3plus_resnet50", variables, layout="vainf")["classifier.classifier.0.weight"]
    np.testing.assert_array_equal(there, np.concatenate([kernel[:, 4:], kernel[:, :4]], axis=1))
    variables = _drawn("deeplabv3_resnet50", "mmsegmentation")
    kernel = variables["params"]["aspp"]["project"]["conv"]["kernel"].transpose(3, 2, 0, 1)
    there = to_torch("deeplabv3_resnet50", variables, layout="mmsegmentation")["decode_head.bottleneck.conv.weight"]
    np.testing.assert_array_equal(there, np.concatenate([kernel[:, -512:], kernel[:, :-512]], axis=1))


def test_lightnings_prefix_older_names_and_leftovers_of_segmentation_models_pytorch(caplog):
    variables = _drawn("deeplabv3_resnet50", "smp", **SMALL)
    state = to_torch("deeplabv3_resnet50", variables, layout="smp")
    older = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    for now, before in older.items():
        state = {key.replace(now, before): value for key, value in state.items()}
    state = {f"model.{key}": value for key, value in state.items()} | {"model.encoder.fc.weight": np.zeros((5, 8))}
    assert _same(from_torch("deeplabv3_resnet50", state, variables), variables)
    assert "does not use encoder.fc.weight" in caplog.text


def test_a_layout_that_the_file_cannot_tell_is_told():
    names = {architecture.layout: architecture for architecture in architectures("fcn8s_vgg16")}
    assert names["wkentaro_at_once"].table == names["caffe"].table
    assert recognize("fcn8s_vgg16", {"score_fr.weight": np.zeros(1)})[0].layout == "caffe"
    told, _ = recognize("fcn8s_vgg16", {"score_fr.weight": np.zeros(1)}, "wkentaro_at_once")
    assert told.options == {"skip_scales": (0.01, 0.0001)}
    with pytest.raises(ConfigError, match="no layout 'keras'; it has caffe, caffe_at_once, wkentaro_at_once"):
        from_torch("fcn8s_vgg16", {}, layout="keras")
