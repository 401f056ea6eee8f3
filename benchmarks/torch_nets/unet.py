"""U-Net in plain PyTorch, and what it is trained with: the counterparts of cvjax's, line by line."""

import torch
from torch import nn
from torch.nn import functional as F

_COEFFICIENTS, _STEPS = (3.4445, -4.7750, 2.0315), 5


class UNet(nn.Module):
    """`cvjax.models.segmentation.unet` with transposed convolutions; [B, 3, H, W] to logits [B, K, H, W]."""

    def __init__(self, num_classes: int, width: int, depth: int, bn_momentum: float = 0.05):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        before = [3, *widths[:-1]]
        self.down = nn.ModuleList(_pair(i, o, bn_momentum) for i, o in zip(before, widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[:-1])
        self.join = nn.ModuleList(_pair(2 * w, w, bn_momentum) for w in widths[:-1])
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.multiple = 2**depth
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=module.in_channels**-0.5)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        below, beside = (-side % self.multiple for side in (height, width))
        if below or beside:
            x = F.pad(x, (0, beside, 0, below), mode="reflect")
        skips = []
        for level, layers in enumerate(self.down):
            x = layers(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up, layers in zip(reversed(self.up), reversed(self.join)):
            x = layers(torch.cat([skips.pop(), up(x)], 1))
        return self.classifier(x)[:, :, :height, :width]


def _pair(before: int, features: int, bn_momentum: float) -> nn.Sequential:
    layers = []
    for channels in (before, features):
        conv = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(features, momentum=bn_momentum), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def loss_of(logits: torch.Tensor, masks: torch.Tensor, jaccard_weight: float) -> torch.Tensor:
    """Cross entropy of the labeled pixels, and soft Jaccard of each image's classes, weighed by labeled pixels.

    Args:
      logits: [B, K, H, W].
      masks: int64 [B, H, W]; 255 is ignored.
      jaccard_weight: 0 leaves that out.
    """
    counted = (masks != 255).float()
    total = F.cross_entropy(logits, masks, ignore_index=255, reduction="sum")
    if jaccard_weight:
        p = logits.softmax(1) * counted[:, None]
        labels = torch.where(masks == 255, 0, masks)
        theirs = logits.new_zeros(len(masks), logits.shape[1])
        theirs.scatter_add_(1, labels.flatten(1), counted.flatten(1))
        both = logits.new_zeros(theirs.shape)
        both = both.scatter_add(1, labels.flatten(1), p.gather(1, labels[:, None])[:, 0].flatten(1))
        missed = 1 - (both + 1) / (p.sum((2, 3)) + theirs - both + 1)
        present = theirs > 0
        mean = (missed * present).sum(1) / present.sum(1).clamp(min=1)
        total = total + jaccard_weight * (mean * counted.sum((1, 2))).sum()
    return total / counted.sum().clamp(min=1)


class Muon(torch.optim.Optimizer):
    """`cvjax.engine.muon`: kernels by orthogonal updates; whatever is a vector by Adam at a tenth of the rate."""

    def __init__(self, net: nn.Module, lr: float, momentum: float = 0.9, weight_decay: float = 0.0):
        transposed = {id(m.weight) for m in net.modules() if isinstance(m, nn.ConvTranspose2d)}
        kernels = [p for p in net.parameters() if p.ndim > 1]
        vectors = [p for p in net.parameters() if p.ndim == 1]
        super().__init__(
            [{"params": kernels}, {"params": vectors}], {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )
        self._transposed = transposed
        self._adam = torch.optim.Adam(vectors, lr, foreach=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        group = self.param_groups[0]
        for p in group["params"]:
            trace = self.state[p].setdefault("trace", torch.zeros_like(p))
            trace.mul_(group["momentum"]).add_(p.grad)
            update = p.grad + group["momentum"] * trace
            turned = update.transpose(0, 1) if id(p) in self._transposed else update
            matrix = turned.reshape(turned.shape[0], -1)
            moved = orthogonal(matrix) * (0.2 * max(matrix.shape) ** 0.5)
            moved = moved.reshape(turned.shape)
            moved = moved.transpose(0, 1) if id(p) in self._transposed else moved
            p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(moved, alpha=group["lr"])
        self._adam.param_groups[0]["lr"] = 0.1 * self.param_groups[1]["lr"]
        self._adam.step()


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Singular values brought near 1 by Newton-Schulz iteration on the Gram matrix of the shorter side."""
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    gram = x.T @ x if tall else x @ x.T
    identity, (a, b, c) = torch.eye(len(gram)), _COEFFICIENTS
    product = identity
    for _ in range(_STEPS):
        polynomial = a * identity + b * gram + c * (gram @ gram)
        product, gram = polynomial @ product, polynomial @ gram @ polynomial
    return x @ product if tall else product @ x


def make_optimizer(net: nn.Module, name: str, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """`adamw` or `muon`; weight decay spares norms and biases."""
    if name == "muon":
        return Muon(net, lr, weight_decay=weight_decay)
    kernels = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr)
