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

    What an operation reads has a factor 1 of its own, and so has every output node of a cell. The
    gradient of such a factor is <dL/dx, x>, as it comes back on this path alone. Theta's gradients
    stay as they are. Images (B, channels, H, W), labels (B,).
    """
    z, space = mask.per_cell(len(supernet.cells)), supernet.space
    read = torch.ones_like(z).requires_grad_()
    brought = z.new_ones(len(z), space.nodes).requires_grad_()
    at = [j - space.inputs for j in space.output_nodes]

    def scale_input(place, module, inputs):
        return inputs[0] * read[place], *inputs[1:]

    def scale_output(cell, module, inputs, x):  # (B, C * output nodes, H, W)
        return (x.unflatten(1, (len(at), -1)) * brought[cell, at].view(-1, 1, 1, 1)).flatten(1, 2)

    with ExitStack() as hooks:
        for place, module in supernet.operations():
            hooks.enter_context(module.register_forward_pre_hook(partial(scale_input, place)))
        for c, cell in enumerate(supernet.cells):
            hooks.enter_context(cell.register_forward_hook(partial(scale_output, c)))
        loss = F.cross_entropy(supernet(images, z, mask), labels)
        factors = (z, read, brought)  # with recompute, hooks are called in the backward pass, too
        slope, through, output = torch.autograd.grad(loss, factors, materialize_grads=True)
    cost = (mask.weight * slope).sum(dim=2)  # (cells, edges)
    into = torch.tensor([j - space.inputs for _, j in space.edges], device=z.device)
    incoming = torch.zeros_like(output).index_add(1, into, cost)
    return PathSplit(space, incoming, output, through)
