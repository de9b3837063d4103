"""One layout in memory for the whole network, forwards and backwards: channels last, or first."""

from collections.abc import Sequence

import torch
from torch import Tensor

AS_RECORDED = ("cpu",)
"""Devices on which a gradient keeps the layout that it comes in, so that no bit of a record moves.

Only that of the mean over places comes in another one. Kernels of a CPU are right in either.
"""


def laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    """Images (B, C, H, W) in a layout; with its strides, too, where a single channel fits both.

    A convolution goes by the strides, and would take the network to the other layout.
    """
    x = x.contiguous(memory_format=layout)
    if layout == torch.channels_last:
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        return x.flatten(1).view(x.shape).permute(0, 3, 1, 2)
    return x.flatten(1).view(x.shape)


class _Concatenate(torch.autograd.Function):
    """Gradients come back in one piece: a slice takes batch normalisation ten times as long."""

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:
        ctx.channels = [x.shape[1] for x in tensors]
        whole = torch.cat(tensors, dim=1)
        ctx.last = whole.is_contiguous(memory_format=torch.channels_last)
        return whole

    @staticmethod
    def backward(ctx, grad: Tensor):
        kept = grad.device.type in AS_RECORDED
        last = grad.is_contiguous(memory_format=torch.channels_last) if kept else ctx.last
        layout = torch.channels_last if last else torch.contiguous_format
        return tuple(x.contiguous(memory_format=layout) for x in grad.split(ctx.channels, dim=1))


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """Activations (B, C_1, H, W), (B, C_2, H, W), ... as one (B, C_1 + C_2 + ..., H, W)."""
    return _Concatenate.apply(*tensors)
