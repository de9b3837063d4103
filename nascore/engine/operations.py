"""The candidate operations of an edge, and the normalisations in them. Both are plug-ins.

An operation keeps the shape (batch, channels, height, width). With z the weight of its edge,
``module(x)`` is O(x) and ``module(x, z)`` is z O(x). No normalisation of the package has affine
parameters, and all use the statistics of the batch at hand, in training and in evaluation alike:
the statistics of one sampled network would not fit another one.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore.engine.space import OPERATIONS
from nascore.errors import ConfigError, checked
from nascore.fast.depthwise import Depthwise
from nascore.plugins import Registry, failure, is_built_in

Norm = Callable[[int], nn.Module]
"""Makes a normalisation for so many channels."""

NORMS = Registry("norm")
"""The normalisations that follow every convolution and pool, by name."""


def operation(name: str) -> Callable:
    """Makes an operation of a class or function ``(channels, norm) -> module``.

    The module maps (B, channels, H, W) to the same shape; ``norm(channels)`` is the normalisation
    that the config asks for. A ``forward(x, z)`` may take the weight z along; one without z has its
    result multiplied by it.

    Raises ConfigError if the name is in use.

    >>> @operation("conv_7x7")
    ... def conv_7x7(channels, norm):
    ...     conv = nn.Conv2d(channels, channels, 7, padding=3, bias=False)
    ...     return nn.Sequential(nn.ReLU(), conv, norm(channels))
    >>> build_operation("conv_7x7", channels=4)(torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """
    return OPERATIONS.register(name)


def normalisation(name: str) -> Callable:
    """Makes a normalisation of a class or function ``channels -> module``, as ``operation`` does.

    It raises ConfigError for channels that it cannot take.

    >>> @normalisation("affine")
    ... def affine(channels):
    ...     return nn.BatchNorm2d(channels, track_running_stats=False)
    """
    return NORMS.register(name)


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


def _try(what: str, plugin: Callable, channels: int, *norm: Norm) -> None:
    """Raises ConfigError unless a plug-in makes what keeps a shape. Random draws leave no trace."""
    x = torch.ones(2, channels, 8, 8)
    an_input = f"an input of shape {tuple(x.shape)}"
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            module = plugin(channels, *norm)
            y = module(x) if isinstance(module, nn.Module) else None
    except ConfigError:
        raise
    except Exception as error:  # the plug-in is any code
        why = failure(plugin, error)
        raise ConfigError(f"{what} fails for channels={channels} and {an_input}: {why}") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{what} makes no torch.nn.Module, but {module!r}.")
    if getattr(y, "shape", None) != x.shape:
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ConfigError(f"{what} makes {shape} of {an_input}: it must keep the shape.")


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
        allowed = "channels must be 8, 12, 16, ..."
        raise ConfigError(f"norm='group' makes 4 groups: {allowed}, not {channels}.")
    return GroupNorm(4, channels, affine=False)


for name, build in {
    "batch": BatchNorm,
    "layer": lambda channels: GroupNorm(1, channels, affine=False),
    "group": four_groups,
    "instance": lambda channels: nn.InstanceNorm2d(channels),
    "none": lambda channels: nn.Identity(),
}.items():
    normalisation(name)(build)


class Skip(Weighted):
    """x, or z x."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__(nn.Identity())


class Pool(nn.Module):
    """A pool, which keeps the shape, and a normalisation."""

    def __init__(self, pool: Callable[[Tensor], Tensor], norm: nn.Module):
        super().__init__()
        self.pool, self.norm = pool, norm

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return self.norm(self.pool(x), z)


max_pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
avg_pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class Separable(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, normalisation."""

    def __init__(self, channels: int, kernel: int, dilation: int, norm: Norm):
        super().__init__()
        self.depthwise = Depthwise(channels, kernel, dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = norm(channels)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.relu(x))), z)


class Chain(nn.Sequential):
    """Two operations, one after the other; the second takes the weight."""

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return self[1](self[0](x), z)


def twice(channels: int, kernel: int, norm: Norm) -> nn.Module:
    return Chain(Separable(channels, kernel, 1, norm), Separable(channels, kernel, 1, norm))


for name, build in {
    "skip_connect": Skip,
    "max_pool_3x3": lambda channels, norm: Pool(max_pool, norm(channels)),
    "avg_pool_3x3": lambda channels, norm: Pool(avg_pool, norm(channels)),
    "sep_conv_3x3": lambda channels, norm: twice(channels, 3, norm),
    "dil_conv_3x3": lambda channels, norm: Separable(channels, 3, 2, norm),
    "dil_conv_5x5": lambda channels, norm: Separable(channels, 5, 2, norm),
    "sep_conv_5x5": lambda channels, norm: twice(channels, 5, norm),
}.items():
    operation(name)(build)
