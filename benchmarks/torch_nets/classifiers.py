"""ResNet, SE-ResNet, ResNeXt and EfficientNet in plain PyTorch, layer by layer, named as torchvision and timm do.

torchvision's own, and timm's, are used where they are installed; these stand in for them where only torch is.
"""

from collections.abc import Callable

import torch
from torch import nn

# Of EfficientNet-B0, a stage each: expansion, kernel size, stride, channels, blocks.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
# Groups, and channels of a group in the first stage.
_RESNETS = {"resnet50": (1, 64), "resnext50_32x4d": (32, 4), "wide_resnet50_2": (1, 128), "seresnet50": (1, 64)}


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut."""

    def __init__(self, before: int, features: int, stride: int, groups: int, width: int, gated: bool):
        super().__init__()
        inner = features * width // 64 * groups
        self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, 4 * features, 1, bias=False), nn.BatchNorm2d(4 * features)
        self.relu = nn.ReLU(inplace=True)
        self.se = SqueezeExcitation(4 * features, features // 4, nn.functional.relu) if gated else nn.Identity()
        self.downsample = None
        if stride > 1 or before != 4 * features:
            projection = nn.Conv2d(before, 4 * features, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.se(self.bn3(self.conv3(x))) + shortcut)


class ResNet50(nn.Module):
    """ResNet-50, or one of its kin with groups, wider groups or gates (SE-ResNet-50, named as timm has it)."""

    def __init__(self, groups: int, width: int, gated: bool = False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        before = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            features, layers = 64 * 2**stage, []
            for i in range(blocks):
                stride = 2 if i == 0 and stage > 0 else 1
                layers.append(Bottleneck(before, features, stride, groups, width, gated))
                before = 4 * features
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(before, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class SqueezeExcitation(nn.Module):
    """A gate for each channel from the means of all."""

    def __init__(self, channels: int, inner: int, act: Callable = nn.functional.silu):
        super().__init__()
        self.act = act
        self.fc1, self.fc2 = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.act(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(gate))


class MBConv(nn.Module):
    """Inverted bottleneck with squeeze-and-excitation."""

    def __init__(self, before: int, features: int, expansion: int, size: int, stride: int):
        super().__init__()
        inner = before * expansion
        layers = [_conv_bn_silu(before, inner, 1)] if expansion > 1 else []
        layers += [_conv_bn_silu(inner, inner, size, stride, inner), SqueezeExcitation(inner, before // 4)]
        layers.append(_conv_bn_silu(inner, features, 1)[:2])
        self.block = nn.Sequential(*layers)
        self.adds = stride == 1 and before == features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.adds else self.block(x)


class EfficientNetB0(nn.Module):
    """EfficientNet-B0 that drops nothing."""

    def __init__(self):
        super().__init__()
        stages, before = [_conv_bn_silu(3, 32, 3, 2)], 32
        for expansion, size, stride, features, blocks in _STAGES:
            layers = []
            for i in range(blocks):
                layers.append(MBConv(before, features, expansion, size, stride if i == 0 else 1))
                before = features
            stages.append(nn.Sequential(*layers))
        stages.append(_conv_bn_silu(before, 1280, 1))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def _conv_bn_silu(before: int, features: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, features, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(features), nn.SiLU(inplace=True))


def create(name: str) -> nn.Module:
    """A model by torchvision's or timm's name, 1000 classes, without dropout and auxiliary classifiers.

    Raises:
      KeyError: a name that nothing installed has.
    """
    try:
        from torchvision import models
    except ImportError:
        return _plain(name)
    if hasattr(models, name):
        bare = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        model = getattr(models, name)(weights=None, **bare)
    else:
        model = _of_timm(name)
    for module in model.modules():
        for rate in ("p", "stochastic_depth_prob"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    return model


def _plain(name: str) -> nn.Module:
    return EfficientNetB0() if name == "efficientnet_b0" else ResNet50(*_RESNETS[name], gated=name.startswith("se"))


def _of_timm(name: str) -> nn.Module:
    try:
        import timm
    except ImportError:
        return _plain(name)
    if not timm.is_model(name):
        raise KeyError(name)
    return timm.create_model(name)
