"""Concatenation along the channels, with a backward pass that suits fast kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor


class _Concatenate(torch.autograd.Function):
    """Gradients come back in one piece: a slice takes batch normalisation ten times as long."""

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:
        ctx.channels = [x.shape[1] for x in tensors]
        return torch.cat(tensors, dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        last = grad.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return tuple(x.contiguous(memory_format=layout) for x in grad.split(ctx.channels, dim=1))


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """Activations (B, C_1, H, W), (B, C_2, H, W), ... as one (B, C_1 + C_2 + ..., H, W)."""
    return _Concatenate.apply(*tensors)
