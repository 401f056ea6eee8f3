"""Detectors from files as others published them: the same numbers, and the weights back as they were."""

import json
import zlib

import _reference as torch_reference
import caffe_layers
import caffe_reference as caffe
import jax
import jax.numpy as jnp
import numpy as np
import public_reference as public
import published_files
import pytest
from agreement import Agreement

from cvjax.errors import CheckpointError
from cvjax.models import create_model
from cvjax.models.detection.detector import beside_images
from cvjax.models.detection.rcnn import _describe
from cvjax.ops.resize import resize
from cvjax.weights import from_torch, to_torch
from cvjax.weights.convert import recognize
from cvjax.weights.layouts.folds_detectors import Objectness, Unfitted
from cvjax.weights.layouts.known import architectures
from cvjax.weights.layouts.orders import BoxOrder, PyramidOrder

WEIGHTS = np.float32([10, 10, 5, 5])
XYWH = [1, 0, 3, 2]  # places of x, y, w, h in (y, x, h, w)
BOXES = {"bbox_pred.weight", "bbox_pred.bias"}
SCORES = {"rpn_cls_score.weight", "rpn_cls_score.bias"}


def _whole(place, folder, name, net, folded=frozenset(), layout="caffe", told=None):
    """(model, variables, state dict) of a net from a file, of which only the folded weights do not come back."""
    opened = published_files.open_caffe(folder, net, place, name=told)
    return (*_imported(name, opened, layout, folded), opened.state_dict)


def _imported(name, opened, layout, folded):
    assert opened.model == name
    assert f"in the layout of {layout}" in opened.whose
    model = create_model(name, num_classes=opened.num_classes, **opened.options)
    state, back = opened.state_dict, to_torch(name, opened.variables, layout=layout)
    assert back.keys() == state.keys()
    assert {key for key in state if not np.array_equal(state[key], back[key])} == folded
    return model, opened.variables


def _faster(model, images, boxes):
    """The map, scores, deltas and anchors of the proposal network, and logits and deltas of boxes; a method."""
    maps = model._maps(images, False)
    return maps[0], model._levels(images, maps)[0], model._second_stage(maps, boxes, False)


def _fast(model, images, boxes):
    maps = model.features(images)
    features = maps.get("stage5", maps.get("conv5"))
    return features, model.classify(features, boxes)


def _regions(outputs):
    """Caffe's regions as ours: half-open."""
    return outputs["input:rois"][None, :, 1:] + np.float32([0, 0, 1, 1])


@pytest.mark.slow
def test_spp_net(shared_dir, tmp_path):
    folder = shared_dir / "reference" / "caffe"
    images, outputs = caffe.reference(folder, "sppnet_zf5")
    model, variables, _ = _whole(tmp_path, folder, "zfnet_spp", "sppnet_zf5")
    agrees = Agreement("sppnet_zf5", "zfnet_spp", "caffe")
    maps = model.apply(variables, images, method="features")
    agrees(maps["conv5"], outputs["conv5"])
    agrees(model.apply(variables, images), outputs["fc8"])

    # A file of the detector is one of the classifier: which it is, the user tells.
    detector, variables, _ = _whole(tmp_path, folder, "sppnet_zf5", "sppnet_zf5", told="sppnet_zf5")
    agrees = Agreement("sppnet_zf5/detector", "sppnet_zf5", "caffe")
    maps = detector.apply(variables, images, method="features")
    agrees(maps["conv5"], outputs["conv5"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "net", "stored", "last", "layout"),
    [
        ("faster_rcnn_zf", "faster_rcnn_zf_end2end", "faster_rcnn_zf_end2end", "conv5", "caffe"),
        # It differs in the name of a layer, and so in the proposals' drawn weights alone.
        ("faster_rcnn_zf", "faster_rcnn_zf_alt_opt", "faster_rcnn_zf_end2end", "conv5", "caffe_alt_opt"),
        ("faster_rcnn_vgg16", "faster_rcnn_vgg16_end2end", "faster_rcnn_vgg16_end2end", "conv5_3", "caffe"),
        ("faster_rcnn_vgg16", "faster_rcnn_vgg16_alt_opt", "faster_rcnn_vgg16_end2end", "conv5_3", "caffe"),
    ],
)
def test_faster_rcnn_of_caffe(name, net, stored, last, layout, shared_dir, tmp_path):
    folder = shared_dir / "reference" / "caffe"
    model, variables, _ = _whole(tmp_path, folder, name, net, BOXES | SCORES, layout)
    agrees = Agreement(net, name, layout)
    images, outputs = caffe.reference(folder, stored)
    features, level, (logits, deltas) = model.apply(variables, images, _regions(outputs), method=_faster)
    agrees(features, outputs[last])
    if layout == "caffe":
        background, objects = np.split(outputs["rpn_cls_score"], 2, axis=-1)
        agrees(level.scores, (objects - background).reshape(1, -1))
        agrees(level.deltas, outputs["rpn_bbox_pred"].reshape(1, -1, 4))
    agrees(logits[0], outputs["cls_score"])
    agrees(np.asarray(deltas[0]) / WEIGHTS, outputs["bbox_pred"].reshape(5, -1, 4))


