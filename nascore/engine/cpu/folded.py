"""A dense cell in which batch normalisation is folded into the linear map before it.

An operation that has a method ``fold(source, z)`` ends in a linear map of the channels and a
normalisation: the map is a pointwise convolution, or, for the pools, the identity. With v the map's
input, (rows, C), a row for each example and place, W its matrix, and z the operation's weight, what
it adds to a node is

    z (u - mean(u)) / sqrt(var(u) + eps) = v A + b,  u = v W^T,  A = z W^T diag(r),  b = -mean(v) A,

with r = 1 / sqrt(diag(W cov(v) W^T) + eps). The statistics of u follow from the mean and the
covariance of v, so u is never computed, and a node is one sum of products with small matrices. What
depends on the source alone, ReLU and pools, is computed once for all edges that leave it. An
operation without such a method is called as it is, and its map is added.

This is the same function as the plain path of ``supernet.Cell``, in another order of sums.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascore.engine.cpu.depthwise import Depthwise, join_places, on_cpu, split_places
from nascore.engine.mask import Mask


def applies(cell: nn.Module, mask: Mask, x: Tensor) -> bool:
    """Whether a cell of the supernet takes the folded path: a dense mask, a norm that folds, a CPU.

    The places of the dilated convolutions must be even in number, so that none is padded.
    """
    even = x.shape[2] % 2 == x.shape[3] % 2 == 0
    dense = not mask.one_hot and not any(mask.probed or ())
    return cell.fold and dense and even and on_cpu(x)


def nodes(
    cell: nn.Module, inputs: Sequence[Tensor], weights: Sequence[Tensor], mask: Mask
) -> list[Tensor | None]:
    """As ``Cell.nodes``, for a dense mask."""
    outs = zip(cell.preprocess, inputs, strict=True)
    sources = [Source(preprocess(module, x)) for module, x in outs]
    edges = enumerate(cell.space.edges)
    for j in cell.space.intermediate_nodes:
        added = []
        for _ in range(j):
            e, (i, _) = next(edges)
            if sources[i] is not None:
                running = cell.running(e, mask.running(cell.space), weights)
                added += [sources[i].through(module, z) for module, z in running]
        x = node(added, sources[0].x)
        sources.append(None if x is None else Source(x))
    return [source and source.x for source in sources]


class Term(NamedTuple):
    """v A + b, which an operation adds to a node or, if dilated, to the node's ``split_places``."""

    v: Tensor  # (rows, C_v)
    a: Tensor  # (C_v, C)
    b: Tensor  # (C,)
    of_parts: bool = False


def folds(norm: nn.Module) -> bool:
    """Whether a normalisation says how it folds into the map before it: ``fold(v, W, z)``."""
    return hasattr(norm, "fold")


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
    b = sum(term.b for term in terms)
    return _Sum.apply(b, *(tensor for term in terms for tensor in (term.v, term.a)))


def term(v: Tensor, weight: Tensor, z: Tensor, eps: float) -> Term:
    """z times the batch normalisation of v W^T, for W (C, C_v)."""
    mean, covariance = _Moments.apply(v)
    variance = ((weight @ covariance) * weight).sum(dim=1).clamp(min=0)  # rounding may go below
    a = (z * weight * torch.rsqrt(variance + eps).unsqueeze(1)).T
    return Term(v, a, -(mean @ a))


def rows(x: Tensor) -> Tensor:
    """(B, C, H, W), channels last in memory, as (B H W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def image(v: Tensor, like: Tensor) -> Tensor:
    """Rows as (B, C, H, W), with the B, H and W of another map."""
    batch, _, height, width = like.shape
    return v.view(batch, height, width, -1).permute(0, 3, 1, 2)


def preprocess(module: nn.Sequential, x: Tensor) -> Tensor:
    """What a module of ``relu_conv_norm`` makes of x, (B, C, H, W)."""
    _, conv, norm = module
    x = F.relu(x)
    return image(combine([norm.fold(rows(x), conv.weight.flatten(1), x.new_ones(()))]), x)


class Source:
    """A node x, (B, C, H, W), that edges leave: what they all need of it is computed once.

    ``identity``, ``pool`` and ``separable`` are what an operation's ``fold`` is made of.
    """

    def __init__(self, x: Tensor):
        self.x, self.pools = x, {}

    @cached_property
    def relu(self) -> Tensor:
        return F.relu(self.x)

    @cached_property
    def parts(self) -> Tensor:
        """ReLU of x, split for the dilated convolutions."""
        return split_places(self.relu)

    @cached_property
    def one(self) -> Tensor:
        """The matrix that leaves the channels as they are, (C, C)."""
        return torch.eye(self.x.shape[1], dtype=self.x.dtype, device=self.x.device)

    def through(self, module: nn.Module, z: Tensor) -> Term | Tensor:
        """z O(x): as a term, or, if the operation does not fold, as a map (B, C, H, W)."""
        term = self._folded(module, z)
        return module(self.x, z) if term is None else term

    def then(self, module: nn.Module) -> "Source":
        """O(x), for another operation to read."""
        term = self._folded(module, self.x.new_ones(()))
        return Source(module(self.x) if term is None else node([term], self.x))

    def _folded(self, module: nn.Module, z: Tensor) -> Term | Tensor | None:
        fold = getattr(module, "fold", None)
        return fold(self, z) if fold else None

    def identity(self, z: Tensor) -> Term:
        """z x."""
        return Term(rows(self.x), z * self.one, self.x.new_zeros(len(self.one)))

    def pool(self, pool: Callable, norm: nn.Module, z: Tensor) -> Term | None:
        """A pool and its normalisation, times z; None if that does not fold."""
        if not folds(norm):
            return None
        key = (pool, type(norm), norm.eps)
        if key not in self.pools:
            self.pools[key] = norm.fold(rows(pool(self.x)), self.one, self.x.new_ones(()))
        v, a, b, _ = self.pools[key]
        return Term(v, z * a, z * b)

    def separable(
        self, depthwise: Depthwise, pointwise: nn.Conv2d, norm: nn.Module, z: Tensor
    ) -> Term | None:
        """ReLU, both convolutions and normalisation, times z; None if that does not fold."""
        if not folds(norm):
            return None
        y = depthwise.on_parts(self.parts) if depthwise.splits else depthwise(self.relu)
        v, a, b, _ = norm.fold(rows(y), pointwise.weight.flatten(1), z)
        return Term(v, a, b, depthwise.splits)


def node(added: Sequence[Term | Tensor], like: Tensor) -> Tensor | None:
    """A node from what its edges add to it, (B, C, H, W) as ``like``; None if that is nothing."""
    terms = [term for term in added if isinstance(term, Term)]
    sums = []
    if plain := [term for term in terms if not term.of_parts]:
        sums.append(image(combine(plain), like))
    if dilated := [term for term in terms if term.of_parts]:
        parts = image(combine(dilated), split_places(like[:, :1]))
        sums.append(join_places(parts, like.shape))
    sums += [x for x in added if not isinstance(x, Term)]
    return sum(sums[1:], start=sums[0]) if sums else None
