"""The mask Z: what a framework draws, and where the local cost is read after a backward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nascore.engine.space import SearchSpace, Wiring


@dataclass
class Mask:
    """One draw of Z, shared by all cells.

    Arguments:
        weight: Z, (edges, operations).
        score: s, (edges, operations), differentiable in alpha.
        active: for each edge, the operations to evaluate, known on the host.
        one_hot: True if the weight of every active operation is exactly 1.
        probed: for each edge, operations whose weight is 0 and whose gradient dL/dZ is asked for
            all the same. They add nothing to a node and teach theta nothing.
        cost_weight: what dL/dZ is multiplied with to give the cost, (edges, operations), 0 for
            what does not run. By default Z.
    """

    weight: Tensor
    score: Tensor
    active: Sequence[Sequence[int]]
    one_hot: bool
    probed: Sequence[Sequence[int]] | None = None
    cost_weight: Tensor | None = None
    per_cell: Tensor | None = field(default=None, init=False)
    per_output: Tensor | None = field(default=None, init=False)

    def __post_init__(self):
        if self.probed is None:
            self.probed = [()] * len(self.active)
        if self.cost_weight is None:
            self.cost_weight = self.weight

    @classmethod
    def of(cls, wiring: Wiring, dtype: torch.dtype | None = None) -> "Mask":
        """The one-hot mask of a wiring. Its score does not depend on any alpha."""
        chosen = [wiring.space.operations.index(name) for name in wiring.operations]
        weight = torch.zeros(len(chosen), len(wiring.space.operations), dtype=dtype)
        weight[range(len(chosen)), chosen] = 1
        return cls(weight, weight, [[k] for k in chosen], one_hot=True)

    def copies(self, cells: int, track: bool = True) -> tuple[Tensor, Tensor]:
        """Z once for each cell, (cells, edges, operations), and 1 for each cell's output, (cells,).

        With ``track``, both collect their gradients.
        """
        self.per_cell = self.weight.detach().expand(cells, -1, -1).clone().requires_grad_(track)
        self.per_output = self.weight.new_ones(cells).requires_grad_(track)
        return self.per_cell, self.per_output

    def cost(self) -> Tensor:
        """The local cost, (cells, edges, operations), after a backward pass.

        C = Z * dL/dZ, unless the framework gave another ``cost_weight`` than Z. It is 0 where no
        gradient arrives, as in a mask whose edges are all `none`.
        """
        return self.cost_weight * _gradient(self.per_cell)

    def output_cost(self) -> Tensor:
        """What the output edges of each cell bring, <dL/dx, x> over its output, (cells,)."""
        return _gradient(self.per_output)

    def seen(self, space: SearchSpace) -> Tensor:
        """True for what was drawn on an edge whose source is reached, (edges, operations).

        Behind a node that no active operation joins to an input node, a cost of 0 says nothing.
        """
        reached = set(range(space.inputs))
        sources = []
        for (i, j), row in zip(space.edges, self.active, strict=True):
            sources.append(i in reached)
            if i in reached and any(space.operations[k] != "none" for k in row):
                reached.add(j)
        # A dense weight may be so small that it is 0 in float32; its score is finite.
        drawn = self.cost_weight > 0 if self.one_hot else self.score.detach() > -torch.inf
        if all(sources):
            return drawn
        return drawn & torch.tensor(sources, device=drawn.device).unsqueeze(1)


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
