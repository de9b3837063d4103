"""The candidate operations of an edge.

All keep the shape (batch, channels, height, width). No normalisation has affine parameters, and
all use the statistics of the batch at hand, in training and in evaluation alike: the statistics of
one sampled network would not fit another one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore.errors import ConfigError, unknown

EPS = 1e-5
GROUPS = 4  # of norm="group"

NORMS = {
    "batch": lambda channels: nn.BatchNorm2d(
        channels, eps=EPS, affine=False, track_running_stats=False
    ),
    "instance": lambda channels: nn.InstanceNorm2d(channels, eps=EPS),
    "layer": lambda channels: nn.GroupNorm(1, channels, eps=EPS, affine=False),
    "group": lambda channels: nn.GroupNorm(GROUPS, channels, eps=EPS, affine=False),
    "none": lambda channels: nn.Identity(),
}
"""The normalisation that follows every convolution and pool, by name."""


def relu_conv_norm(inputs: int, outputs: int, norm: str = "batch") -> nn.Module:
    """ReLU, 1x1 convolution, normalisation: brings a cell's input to the cell's channels."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), NORMS[norm](outputs))


class _DilatedDepthwise(torch.autograd.Function):
    """A dilated depthwise convolution whose gradients are made of fast pieces on a CPU.

    The gradient on x is a convolution with the flipped kernel; the one on each weight is the inner
    product of the output's gradient with a shifted x.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        ctx.padding = dilation * (weight.shape[2] // 2)
        return F.conv2d(x, weight, padding=ctx.padding, dilation=dilation, groups=weight.shape[0])

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        channels, _, kernel, _ = weight.shape
        height, width = x.shape[2:]
        d, p = ctx.dilation, ctx.padding
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            flipped = weight.flip(2, 3)
            grad_x = F.conv2d(grad, flipped, padding=p, dilation=d, groups=channels)
        if ctx.needs_input_grad[1]:
            last = grad.permute(0, 2, 3, 1)  # (B, H, W, C)
            padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, p, p, p, p))
            shifts = [(i * d, j * d) for i in range(kernel) for j in range(kernel)]
            sums = [
                (padded[:, i : i + height, j : j + width] * last).sum(dim=(0, 1, 2))
                for i, j in shifts
            ]
            grad_weight = torch.stack(sums, dim=1).view_as(weight)  # (C, 1, k, k)
        return grad_x, grad_weight, None


class Depthwise(nn.Conv2d):
    """A convolution of each channel by itself, that keeps the shape.

    The dilated ones take a path of their own on a CPU, where torch has no fast kernel for their
    gradient; benchmarks/README.md says what this gains.
    """

    def __init__(self, channels: int, kernel: int, dilation: int):
        super().__init__(
            channels,
            channels,
            kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.dilation[0] == 1 or x.device.type != "cpu":
            return super().forward(x)
        return _DilatedDepthwise.apply(x, self.weight, self.dilation[0])


def _depthwise_separable(channels: int, kernel: int, dilation: int, norm: str) -> list[nn.Module]:
    return [
        nn.ReLU(),
        Depthwise(channels, kernel, dilation),
        nn.Conv2d(channels, channels, 1, bias=False),
        NORMS[norm](channels),
    ]


def _sep_conv(kernel: int):
    def build(channels: int, norm: str) -> nn.Module:
        twice = [_depthwise_separable(channels, kernel, 1, norm) for _ in range(2)]
        return nn.Sequential(*twice[0], *twice[1])

    return build


def _dil_conv(kernel: int):
    return lambda channels, norm: nn.Sequential(*_depthwise_separable(channels, kernel, 2, norm))


def _pool(pool: nn.Module):
    return lambda channels, norm: nn.Sequential(pool, NORMS[norm](channels))


BUILDERS = {
    "skip_connect": lambda channels, norm: nn.Identity(),
    "max_pool_3x3": _pool(nn.MaxPool2d(3, stride=1, padding=1)),
    "avg_pool_3x3": _pool(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)),
    "sep_conv_3x3": _sep_conv(3),
    "dil_conv_3x3": _dil_conv(3),
    "dil_conv_5x5": _dil_conv(5),
    "sep_conv_5x5": _sep_conv(5),
}
"""How each operation is built. `none` is absent: an edge that takes it computes nothing."""


def build_operation(name: str, channels: int, norm: str = "batch") -> nn.Module:
    """The module of one operation, (B, C, H, W) to (B, C, H, W).

    Raises ConfigError for an unknown operation or normalisation.
    """
    if name not in BUILDERS:
        raise ConfigError(unknown("operation with a module", name, BUILDERS))
    if norm not in NORMS:
        raise ConfigError(unknown("norm", norm, NORMS))
    return BUILDERS[name](channels, norm)
