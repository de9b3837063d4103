"""Which way cost comes: the incoming cost of a node, split by the paths that its output takes."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nascore.engine.mask import Mask
from nascore.engine.space import Edge, SearchSpace, parse_edge
from nascore.engine.supernet import Supernet


@dataclass(frozen=True)
class PathSplit:
    """The cost that arrives at the nodes of each cell, by where it comes from, in nats.

    For every intermediate node j, ``incoming[j] = output[j] + sum of through[(j, k)] over k``:
    the node's own output edge, and each later edge. Theorem T1 says that the second part is 0 but
    for `skip_connect`; theorem T2 that the outputs of the last cell bring L - H together.
    """

    space: SearchSpace
    incoming: Tensor  # sum of Z dL/dZ on the edges into a node, (cells, intermediate nodes)
    output: Tensor  # <dL/dx_j by the output edge, x_j>, (cells, intermediate nodes); 0 without one
    through: Tensor  # <dL/dx_i by operation k of edge (i, j), x_i>, (cells, edges, operations)

    def path(self, edge: Edge | str) -> Tensor:
        """The cost that an edge, such as (2, 3) or "(2,3)", passes to its source, (cells,)."""
        return self.through[:, self.space.edges.index(parse_edge(edge))].sum(dim=1)


def split_by_path(supernet: Supernet, mask: Mask, images: Tensor, labels: Tensor) -> PathSplit:
    """Measures where the cost of every node comes from, in one forward and one backward pass.

    Every operation reads its source through an alias of its own, so that autograd leaves there
    the part of dL/dx_i that comes back through this operation. Theta's gradients stay as they are.
    Images (B, channels, H, W), labels (B,).
    """
    z, space = mask.per_cell(len(supernet.cells)), supernet.space
    readers = {}  # what each operation reads, by its place: (cell, edge, operation)
    outputs = []  # of each cell

    def read(place, module, inputs):
        if not torch.is_grad_enabled():  # a gradient-only operation teaches its source nothing
            return None
        readers[place] = inputs[0].view_as(inputs[0])
        return readers[place], *inputs[1:]

    def keep_output(module, inputs, x):
        outputs.append(x.requires_grad_())  # also where nothing arrives, and it is a plain 0

    with ExitStack() as hooks:
        for place, module in supernet.operations():
            hooks.enter_context(module.register_forward_pre_hook(partial(read, place)))
        for cell in supernet.cells:
            hooks.enter_context(cell.register_forward_hook(keep_output))
        loss = F.cross_entropy(supernet(images, z, mask), labels)
    wanted = [z, *readers.values(), *outputs]
    slope, *gradients = torch.autograd.grad(loss, wanted, materialize_grads=True)
    with torch.no_grad():
        through = torch.zeros_like(z)
        for (place, x), gradient in zip(readers.items(), gradients, strict=False):
            through[place] = (gradient * x).sum()
        cost = (mask.weight * slope).sum(dim=2)  # (cells, edges)
        incoming = cost.new_zeros(len(cost), space.nodes)
        incoming.index_add_(1, torch.tensor([j - space.inputs for _, j in space.edges]), cost)
        output = torch.zeros_like(incoming)
        where = [j - space.inputs for j in space.output_nodes]
        for row, x, gradient in zip(output, outputs, gradients[len(readers) :], strict=True):
            per_channel = (gradient * x).sum(dim=(0, 2, 3))  # (C * output nodes,)
            row[where] = per_channel.view(len(where), -1).sum(dim=1)
    return PathSplit(space, incoming, output, through)
