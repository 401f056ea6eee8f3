"""A training step of one net in PyTorch, eager or compiled: the peer of `on_device.training`."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from paired import Message, Unavailable, Work
from torch.nn import functional as F

from on_device.arrays import arrays


def create(work: Message) -> torch.nn.Module:
    """The net of a row, at full size whatever the row's images are."""
    name, classes = work["model"], work["classes"]
    if name == "unet":
        from torch_nets.unet import UNet

        return UNet(classes, 64, 4)
    if name == "deeplabv3plus_resnet50":
        from torch_nets.deeplab import DeepLabV3Plus

        return DeepLabV3Plus(classes)
    if name == "yolov1":
        from torch_nets.yolo import YOLOv1

        return YOLOv1(classes)
    if name == "fasterrcnn_resnet50_fpn":
        return _faster_rcnn(classes, work["size"])
    from torch_nets import classifiers

    return classifiers.create(name)


def _faster_rcnn(classes: int, size: int) -> torch.nn.Module:
    try:
        from torchvision.models.detection import fasterrcnn_resnet50_fpn
    except ImportError as error:
        raise Unavailable("torchvision is not there") from error
    # BatchNorm that trains, and images as they come, as cvjax has it here; torchvision counts the background.
    sizes = {"min_size": size, "max_size": size}
    bare = {"weights": None, "weights_backbone": None, "trainable_backbone_layers": 5}
    return fasterrcnn_resnet50_fpn(num_classes=classes + 1, **bare, **sizes)


def _compiled(net: torch.nn.Module) -> torch.nn.Module:
    """The net under `torch.compile`; of a Faster R-CNN the parts whose shapes do not change from step to step.

    As a whole it breaks into many graphs, which are compiled anew whenever another number of boxes is drawn.
    """
    if not hasattr(net, "roi_heads"):
        return torch.compile(net)
    net.backbone, net.rpn.head = torch.compile(net.backbone), torch.compile(net.rpn.head)
    return net


def loss_function(work: Message, forward: Callable[..., Any], device: str) -> Callable[[], torch.Tensor]:
    """A function of nothing that computes the loss of the row's batch."""
    made = arrays(work)
    images = torch.from_numpy(made["image"]).to(device).permute(0, 3, 1, 2)  # NHWC in memory: channels_last
    if work["task"] != "detection":
        labels = torch.from_numpy(made["label"]).to(device, torch.int64)
        return lambda: F.cross_entropy(forward(images).float(), labels)
    if work["model"] == "yolov1":
        from torch_nets.yolo import coded, loss_of

        # cvjax codes its targets in the step.
        targets = [torch.from_numpy(array).to(device) for array in coded(made["boxes"], made["label"], work["size"])]
        return lambda: loss_of(forward(images).float(), *targets)
    objects = [
        {"boxes": torch.from_numpy(boxes).to(device), "labels": torch.from_numpy(label + 1).to(device, torch.int64)}
        for boxes, label in zip(made["boxes"], made["label"])
    ]
    return lambda: sum(loss.float() for loss in forward(list(images), objects).values())


def prepare(work: Message, compiled: bool) -> Work:
    """The work of one net, channels_last, under autocast; on a GPU cuDNN tries its algorithms."""
    on_gpu = torch.cuda.is_available()
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, work["dtype"])
    torch.backends.cudnn.benchmark = True
    net = create(work).to(device, memory_format=torch.channels_last).train()
    parameters = sum(parameter.numel() for parameter in net.parameters())
    loss_of = loss_function(work, _compiled(net) if compiled else net, device)
    kernels, vectors = ([p for p in net.parameters() if (p.ndim > 1) is is_kernel] for is_kernel in (True, False))
    groups = [{"params": kernels, "weight_decay": 1e-4}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, 1e-5, 0.9, fused=on_gpu)
    autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def wait(result: Any) -> None:
        if on_gpu:
            torch.cuda.synchronize()

    start = time.perf_counter()
    loss = float(step())
    seconds = time.perf_counter() - start
    if not math.isfinite(loss):
        raise Unavailable(f"the first loss is {loss}")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()  # so that what trying algorithms took does not count
    facts = {"loss": loss, "parameters": parameters, "compile_s" if compiled else "first_step_s": seconds}
    values = {} if work["tiny"] else {"parameters": np.asarray(parameters)}
    return Work(step, wait, values, not on_gpu, lambda: facts)
