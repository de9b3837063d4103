"""The supernet: the weights theta of every operation on every edge of every cell."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nascore.engine.cpu import folded
from nascore.engine.cpu.depthwise import on_cpu
from nascore.engine.mask import Mask
from nascore.engine.operations import Weighted, build_norm, build_operation, relu_conv_norm
from nascore.engine.space import SearchSpace
from nascore.errors import ConfigError


class _UnitWeight(torch.autograd.Function):
    """``z * x`` for a scalar z that is exactly 1: forward is free, dL/dz = <dL/dx, x>."""

    @staticmethod
    def forward(ctx, x: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(x, z)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, z = ctx.saved_tensors
        grad_x = grad * z if torch.is_grad_enabled() else grad  # z counts if differentiated again
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        # Channels last in memory: this order of axes flattens without a copy.
        flat = [t.permute(0, 2, 3, 1).reshape(-1).to(z.dtype) for t in (grad, x)]
        return grad_x, torch.dot(*flat)


class _WithGradient(torch.autograd.Function):
    """The logits, with a path back to Z: its gradient is 0, not missing, where nothing ran."""

    @staticmethod
    def forward(ctx, logits: Tensor, z: Tensor) -> Tensor:
        ctx.z = z.shape, z.dtype, z.device
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx, grad: Tensor):
        shape, dtype, device = ctx.z
        wanted = ctx.needs_input_grad[1]
        return grad, torch.zeros(shape, dtype=dtype, device=device) if wanted else None


class _Concatenate(torch.autograd.Function):
    """Along the channels. Gradients come back in one piece, as fast kernels want them.

    A slice of a gradient takes ten times as long through batch normalisation on a CPU.
    """

    @staticmethod
    def forward(ctx, *maps: Tensor) -> Tensor:
        ctx.channels = [x.shape[1] for x in maps]
        return torch.cat(maps, dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        last = grad.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return tuple(x.contiguous(memory_format=layout) for x in grad.split(ctx.channels, dim=1))


def concatenate(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C_1, H, W), (B, C_2, H, W), ... as one (B, C_1 + C_2 + ..., H, W)."""
    return _Concatenate.apply(*maps)


class Partial(nn.Module):
    """An operation on the first 1/K of the channels. The others pass by, and all are shuffled.

    A weight z is that of all channels, so that an edge whose weights are 0 lets nothing pass.

    Source: Xu et al., 2020 (arXiv:1907.05737), where z is that of the first channels alone.

    Arguments:
        operation: for C/K channels, from ``build_operation``.
        partial: K.
    """

    def __init__(self, operation: nn.Module, partial: int):
        super().__init__()
        self.operation = operation
        self.partial = partial
        self.shuffle = nn.ChannelShuffle(partial)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        channels = x.shape[1] // self.partial
        part, rest = x.split([channels, x.shape[1] - channels], dim=1)
        rest = rest if z is None else z * rest
        return self.shuffle(concatenate([self.operation(part, z), rest]))


