"""The supernet: the weights theta of every operation on every edge of every cell."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nascore.engine.mask import Mask, Rows
from nascore.engine.operations import Weighted, build_norm, build_operation, relu_conv_norm
from nascore.engine.space import SearchSpace
from nascore.errors import ConfigError, checked
from nascore.fast.layout import concatenate


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


Build = Callable[[str, int, str], nn.Module]  # from an operation's name, the channels, a norm


class Cell(nn.Module):
    """A cell with every allowed operation on every edge, from sources of so many channels each."""

    def __init__(
        self, space: SearchSpace, sources: Sequence[int], channels: int, norm: str, build: Build
    ):
        super().__init__()
        self.space = space
        self.preprocess = nn.ModuleList(relu_conv_norm(c, channels, norm) for c in sources)
        self.operations = nn.ModuleList(nn.ModuleDict() for _ in space.edges)
        for modules, choices in zip(self.operations, space.choices, strict=True):
            for k in choices:
                if space.operations[k] != "none":
                    modules[str(k)] = build(space.operations[k], channels, norm)

    def nodes(self, inputs: Sequence[Tensor], weights: Sequence[Tensor], mask: Mask) -> list:
        """All nodes, x_j = sum_i sum_k Z[i,j,k] O[i,j,k](x_i), each (B, C, H, W).

        Only active operations run, and those of gradient_only if Z collects a gradient. A node that
        nothing reaches is None; one that only these reach is 0. The inputs are (B, channels of each
        source, H, W), the weights Z of this cell, a scalar for each edge and operation in turn.
        """
        active = mask.running(self.space)
        gradient_only = mask.gradient_only if weights[0].requires_grad else None
        nodes = [module(x) for module, x in zip(self.preprocess, inputs, strict=True)]
        edges = enumerate(self.space.edges)
        for j in self.space.intermediate_nodes:
            terms = []
            for _ in range(j):
                e, (i, _) = next(edges)
                if nodes[i] is None:
                    continue
                for module, z in self.running(e, active, weights):
                    free = mask.one_hot and isinstance(module, Weighted)
                    x = _UnitWeight.apply(module(nodes[i]), z) if free else module(nodes[i], z)
                    terms.append(x)  # (B, C, H, W)
                for module, z in self.running(e, gradient_only, weights) if gradient_only else ():
                    with torch.no_grad():
                        x = module(nodes[i])
                    terms.append(z * x)
            nodes.append(sum(terms[1:], start=terms[0]) if terms else None)
        return nodes

    def running(
        self, e: int, rows: Rows, weights: Sequence[Tensor]
    ) -> Iterator[tuple[nn.Module, Tensor]]:
        """The operations of a row that compute something, each with its Z."""
        for k in rows[e]:
            if self.space.operations[k] != "none":
                yield self.operations[e][str(k)], weights[e * len(self.space.operations) + k]

    def forward(self, inputs: Sequence[Tensor], weights: Sequence[Tensor], mask: Mask) -> Tensor:
        """The concatenated output nodes, (B, C * output nodes, H, W)."""
        nodes = self.nodes(inputs, weights, mask)
        outputs = [nodes[j] for j in self.space.output_nodes]
        return concatenate([torch.zeros_like(nodes[0]) if x is None else x for x in outputs])


class Affine(nn.Module):
    """A scale and a shift of each channel, 1 and 0 at the start."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


@checked
class Supernet(nn.Module):
    """Stem, cells without reduction, global average pool, linear classifier without bias.

    Every node has C channels, the stem 3 C. Source: the paper's setting, which is the one of DARTS
    without its reduction cells. Raises ConfigError if a number is not at least 1, or if an
    operation or the norm cannot take so many channels.
    """

    def __init__(
        self,
        space: SearchSpace,
        classes: int,
        image_channels: int = 3,
        cells: int = 8,
        channels: int = 16,
        norm: str = "batch",
        stem_affine: bool = False,  # learn a scale and a shift behind the stem's normalisation
        recompute: bool = False,  # keep only what enters a cell; backward computes the rest again
        build: Build = build_operation,
    ):
        super().__init__()
        if min(classes, image_channels, cells, channels) < 1:
            numbers = f"{classes=}, {image_channels=}, {cells=}, {channels=}"
            raise ConfigError(f"{numbers}: give at least 1 of each.")
        self.space, self.recompute, width = space, recompute, 3 * channels
        stem = nn.Conv2d(image_channels, width, 3, padding=1, bias=False)
        affine = [Affine(width)] if stem_affine else []
        self.stem = nn.Sequential(stem, build_norm(norm, width), *affine)
        sources = [width] * space.inputs  # channels of what the next cell reads, newest last
        self.cells = nn.ModuleList()
        for _ in range(cells):
            self.cells.append(Cell(space, sources, channels, norm, build))
            sources = [*sources, channels * len(space.output_nodes)][1:]
        self.classifier = nn.Linear(sources[-1], classes, bias=False)

    def operations(self) -> Iterator[tuple[tuple[int, int, int], nn.Module]]:
        """Every operation that has a module: its place (cell, edge, operation) and the module."""
        for c, cell in enumerate(self.cells):
            for e, modules in enumerate(cell.operations):
                for k, module in modules.items():
                    yield (c, e, int(k)), module

    def unit_weights(self, z: Tensor) -> Tensor:
        """A leaf, (cells,): 1 on each cell's output, its gradient what the output edges cost."""
        return z.new_ones(len(self.cells)).requires_grad_()

    def forward(
        self, images: Tensor, z: Tensor, mask: Mask, outputs: Tensor | None = None
    ) -> Tensor:
        """Logits (B, classes) under one mask, of images (B, image channels, H, W).

        Z is (edges, operations), for all cells, or (cells, edges, operations), such as
        ``mask.per_cell(cells)``. Outputs are ``unit_weights``, (cells,).
        """
        x = self.stem(images)
        inputs = [x] * self.space.inputs
        z = z.expand(len(self.cells), -1, -1)
        ones = [None] * len(self.cells) if outputs is None else outputs.unbind(0)
        for cell, row, one in zip(self.cells, z.flatten(1).unbind(0), ones, strict=True):
            call = partial(checkpoint, cell, use_reentrant=False) if self.recompute else cell
            x = call(inputs, row.unbind(0), mask)
            x = x if one is None else _UnitWeight.apply(x, one)
            inputs = [*inputs, x][1:]
        nothing = 0 * z.sum()  # the gradient of Z is 0, not missing, where nothing ran
        return self.classifier(x.mean(dim=(2, 3))) + nothing