@pytest.mark.slow
def test_twelve_anchors_of_coco(shared_dir, tmp_path):
    folder = shared_dir / "reference" / "caffe"
    net = "faster_rcnn_vgg16_coco"
    model, variables, state = _whole(tmp_path, folder, "faster_rcnn_vgg16", net, BOXES | SCORES, "caffe_coco")
    agrees = Agreement(net, "faster_rcnn_vgg16", "caffe_coco")
    images, outputs = caffe.reference(folder, "faster_rcnn_vgg16_end2end")
    given = {"data": images.transpose(0, 3, 1, 2), "rois": outputs["input:rois"]}
    theirs = caffe_layers.run(json.loads((folder / "facts" / f"{net}.json").read_text())["layers"], state, given)
    features, level, (logits, deltas) = model.apply(variables, images, _regions(outputs), method=_faster)
    agrees(features, outputs["conv5_3"])
    scores = theirs["rpn_cls_score"].transpose(0, 2, 3, 1)
    agrees(level.scores, (scores[..., 12:] - scores[..., :12]).reshape(1, -1))
    agrees(logits[0], theirs["cls_score"])
    agrees(np.asarray(deltas[0]) / WEIGHTS, theirs["bbox_pred"].reshape(5, -1, 4))
    sides = level.anchors[:12, 2:] - level.anchors[:12, :2]
    assert sides[4:8].tolist() == [[64, 64], [128, 128], [256, 256], [512, 512]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "net", "last"),
    [("fast_rcnn_alexnet", "fast_rcnn_caffenet", "conv5"), ("fast_rcnn_vgg16", "fast_rcnn_vgg16", "conv5_3")],
)
def test_fast_rcnn_of_caffe(name, net, last, shared_dir, tmp_path):
    folder = shared_dir / "reference" / "caffe"
    model, variables, _ = _whole(tmp_path, folder, name, net, BOXES)
    agrees = Agreement(net, name, "caffe")
    images, outputs = caffe.reference(folder, net)
    features, (logits, deltas) = model.apply(variables, images, _regions(outputs), method=_fast)
    agrees(features, outputs[last])
    agrees(logits[0], outputs["cls_score"])
    # Ours has no rows of the background.
    agrees(np.asarray(deltas[0]) / WEIGHTS, outputs["bbox_pred"].reshape(5, -1, 4)[:, 1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "net", "layout", "last"),
    [
        ("fast_rcnn_vgg16", "fast_rcnn_vgg16_svd", "caffe_svd", "conv5_3"),
        ("fast_rcnn_vgg_cnn_m", "fast_rcnn_vgg_cnn_m", "caffe", "conv5"),
        ("fast_rcnn_alexnet", "fast_rcnn_caffenet", "caffe", "conv5"),
    ],
)
def test_fast_rcnn_layer_by_layer(name, net, layout, last, shared_dir, tmp_path):
    """Of the first two nets no outputs are stored; the third has some, and is given odd maps here."""
    folder = shared_dir / "reference" / "caffe"
    model, variables, state = _whole(tmp_path, folder, name, net, BOXES, layout)
    agrees = Agreement(f"{net}/layers", name, layout)
    images = caffe.images([1, 3, 117, 150], 50 if last == "conv5" else 1)
    rois = np.float32([[0, 0, 0, 149, 116], [0, 12, 16, 39, 50], [0, 71, 41, 102, 76], [0, 1, 10, 37, 42]])
    given = {"data": images.transpose(0, 3, 1, 2), "rois": rois}
    theirs = caffe_layers.run(json.loads((folder / "facts" / f"{net}.json").read_text())["layers"], state, given)
    features, (logits, deltas) = model.apply(
        variables, images, rois[None, :, 1:] + np.float32([0, 0, 1, 1]), method=_fast
    )
    agrees(features, theirs[last].transpose(0, 2, 3, 1))
    agrees(logits[0], theirs["cls_score"])
    agrees(np.asarray(deltas[0]) / WEIGHTS, theirs["bbox_pred"].reshape(4, -1, 4)[:, 1:])


