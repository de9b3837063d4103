"""The candidate operations of an edge, and the normalisations in them. Both are plug-ins.

An operation keeps the shape (batch, channels, height, width). With z the weight of its edge,
``module(x)`` is O(x) and ``module(x, z)`` is z O(x). No normalisation of the package has affine
parameters, and all use the statistics of the batch at hand, in training and in evaluation alike:
the statistics of one sampled network would not fit another one.

>>> @operation("conv_7x7")
... def conv_7x7(channels, norm):
...     conv = nn.Conv2d(channels, channels, 7, padding=3, bias=False)
...     return nn.Sequential(nn.ReLU(), conv, norm(channels))
>>> build_operation("conv_7x7", channels=4)(torch.zeros(2, 4, 8, 8)).shape
torch.Size([2, 4, 8, 8])
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore.engine.space import OPERATIONS
from nascore.errors import ConfigError, checked, in_one_line
from nascore.fast.depthwise import Depthwise
from nascore.plugins import Registry, is_built_in

Norm = Callable[[int], nn.Module]  # from the number of channels
NORMS = Registry("norm")  # what an operation with a convolution or a pool ends in, by name

operation = OPERATIONS.register
"""Makes an operation of a class or function ``(channels, norm) -> module``, by a name.

Its ``forward(x, z)`` may take the weight z along; a result without z is multiplied by it.
"""

normalisation = NORMS.register
"""Makes a normalisation of ``channels -> module`` so; it may refuse channels by a ConfigError."""


@checked
def build_operation(name: str, channels: int, norm: str = "batch") -> nn.Module:
    """The module of one operation O: ``module(x)`` is O(x), ``module(x, z)`` is z O(x), for z ().

    Raises ConfigError: unknown operation or normalisation, or one that does not keep the shape.
    """
    return _build(OPERATIONS, name, channels, partial(build_norm, NORMS.name_of(norm)))


def build_norm(name: str, channels: int) -> nn.Module:
    """The module of one normalisation, called and refused as an operation is."""
    return _build(NORMS, name, channels)


def relu_conv_norm(inputs: int, outputs: int, norm: str = "batch") -> nn.Sequential:
    """ReLU, 1x1 convolution, normalisation: brings a cell's input to the cell's channels."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(nn.ReLU(), conv, build_norm(norm, outputs))


def _build(registry: Registry, name: str, channels: int, *norm: Norm) -> nn.Module:
    plugin = registry[name]
    if not is_built_in(plugin):
        _try(f"{registry.kind} {name!r}", plugin, channels, *norm)
    module = plugin(channels, *norm)
    return module if "z" in inspect.signature(module.forward).parameters else Weighted(module)


def _try(label: str, plugin: Callable, channels: int, *norm: Norm) -> None:
    """Raises ConfigError unless a plug-in makes what keeps a shape. Random draws leave no trace."""
    x = torch.ones(2, channels, 8, 8)
    an_input = f"an input of shape {tuple(x.shape)}"
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            y = plugin(channels, *norm).forward(x)
    except ConfigError:
        raise
    except Exception as error:  # the plug-in is any code
        why = in_one_line(error, plugin.__module__)
        raise ConfigError(f"{label} fails for channels={channels} and {an_input}: {why}") from error
    if getattr(y, "shape", None) != x.shape:
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ConfigError(f"{label} makes {shape} of {an_input}: it must keep the shape.")


class Weighted(nn.Module):
    """A module that does not know its weight: z O(x) is a product."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        x = self.module(x)
        return x if z is None else z * x


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation. A weight z is its scale, so that z and its gradient cost nothing."""

    def __init__(self, channels: int):
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        scale = None if z is None else z.repeat(x.shape[1])
        return F.batch_norm(x, None, None, scale, training=True, eps=self.eps)


class GroupNorm(nn.GroupNorm):
    """Group normalisation, with z as its scale."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        scale = None if z is None else z.repeat(x.shape[1])
        return F.group_norm(x, self.num_groups, scale, eps=self.eps)


def four_groups(channels: int) -> nn.Module:
    if channels % 4 or channels == 4:
        raise ConfigError(f"norm='group': channels must be 8, 12, 16, ..., not {channels}.")
    return GroupNorm(4, channels, affine=False)


for name, build in {
    "batch": BatchNorm,
    "layer": lambda channels: GroupNorm(1, channels, affine=False),
    "group": four_groups,
    "instance": lambda channels: nn.InstanceNorm2d(channels),
    "none": lambda channels: nn.Identity(),
}.items():
    normalisation(name)(build)


class Chain(nn.Sequential):
    """Modules one after the other, the last of which takes the weight."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        *first, last = self
        for module in first:
            x = module(x)
        return last(x, z)


def separable(channels: int, kernel: int, dilation: int, norm: Norm) -> Chain:
    depthwise = Depthwise(channels, kernel, dilation)
    pointwise = nn.Conv2d(channels, channels, 1, bias=False)
    return Chain(nn.ReLU(), depthwise, pointwise, norm(channels))


def twice(channels: int, kernel: int, norm: Norm) -> Chain:
    return Chain(separable(channels, kernel, 1, norm), separable(channels, kernel, 1, norm))


for name, build in {
    "skip_connect": lambda channels, norm: nn.Identity(),
    "max_pool_3x3": lambda channels, norm: Chain(
        nn.MaxPool2d(3, stride=1, padding=1), norm(channels)
    ),
    "avg_pool_3x3": lambda channels, norm: Chain(
        nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), norm(channels)
    ),
    "sep_conv_3x3": lambda channels, norm: twice(channels, 3, norm),
    "dil_conv_3x3": lambda channels, norm: separable(channels, 3, 2, norm),
    "dil_conv_5x5": lambda channels, norm: separable(channels, 5, 2, norm),
    "sep_conv_5x5": lambda channels, norm: twice(channels, 5, norm),
}.items():
    operation(name)(build)