def build_partial(name: str, channels: int, norm: str, partial: int) -> nn.Module:
    """The module of one operation on 1/K of C channels.

    Raises ConfigError if K does not divide C, or C/K channels are not fit for the normalisation.

    >>> build_partial("skip_connect", 4, "batch", 2)(torch.arange(4.0).view(1, 4, 1, 1)).flatten()
    tensor([0., 2., 1., 3.])
    """
    if partial == 1:
        return build_operation(name, channels, norm)
    asked = f"channels={channels} for operations on 1/{partial} of them"
    if channels % partial:
        raise ConfigError(f"{asked}: give channels that {partial} divides, or another share.")
    try:
        return Partial(build_operation(name, channels // partial, norm), partial)
    except ValueError as error:
        raise ConfigError(f"{asked}: {error}") from error


class Cell(nn.Module):
    """A cell with every allowed operation on every edge.

    Arguments:
        space: the cell's nodes, edges and operations.
        inputs: channels of each input node's source.
        channels: channels C of every node.
        norm: name of the normalisation.
        partial: K, for operations on 1/K of the channels: see ``Partial``.
    """

    def __init__(
        self,
        space: SearchSpace,
        inputs: Sequence[int],
        channels: int,
        norm: str,
        partial: int = 1,
    ):
        super().__init__()
        self.space = space
        self.preprocess = nn.ModuleList(relu_conv_norm(c, channels, norm) for c in inputs)
        self.fold = all(folded.folds(module[-1]) for module in self.preprocess)
        self.operations = nn.ModuleList(
            nn.ModuleDict(
                {
                    str(k): build_partial(space.operations[k], channels, norm, partial)
                    for k in choices
                    if space.operations[k] != "none"
                }
            )
            for choices in space.choices
        )

    def nodes(self, inputs: Sequence[Tensor], weights: list[Tensor], mask: Mask) -> list[Tensor]:
        """All nodes, x_j = sum_i sum_k Z[i,j,k] O[i,j,k](x_i), each (B, C, H, W).

        Only active operations run, and probed ones if Z collects a gradient. A node that nothing
        reaches is None; one that only probed operations reach is 0.

        Arguments:
            inputs: one tensor for each input node, (B, channels of that input, H, W).
            weights: Z of this cell, a scalar tensor for each edge and operation, flattened.
            mask: says which operations to evaluate.
        """
        if self.folds(mask, inputs[0]):
            return self.folded_nodes(inputs, weights, mask)
        probed = mask.probed if weights[0].requires_grad else None
        nodes = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        edges = enumerate(self.space.edges)
        for j in self.space.intermediate_nodes:
            terms = []
            for _ in range(j):
                e, (i, _) = next(edges)
                if nodes[i] is None:
                    continue
                for module, z in self._running(e, mask.running(self.space), weights):
                    if mask.one_hot and isinstance(module, Weighted):
                        terms.append(_UnitWeight.apply(module(nodes[i]), z))
                    else:
                        terms.append(module(nodes[i], z))  # (B, C, H, W)
                for module, z in self._running(e, probed, weights) if probed else ():
                    with torch.no_grad():
                        x = module(nodes[i])
                    terms.append(z * x)
            nodes.append(sum(terms[1:], start=terms[0]) if terms else None)
        return nodes

    def folds(self, mask: Mask, x: Tensor) -> bool:
        """Whether the nodes take the folded path: a dense mask, a norm that folds, a CPU.

        The places of the dilated convolutions must be even in number, so that none is padded.
        """
        even = x.shape[2] % 2 == x.shape[3] % 2 == 0
        dense = not mask.one_hot and not any(mask.probed or ())
        return self.fold and dense and even and on_cpu(x)

    def folded_nodes(
        self, inputs: Sequence[Tensor], weights: list[Tensor], mask: Mask
    ) -> list[Tensor]:
        """As ``nodes``, for a dense mask: see cpu/folded.py."""
        sources = [
            folded.Source(folded.preprocess(module, x))
            for module, x in zip(self.preprocess, inputs, strict=True)
        ]
        edges = enumerate(self.space.edges)
        for j in self.space.intermediate_nodes:
            added = []
            for _ in range(j):
                e, (i, _) = next(edges)
                if sources[i] is not None:
                    running = self._running(e, mask.running(self.space), weights)
                    added += [sources[i].through(module, z) for module, z in running]
            x = folded.node(added, sources[0].x)
            sources.append(None if x is None else folded.Source(x))
        return [source and source.x for source in sources]

    def _running(self, e: int, rows: Sequence[Sequence[int]], weights: Sequence[Tensor]):
        """The operations of a row that compute something: module and Z."""
        for k in rows[e]:
            if self.space.operations[k] != "none":
                yield self.operations[e][str(k)], weights[e * len(self.space.operations) + k]

    def forward(self, inputs: Sequence[Tensor], weights: list[Tensor], mask: Mask) -> Tensor:
        """The concatenated output nodes, (B, C * output nodes, H, W)."""
        nodes = self.nodes(inputs, weights, mask)
        outputs = [nodes[j] for j in self.space.output_nodes]
        return concatenate([torch.zeros_like(nodes[0]) if x is None else x for x in outputs])


class Supernet(nn.Module):
    """Stem, cells without reduction, global average pool, linear classifier without bias.

    Source: the paper's setting, which is the one of DARTS less its reduction cells.

    Arguments:
        space: the search space of every cell.
        classes: number of classes.
        image_channels: channels of the images.
        cells: number of cells.
        channels: channels C of every node; the stem has 3 C.
        norm: name of the normalisation.
        recompute: keep only what enters each cell; the backward pass computes the rest again.
        partial: K, for operations on 1/K of the channels: see ``Partial``.

    Raises ConfigError if K does not divide the channels.
    """

    def __init__(
        self,
        space: SearchSpace,
        classes: int,
        image_channels: int = 3,
        cells: int = 8,
        channels: int = 16,
        norm: str = "batch",
        recompute: bool = False,
        partial: int = 1,
    ):
        super().__init__()
        width = 3 * channels
        self.space = space
        self.recompute = recompute
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, width, 3, padding=1, bias=False), build_norm(norm, width)
        )
        sources = [width] * space.inputs  # channels of what the next cell reads, newest last
        self.cells = nn.ModuleList()
        for _ in range(cells):
            self.cells.append(Cell(space, sources, channels, norm, partial))
            sources = [*sources, channels * len(space.output_nodes)][1:]
        self.classifier = nn.Linear(sources[-1], classes, bias=False)

    @contextmanager
    def unfolded(self) -> Iterator[None]:
        """While open, every operation is a call of its own module: for hooks, and to compare."""
        before = [cell.fold for cell in self.cells]
        for cell in self.cells:
            cell.fold = False
        try:
            yield
        finally:
            for cell, fold in zip(self.cells, before, strict=True):
                cell.fold = fold

    def operations(self) -> Iterator[tuple[tuple[int, int, int], nn.Module]]:
        """Every operation that has a module: its place (cell, edge, operation) and the module."""
        for c, cell in enumerate(self.cells):
            for e, modules in enumerate(cell.operations):
                for k, module in modules.items():
                    yield (c, e, int(k)), module

    def unit_weights(self, z: Tensor) -> Tensor:
        """A weight of 1 on each cell's output, whose gradient is what its output edges cost.

        A leaf, (cells,), like the leaf Z that goes with it.
        """
        return z.new_ones(len(self.cells)).requires_grad_()

    def forward(
        self, images: Tensor, z: Tensor, mask: Mask, outputs: Tensor | None = None
    ) -> Tensor:
        """Logits (B, classes) under one mask.

        Arguments:
            images: (B, image channels, H, W).
            z: Z, (edges, operations) for all cells, or (cells, edges, operations) for each, such
                as ``mask.per_cell(cells)``.
            mask: says which operations to evaluate.
            outputs: a weight of 1 on each cell's output, (cells,): see ``unit_weights``.
        """
        x = self.stem(images)
        inputs = [x] * self.space.inputs
        z = z.expand(len(self.cells), -1, -1)
        ones = [None] * len(self.cells) if outputs is None else outputs.unbind(0)
        for cell, row, one in zip(self.cells, z.flatten(1).unbind(0), ones, strict=True):
            x = self._output(cell, inputs, row.unbind(0), mask)
            if one is not None:
                x = _UnitWeight.apply(x, one)
            inputs = [*inputs, x][1:]
        return _WithGradient.apply(self.classifier(x.mean(dim=(2, 3))), z)

    def _output(self, cell: Cell, *arguments) -> Tensor:
        if not self.recompute:
            return cell(*arguments)
        # Nothing in a cell is random, so there is no state of a generator to keep.
        return checkpoint(cell, *arguments, use_reentrant=False, preserve_rng_state=False)