@pytest.mark.slow
def test_rcnn_sees_windows_as_caffenet_does(shared_dir, tmp_path):
    folder = shared_dir / "reference" / "caffe"
    detector, variables, state = _whole(tmp_path, folder, "rcnn_alexnet", "rcnn_pascal_finetune")
    agrees = Agreement("rcnn_pascal_finetune", "rcnn_alexnet", "caffe")
    images = caffe.images([1, 3, 227, 227], 50)
    facts = json.loads((folder / "facts" / "rcnn_pascal_finetune.json").read_text())
    theirs = caffe_layers.run(facts["layers"], state, {"data": images.transpose(0, 3, 1, 2)})

    def classify(detector, windows):
        return detector.classifier(_describe(detector.backbone, windows, 6)[1])

    logits = detector.apply(variables, images[:, None], method=classify)
    agrees(logits[0], theirs["fc8_pascal"])
    # CaffeNet's stored numbers, of layers with the same names and so the same drawn weights.
    trace = json.loads((folder / "outputs" / "bvlc_reference_caffenet.json").read_text())["trace"]
    stored = next(layer for layer in trace if layer["layer"] == "fc7")
    hidden = theirs["fc7"][0, stored["at"]]
    np.testing.assert_allclose(hidden, np.maximum(stored["values"], 0), rtol=1e-4)


def _port(place, folder, net, layout, folded):
    _, outputs = torch_reference.load(folder, net)
    opened = published_files.open_torch(folder, net, place)
    model, variables = _imported("faster_rcnn_vgg16", opened, layout, folded)
    return model, variables, outputs, torch_reference.images(tuple(public.index(folder, net)["input"]))


@pytest.mark.slow
def test_chenyuntc_end_to_end(shared_dir, tmp_path):
    folder = shared_dir / "reference" / "torch"
    folded = {"rpn.score.weight", "rpn.score.bias"}
    model, variables, outputs, images = _port(tmp_path, folder, "chenyuntc_fasterrcnn_vgg16", "chenyuntc", folded)
    agrees = Agreement("chenyuntc_fasterrcnn_vgg16", "faster_rcnn_vgg16", "chenyuntc")
    features, level, (logits, deltas) = model.apply(variables, images, outputs["boxes_xyxy"], method=_faster)
    agrees(features[:, ::4, ::4], outputs["features_every4"])
    np.testing.assert_allclose(level.anchors, outputs["anchors_yxyx"][:, XYWH], atol=1e-4)
    background, objects = np.moveaxis(outputs["rpn_scores_bg_fg"], -1, 0)
    agrees(level.scores, objects - background)
    agrees(jax.nn.sigmoid(level.scores), outputs["rpn_probabilities"])
    agrees(level.deltas, outputs["rpn_deltas_yxhw"][..., XYWH])
    agrees(logits.reshape(32, -1), outputs["class_logits"])
    theirs = outputs["box_deltas_yxhw"].reshape(32, -1, 4)[..., XYWH]
    agrees(deltas.reshape(32, -1, 4), theirs)

    proposals = model.apply(variables, images, method="propose")
    found = model.apply(variables, images)
    for image in range(2):
        theirs = outputs["rois_yxyx"][outputs["rois_image"] == image][:, XYWH]
        np.testing.assert_allclose(proposals.boxes[image][proposals.valid[image]], theirs, atol=0.01)
        boxes = outputs[f"detections{image}_yxyx"][:, XYWH]
        scores, labels = (outputs[f"detections{image}_{kind}"] for kind in ("scores", "labels"))
        order = np.argsort(-scores, kind="stable")
        # A box beyond the image, which clipping leaves empty, is no detection here.
        order = order[(boxes[order, 2:] > boxes[order, :2]).all(axis=1)]
        kept = found.valid[image]
        np.testing.assert_array_equal(found.classes[image][kept], labels[order])
        np.testing.assert_allclose(found.scores[image][kept], scores[order], atol=1e-4)
        np.testing.assert_allclose(found.boxes[image][kept], boxes[order], atol=0.01)


