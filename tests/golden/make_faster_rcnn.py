"""Makes faster_rcnn.npz and its keys: torchvision's Faster R-CNN with a narrow pyramid on a short ResNet.

`python tests/golden/make_faster_rcnn.py` in an environment with torchvision. Weights are rebuilt from their keys
(tests/helpers/_reference.py) with BatchNorm's running statistics as they start; those of the layers in SPREAD are then
scaled so that what these layers say about the input has that deviation, as a trained net's would. `scales` holds the
factors.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, ResNet

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))
import _reference as reference  # noqa: E402

SHAPE = (2, 64, 96, 3)
SPREAD = {
    "rpn.head.cls_logits": 1.5,
    "rpn.head.bbox_pred": 0.25,
    "roi_heads.box_predictor.cls_score": 1.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
}
BOXES = ([[10, 12, 42, 40], [50, 20, 90, 60], [5, 45, 20, 60]], [[30, 8, 70, 56], [0, 0, 14, 18]])
LABELS = ([0, 3, 1], [4, 2])


def build() -> FasterRCNN:
    body = ResNet(BasicBlock, [1, 1, 1, 1])
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    sizes = ((8,), (16,), (32,), (64,), (128,))
    return FasterRCNN(
        BackboneWithFPN(body, layers, [64, 128, 256, 512], 32),
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_head=TwoMLPHead(32 * 49, 64),
        box_predictor=FastRCNNPredictor(64, 6),
        min_size=64,
        max_size=96,
        image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
        rpn_pre_nms_top_n_train=100,
        rpn_post_nms_top_n_train=50,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_test=50,
        # So many that all are drawn.
        rpn_batch_size_per_image=10_000,
        box_batch_size_per_image=128,
        box_positive_fraction=0.5,
        box_detections_per_img=40,
    ).eval()


def load(model: FasterRCNN, images: list[torch.Tensor]) -> list[float]:
    """Fills in the weights, layer after layer of SPREAD; gives the factors."""
    template = model.state_dict()
    keys = {key: list(value.shape) for key, value in template.items()}
    (HERE / "faster_rcnn.keys.json").write_text(json.dumps(keys))
    state = reference.rebuild(keys, {key: value.numpy() for key, value in template.items()})
    model.load_state_dict({key: torch.as_tensor(value) for key, value in state.items()})
    scales = []
    for name, spread in SPREAD.items():
        layer, seen = model.get_submodule(name), []
        handle = layer.register_forward_hook(lambda *call, seen=seen: seen.append(call[-1].flatten()))
        model(images)
        handle.remove()
        scales.append(round(float(spread / torch.cat(seen).std()), 4))
        for parameter in layer.parameters():
            parameter *= scales[-1]
    return scales


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    model = build()
    images = [torch.as_tensor(image.transpose(2, 0, 1)) for image in reference.images(SHAPE)]
    kept = {"scales": np.array(load(model, images))}
    maps = model.backbone(torch.stack(images))
    for name, level in maps.items():
        kept[f"fpn_{name}"] = level.permute(0, 2, 3, 1)[..., :2].numpy()
    for name, (scores, deltas) in zip(maps, zip(*model.rpn.head(list(maps.values())))):
        kept[f"rpn_objectness_{name}"] = scores[0].permute(1, 2, 0).numpy()
        kept[f"rpn_deltas_{name}"] = deltas[0].permute(1, 2, 0).numpy()
    for i, found in enumerate(model(images)):
        kept |= {f"{key}_{i}": value.numpy() for key, value in found.items()}
    for part in (model.rpn, model.roi_heads):
        part.training = True
    losses = []
    for image, boxes, labels in zip(images, BOXES, LABELS):
        truth = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels) + 1}
        model.training = True  # of the model alone: BatchNorm stays as it is
        found = model([image], [truth])
        names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
        losses.append([float(found[name]) for name in names])
    kept["losses"] = np.array(losses)
    np.savez_compressed(HERE / "faster_rcnn.npz", **kept)


if __name__ == "__main__":
    main()
