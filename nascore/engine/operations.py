"""The candidate operations of an edge.

All keep the shape (batch, channels, height, width), and take their weight z along: O(x) is
``module(x)``, and z O(x) is ``module(x, z)``. No normalisation has affine parameters, and all use
the statistics of the batch at hand, in training and in evaluation alike: the statistics of one
sampled network would not fit another one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore.errors import ConfigError, unknown

EPS = 1e-5
GROUPS = 4  # of norm="group"


class Identity(nn.Identity):
    """x, or z x."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return x if z is None else z * x


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation. A weight z is its scale, so that z and its gradient cost nothing."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        if z is None:
            return super().forward(x)
        return F.batch_norm(x, None, None, z.repeat(x.shape[1]), training=True, eps=self.eps)


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation, times z."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        x = super().forward(x)
        return x if z is None else z * x


class GroupNorm(nn.GroupNorm):
    """Group normalisation, with z as its scale."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        scale = None if z is None else z.repeat(x.shape[1])
        return F.group_norm(x, self.num_groups, scale, eps=self.eps)


NORMS = {
    "batch": lambda channels: BatchNorm(channels, eps=EPS, affine=False, track_running_stats=False),
    "instance": lambda channels: InstanceNorm(channels, eps=EPS),
    "layer": lambda channels: GroupNorm(1, channels, eps=EPS, affine=False),
    "group": lambda channels: GroupNorm(GROUPS, channels, eps=EPS, affine=False),
    "none": lambda channels: Identity(),
}
"""The normalisation that follows every convolution and pool, by name."""


def relu_conv_norm(inputs: int, outputs: int, norm: str = "batch") -> nn.Module:
    """ReLU, 1x1 convolution, normalisation: brings a cell's input to the cell's channels."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), NORMS[norm](outputs))


def mixed_precision(x: Tensor) -> bool:
    """Whether torch chooses the precision by itself now, on the device of x."""
    return torch.is_autocast_enabled(x.device.type)


def split_places(x: Tensor) -> Tensor:
    """The four images of every second row and column, (B, C, H, W) to (4 B, C, H / 2, W / 2).

    A convolution with dilation 2 is one without, on each of them. Odd sizes are padded with 0.
    """
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    x = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h, 2, w, 2, C)
    return x.permute(2, 4, 0, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def join_places(parts: Tensor, size: torch.Size) -> Tensor:
    """The inverse of ``split_places``: (4 B, C, H / 2, W / 2) to (B, C, H, W), of this size."""
    parts = parts.permute(0, 2, 3, 1).unflatten(0, (2, 2, -1))  # (2, 2, B, h, w, C)
    x = parts.permute(2, 3, 0, 4, 1, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    return x if x.shape == size else x[:, :, : size[2], : size[3]]


class _DepthwiseOnCPU(torch.autograd.Function):
    """A depthwise convolution without dilation, whose gradients are made of fast pieces.

    The gradient on x is a convolution with the flipped kernel. The one on the weight has a fast
    kernel in torch up to width 3; width 5 is put together from two of these.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=weight.shape[2] // 2, groups=weight.shape[0])

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            flipped = weight.flip(2, 3)
            padding = weight.shape[2] // 2
            grad_x = F.conv2d(grad, flipped, padding=padding, groups=weight.shape[0])
        if ctx.needs_input_grad[1]:
            if weight.shape[2] == 3:
                grad_weight = _weight_gradient(grad, x, weight, padding=(1, 1))
            else:
                left, right = (  # columns 0 to 2 and 2 to 4 of the kernel
                    _weight_gradient(grad, F.pad(x, sides), weight[..., :3], padding=(2, 0))
                    for sides in ((2, 0), (0, 2))
                )
                grad_weight = torch.cat([left, right[..., 1:]], dim=3)
        return grad_x, grad_weight


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """The gradient of a depthwise convolution on a weight of this shape."""
    return torch.ops.aten.convolution_backward(
        grad,
        x,
        weight.contiguous(),
        None,
        (1, 1),
        padding,
        (1, 1),
        False,
        (0, 0),
        len(weight),
        (False, True, False),
    )[1]


class Depthwise(nn.Conv2d):
    """A convolution of each channel by itself, that keeps the shape, with dilation 1 or 2.

    On a CPU it takes a path of its own, because torch's gradients of wide and of dilated kernels
    are slow there; benchmarks/README.md says what this gains.
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
        if x.device.type != "cpu" or mixed_precision(x):
            return super().forward(x)
        if self.dilation[0] == 1:
            return self.on_parts(x)
        return join_places(self.on_parts(split_places(x)), x.shape)

    def on_parts(self, parts: Tensor) -> Tensor:
        """Without the dilation: for what ``split_places`` made, on a CPU."""
        return _DepthwiseOnCPU.apply(parts, self.weight)


class Separable(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, normalisation."""

    def __init__(self, channels: int, kernel: int, dilation: int, norm: str):
        super().__init__()
        self.depthwise = Depthwise(channels, kernel, dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = NORMS[norm](channels)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.relu(x))), z)


class Chain(nn.Sequential):
    """Two modules, one after the other; the second takes the weight."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        first, last = self
        return last(first(x), z)


def _sep_conv(kernel: int):
    return lambda channels, norm: Chain(
        Separable(channels, kernel, 1, norm), Separable(channels, kernel, 1, norm)
    )


def _dil_conv(kernel: int):
    return lambda channels, norm: Separable(channels, kernel, 2, norm)


def _pool(pool: nn.Module):
    return lambda channels, norm: Chain(pool, NORMS[norm](channels))


BUILDERS = {
    "skip_connect": lambda channels, norm: Identity(),
    "max_pool_3x3": _pool(nn.MaxPool2d(3, stride=1, padding=1)),
    "avg_pool_3x3": _pool(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)),
    "sep_conv_3x3": _sep_conv(3),
    "dil_conv_3x3": _dil_conv(3),
    "dil_conv_5x5": _dil_conv(5),
    "sep_conv_5x5": _sep_conv(5),
}
"""How each operation is built. `none` is absent: an edge that takes it computes nothing."""


def build_operation(name: str, channels: int, norm: str = "batch") -> nn.Module:
    """The module of one operation O: ``module(x)`` is O(x), ``module(x, z)`` is z O(x), for z ().

    Both keep the shape (B, C, H, W). Raises ConfigError for an unknown operation or normalisation.
    """
    if name not in BUILDERS:
        raise ConfigError(unknown("operation with a module", name, BUILDERS))
    if norm not in NORMS:
        raise ConfigError(unknown("norm", norm, NORMS))
    return BUILDERS[name](channels, norm)