@pytest.mark.slow
def test_jwyang(shared_dir, tmp_path):
    folder = shared_dir / "reference" / "torch"
    folded = {"RCNN_rpn.RPN_cls_score.weight", "RCNN_rpn.RPN_cls_score.bias"}
    model, variables, outputs, images = _port(tmp_path, folder, "jwyang_fasterrcnn_vgg16", "jwyang", folded)
    agrees = Agreement("jwyang_fasterrcnn_vgg16", "faster_rcnn_vgg16", "jwyang")

    def heads(model, images, regions):
        maps = model._maps(images, False)
        return maps[0], model._levels(images, maps)[0], model.predictor(model.backbone.head(regions)[:, 0, 0])

    rng = np.random.default_rng(zlib.crc32((torch_reference.SALT + "regions").encode()))
    regions = rng.uniform(0, 1, (8, 7, 7, 512)).astype(np.float32)
    features, level, (logits, deltas) = model.apply(variables, images, regions, method=heads)
    agrees(features[:, ::4, ::4], outputs["features_every4"])
    inclusive = level.anchors[:9] - np.float32([0, 0, 1, 1])
    np.testing.assert_array_equal(inclusive, outputs["anchors_of_cell_xyxy"])
    background, objects = np.split(outputs["rpn_cls_score"], 2, axis=-1)
    agrees(level.scores, (objects - background).reshape(2, -1))
    agrees(level.deltas, outputs["rpn_bbox_pred"].reshape(2, -1, 4))
    agrees(logits, outputs["class_logits"])
    agrees(deltas.reshape(8, -1), outputs["box_deltas"])


@pytest.mark.slow
def test_torchvision_end_to_end(shared_dir, tmp_path):
    folder, net = shared_dir / "reference" / "torch", "torchvision_fasterrcnn_resnet50_fpn_detections"
    _, outputs = torch_reference.load(folder, net)
    opened = published_files.open_torch(folder, net, tmp_path)
    model, variables = _imported("fasterrcnn_resnet50_fpn", opened, "torchvision", set())
    rng = np.random.default_rng(zlib.crc32((torch_reference.SALT + "image").encode()))
    image = rng.uniform(0, 1, (15, 20, 3)).astype(np.float32).repeat(8, axis=0).repeat(8, axis=1)
    prepared = public.index(folder, net)["normalisation"]
    image = (image - np.float32(prepared["mean"])) / np.float32(prepared["std"])
    images = jnp.pad(resize(jnp.asarray(image[None]), (800, 1066)), ((0, 0), (0, 0), (0, 22), (0, 0)))
    found = jax.jit(model.apply)(variables, images, np.int32([[800, 1066]]))
    assert found.valid.all()
    np.testing.assert_array_equal(found.classes[0] + 1, outputs["labels"])
    np.testing.assert_allclose(found.scores[0], outputs["scores"], atol=1e-4)
    back = np.float32([160 / 1066, 120 / 800] * 2)
    np.testing.assert_allclose(np.asarray(found.boxes[0]) * back, outputs["boxes_xyxy"], atol=0.01)


# As narrow as the detectors' layouts allow.
FIVE = {"channels": (4, 4, 4, 4, 4), "hidden": 8}
VGG = {"widths": (2, 2, 3, 3, 4), "hidden": 8}
LAYOUTS = (
    ("zfnet_spp", "caffe", {"channels": (4, 4, 4, 4, 4), "hidden": 8}),
    ("sppnet_zf5", "caffe", {"backbone": FIVE}),
    ("rcnn_alexnet", "caffe", {"backbone": FIVE}),
    ("fast_rcnn_vgg16", "caffe", {"backbone": VGG}),
    ("fast_rcnn_vgg16", "caffe_svd", {"backbone": VGG, "svd_ranks": (3, 5)}),
    ("fast_rcnn_alexnet", "caffe", {"backbone": FIVE}),
    ("fast_rcnn_vgg_cnn_m", "caffe", {"backbone": FIVE | {"hidden": (8, 6)}}),
    ("faster_rcnn_zf", "caffe", {"backbone": FIVE, "rpn_channels": 3}),
    ("faster_rcnn_zf", "caffe_alt_opt", {"backbone": FIVE, "rpn_channels": 3}),
    ("faster_rcnn_vgg16", "caffe", {"backbone": VGG, "rpn_channels": 3}),
    ("faster_rcnn_vgg16", "caffe_coco", {"backbone": VGG, "rpn_channels": 512}),
    ("faster_rcnn_vgg16", "chenyuntc", {"backbone": VGG, "rpn_channels": 3}),
    ("faster_rcnn_vgg16", "jwyang", {"backbone": VGG, "rpn_channels": 3}),
)


