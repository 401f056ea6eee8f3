"""DeepLab v3+ on a ResNet-50 in plain PyTorch: the counterpart of `deeplabv3plus_resnet50`, parameter by parameter."""

import torch
from torch import nn
from torch.nn import functional as F

from torch_nets.classifiers import ResNet50

_RATES = (6, 12, 18)


class DeepLabV3Plus(nn.Module):
    """[B, 3, H, W] to logits [B, K, H, W], at output stride 16."""

    def __init__(self, num_classes: int, features: int = 256, low: int = 48, dropout: float = 0.5):
        super().__init__()
        self.backbone = ResNet50(1, 64)
        del self.backbone.fc
        for block in self.backbone.layer4:  # The last stage dilates instead of striding.
            block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1, 1), (2, 2), (2, 2)
        self.backbone.layer4[0].conv2.dilation, self.backbone.layer4[0].conv2.padding = (1, 1), (1, 1)
        self.backbone.layer4[0].downsample[0].stride = (1, 1)
        self.branches = nn.ModuleList([_conv(2048, features, 1), *(_conv(2048, features, 3, r) for r in _RATES)])
        self.pooling = _conv(2048, features, 1)
        self.project = _conv(5 * features, features, 1)
        self.dropout = nn.Dropout(dropout)
        self.low_level = _conv(256, low, 1)
        layers = []
        for before in (features + low, features):
            layers += [_conv(before, before, 3, groups=before), _conv(before, features, 1)]
        self.refine = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(features, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        net = self.backbone
        x = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(images)))))
        low, x = self.low_level(x), net.layer4(net.layer3(net.layer2(x)))
        pooled = self.pooling(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        x = torch.cat([*(branch(x) for branch in self.branches), pooled], 1)
        x = self.dropout(self.project(x))
        x = self.classifier(self.refine(torch.cat([_resized(x, low), low], 1)))
        return _resized(x.float(), images)


def _resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def _conv(before: int, features: int, size: int, rate: int = 1, groups: int = 1) -> nn.Sequential:
    padding = rate * (size // 2)
    conv = nn.Conv2d(before, features, size, padding=padding, dilation=rate, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(features), nn.ReLU(inplace=True))
