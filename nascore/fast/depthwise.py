"""Depthwise convolutions on a CPU, where torch's gradients of wide and dilated kernels are slow.

The same function as torch's, in another order of sums; the page on speed says what it gains.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Depthwise(nn.Conv2d):
    """A convolution of each channel by itself, that keeps the shape (B, C, H, W)."""

    def __init__(self, channels: int, kernel: int, dilation: int):
        shape = {"kernel_size": kernel, "dilation": dilation, "padding": "same"}
        super().__init__(channels, channels, groups=channels, bias=False, **shape)

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (dilation, _) = self.kernel_size, self.dilation
        fast = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        fast = fast and (dilation == 1 or x.is_contiguous(memory_format=torch.channels_last))
        if not (fast and kernel in (3, 5) and dilation in (1, 2)):
            return super().forward(x)  # torch's own
        if dilation == 2:
            return batch_to_space(_Depthwise.apply(space_to_batch(x), self.weight), x.shape)
        return _Depthwise.apply(x, self.weight)


def space_to_batch(x: Tensor) -> Tensor:
    """The four images of every second row and column, (B, C, H, W) to (4 B, C, H / 2, W / 2).

    A convolution with dilation 2 is one without, on each of them. Odd sizes are padded with 0.
    """
    if any(size % 2 for size in x.shape[2:]):
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    x = x.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h, 2, w, 2, C)
    return x.permute(2, 4, 0, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


def batch_to_space(parts: Tensor, size: torch.Size) -> Tensor:
    """The inverse of ``space_to_batch``: (4 B, C, H / 2, W / 2) to (B, C, H, W), of this size."""
    parts = parts.permute(0, 2, 3, 1).unflatten(0, (2, 2, -1))  # (2, 2, B, h, w, C)
    x = parts.permute(2, 3, 0, 4, 1, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    return x if x.shape == size else x[:, :, : size[2], : size[3]]


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution without dilation, whose gradients are made of fast pieces.

    The gradient on x is a convolution with the flipped kernel. The one on the weight has a fast
    kernel in torch up to width 3; width 5 is put together from two of these.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding="same", groups=len(weight))

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = F.conv2d(grad, weight.flip(2, 3), padding="same", groups=len(weight))
        if ctx.needs_input_grad[1] and weight.shape[2] == 3:
            grad_weight = _weight_gradient(grad, x, weight, padding=(1, 1))
        elif ctx.needs_input_grad[1]:
            left, right = (  # columns 0 to 2 and 2 to 4 of the kernel
                _weight_gradient(grad, F.pad(x, sides), weight[..., :3], padding=(2, 0))
                for sides in ((2, 0), (0, 2))
            )
            grad_weight = torch.cat([left, right[..., 1:]], dim=3)
        return grad_x, grad_weight


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """The gradient of a depthwise convolution on a weight of this shape."""
    tensors, stride, dilation = (grad, x, weight.contiguous(), None), (1, 1), (1, 1)
    shape = (stride, padding, dilation, False, (0, 0), len(weight))
    return torch.ops.aten.convolution_backward(*tensors, *shape, (False, True, False))[1]
