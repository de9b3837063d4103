"""A dense cell in which batch normalisation is folded into the linear map before it.

Every operation ends in a linear map of the channels and a normalisation: the map is a pointwise
convolution, or, for the pools, the identity. With v the map's input, (rows, C), a row for each
example and place, W its matrix, and z the operation's weight, what it adds to a node is

    z (u - mean(u)) / sqrt(var(u) + eps) = v A + b,  u = v W^T,  A = z W^T diag(r),  b = -mean(v) A,

with r = 1 / sqrt(diag(W cov(v) W^T) + eps). The statistics of u follow from the mean and the
covariance of v, so u is never computed, and a node is one sum of products with small matrices. What
depends on the source alone, ReLU and pools, is computed once for all edges that leave it.

This is the same function as the plain path of ``supernet.Cell``, in another order of sums.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore.engine.operations import join_places, split_places

Term = tuple[Tensor, Tensor, Tensor]
"""v (rows, C_v), A (C_v, C) and b (C,), for v A + b."""


def column_sums(v: Tensor) -> Tensor:
    """The sum of the rows, (C,), as a matrix product: faster than a reduction on a CPU."""
    return v.new_ones(len(v)) @ v


class _Moments(torch.autograd.Function):
    """Mean (C,) and covariance (C, C) of the rows of v."""

    @staticmethod
    def forward(ctx, v: Tensor):
        mean = column_sums(v) / len(v)
        covariance = v.T @ v / len(v) - torch.outer(mean, mean)
        ctx.save_for_backward(v, mean)
        return mean, covariance

    @staticmethod
    def backward(ctx, grad_mean: Tensor, grad_covariance: Tensor):
        v, mean = ctx.saved_tensors
        slope = (grad_covariance + grad_covariance.T) / len(v)
        return torch.addmm(grad_mean / len(v) - mean @ slope, v, slope)


class _Sum(torch.autograd.Function):
    """b + sum of v A over pairs v (rows, C_v) and A (C_v, C)."""

    @staticmethod
    def forward(ctx, b: Tensor, *pairs: Tensor):
        ctx.save_for_backward(*pairs)
        total = torch.addmm(b, pairs[0], pairs[1])
        for v, a in zip(pairs[2::2], pairs[3::2], strict=True):
            total.addmm_(v, a)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor):
        pairs = ctx.saved_tensors
        slopes = []
        for v, a in zip(pairs[::2], pairs[1::2], strict=True):
            slopes += [grad @ a.T.contiguous(), v.T @ grad]
        return column_sums(grad), *slopes


def combine(terms: Sequence[Term]) -> Tensor:
    """The sum of v A + b over terms, (rows, C)."""
    b = sum(b for _, _, b in terms)
    return _Sum.apply(b, *(tensor for v, a, _ in terms for tensor in (v, a)))


def term(v: Tensor, weight: Tensor, z: Tensor, eps: float) -> Term:
    """z times the batch normalisation of v W^T, for W (C, C_v)."""
    mean, covariance = _Moments.apply(v)
    variance = ((weight @ covariance) * weight).sum(dim=1).clamp(min=0)  # rounding may go below
    a = (z * weight * torch.rsqrt(variance + eps).unsqueeze(1)).T
    return v, a, -(mean @ a)


def rows(x: Tensor) -> Tensor:
    """(B, C, H, W), channels last in memory, as (B H W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def image(v: Tensor, like: Tensor) -> Tensor:
    """Rows as (B, C, H, W), with the B, H and W of another map."""
    batch, _, height, width = like.shape
    return v.view(batch, height, width, -1).permute(0, 3, 1, 2)


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Pointwise convolution and batch normalisation, (B, C, H, W)."""
    return image(combine([term(rows(x), conv.weight.flatten(1), x.new_ones(()), norm.eps)]), x)


class Source:
    """A node that edges leave: what they all need of it is computed once.

    Arguments:
        x: the node, (B, C, H, W).
    """

    def __init__(self, x: Tensor):
        self.x = x
        self.one = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self.known = {}

    def once(self, name: str, make: Callable):
        if name not in self.known:
            self.known[name] = make()
        return self.known[name]

    @property
    def relu(self) -> Tensor:
        return self.once("relu", lambda: F.relu(self.x))

    @property
    def parts(self) -> Tensor:
        """ReLU of x, split for the dilated convolutions."""
        return self.once("parts", lambda: split_places(self.relu))

    def term(self, name: str, module: nn.Module, z: Tensor) -> Term:
        """What an operation adds to a node; of a dilated convolution, to the node's parts."""
        if name == "skip_connect":
            return rows(self.x), z * self.one, self.x.new_zeros(len(self.one))
        if name.endswith("pool_3x3"):
            pool, norm = module
            v, a, b = self.once(
                name, lambda: term(rows(pool(self.x)), self.one, self.x.new_ones(()), norm.eps)
            )
            return v, z * a, z * b
        if name.startswith("dil_conv"):
            last, v = module, rows(module.depthwise.on_parts(self.parts))
        else:
            first, last = module
            y = conv_norm(first.depthwise(self.relu), first.pointwise, first.norm)
            v = rows(last.depthwise(F.relu(y)))
        return term(v, last.pointwise.weight.flatten(1), z, last.norm.eps)


def node(terms: Sequence[Term], dilated: Sequence[Term], like: Tensor) -> Tensor | None:
    """A node from what its edges add to it and to its parts; None if that is nothing."""
    sums = []
    if terms:
        sums.append(image(combine(terms), like))
    if dilated:
        parts = image(combine(dilated), split_places(like[:, :1]))
        sums.append(join_places(parts, like.shape))
    return sum(sums[1:], start=sums[0]) if sums else None