def _narrow(name, layout, narrow):
    """(model, drawn variables) of a narrow net with the options of a layout."""
    architecture = next(found for found in architectures(name) if found.layout == layout)
    options = dict(architecture.options)
    if "backbone" in narrow:
        options["backbone"] = dict(options.get("backbone", {})) | narrow["backbone"]
    model = create_model(name, num_classes=3, **{**narrow, **options})
    side = 224 if name == "zfnet_spp" else 96
    shape = (1, side, side, 3)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), **beside_images(model, shape)))
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)


@pytest.mark.parametrize(("name", "layout", "narrow"), LAYOUTS, ids=[f"{row[0]}-{row[1]}" for row in LAYOUTS])
def test_a_narrow_net_comes_back_from_every_layout(name, layout, narrow):
    _, variables = _narrow(name, layout, narrow)
    for stage in ("svm", "regressor") if name in ("sppnet_zf5", "rcnn_alexnet") else ():
        variables["params"][stage] = jax.tree.map(np.zeros_like, variables["params"][stage])
    state = to_torch(name, variables, layout=layout)
    assert recognize(name, state)[0].layout == layout
    again = from_torch(name, state, variables)
    scaled = "regressor" if name.startswith("fast_rcnn") else "deltas" if layout.startswith("caffe") else ""
    for path, leaf in jax.tree.leaves_with_path(variables):
        there = again
        for part in path:
            there = there[part.key]
        folded = scaled in [part.key for part in path] and "rpn" not in [part.key for part in path]
        np.testing.assert_allclose(there, leaf, rtol=3e-7 if folded else 0)
        assert there.shape == leaf.shape


def test_scores_of_two_kinds_become_one_and_come_back():
    rng = np.random.default_rng(0)
    objects, background = rng.standard_normal((2, 3, 4, 1, 1)).astype(np.float32)
    first = {"a.weight": np.concatenate([background, objects]), "b.weight": objects}
    folded, said = Objectness("a").fold(first)
    np.testing.assert_array_equal(folded["a.weight"], objects - background)
    assert folded["b.weight"] is objects
    assert len(said) == 1
    mixed = {"a.weight": np.stack([background, objects], axis=1).reshape(6, 4, 1, 1)}
    np.testing.assert_array_equal(Objectness("a", side_by_side=True).fold(mixed)[0]["a.weight"], objects - background)
    for fold in (Objectness("a"), Objectness("a", side_by_side=True)):
        np.testing.assert_array_equal(fold.fold(fold.unfold({"a.weight": objects}))[0]["a.weight"], objects)


def test_stages_that_are_fitted_have_no_place_in_a_file():
    rng = np.random.default_rng(0)
    state = {"fc8.weight": rng.standard_normal((4, 5)), "fc6.weight": rng.standard_normal((2, 7))}
    folded, _ = Unfitted("fc8").fold(state)
    assert folded["svm.weight"].shape == (3, 5)
    assert folded["regressor.weight"].shape == (12, 7)
    assert Unfitted("fc8").unfold(folded).keys() == state.keys()
    folded["svm.bias"] = folded["svm.bias"] + 1
    with pytest.raises(CheckpointError, match=r"no place for svm\.bias"):
        Unfitted("fc8").unfold(folded)


def test_pyramids_are_read_in_our_order():
    channels, levels = 3, (1, 2, 3)
    theirs = {
        (level, c, y, x): None for level in levels for c in range(channels) for y in range(level) for x in range(level)
    }
    numbers = {place: float(number) for number, place in enumerate(theirs)}
    array = np.float32([list(numbers.values())])
    order = PyramidOrder("fc6.weight", levels, levels[::-1])
    ours = order.to_ours("fc6.weight", array)
    wanted = [
        numbers[level, c, y, x]
        for level in levels[::-1]
        for y in range(level)
        for x in range(level)
        for c in range(channels)
    ]
    assert ours[0].tolist() == wanted
    np.testing.assert_array_equal(order.to_theirs("fc6.weight", ours), array)
    assert order.to_ours("fc7.weight", array) is array


def test_boxes_of_y_x_h_w_become_x_y_w_h():
    order = BoxOrder(("rpn.loc",))
    rows = np.arange(8.0)
    assert order.to_ours("rpn.loc.bias", rows).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert order.to_ours("rpn.score.bias", rows) is rows
