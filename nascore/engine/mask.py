"""The mask: one draw of Z, the weight of every operation on every edge, and its score."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nascore.engine.space import SearchSpace, Wiring

Rows = Sequence[Sequence[int]]  # for each edge, indices of operations, known on the host


@dataclass(frozen=True)
class Mask:
    """A plan of one step, shared by all cells: which operations run, and with which weight.

    An operation that is ``gradient_only`` adds nothing to a node and teaches theta nothing.
    """

    weight: Tensor  # Z, (edges, operations)
    score: Tensor  # s, (edges, operations), differentiable in what the framework learns
    active: Rows | None = None  # the operations that run on each edge; None: all that it may take
    one_hot: bool = False  # whether the weight of every active operation is exactly 1
    gradient_only: Rows | None = None  # operations of weight 0 that are run for dL/dZ alone
    cost_scale: Tensor | None = None  # times dL/dZ it is the cost, 0 where nothing runs; default Z

    def __post_init__(self):
        if self.cost_scale is None:
            object.__setattr__(self, "cost_scale", self.weight)

    @classmethod
    def sample(cls, sampled: Tensor, score: Tensor, **settings) -> "Mask":
        """A mask that runs one operation on each edge, by its index in ``sampled``, (edges,)."""
        weight = F.one_hot(sampled, score.shape[1]).to(score.dtype)
        active = [[k] for k in sampled.tolist()]  # the one host synchronisation of a step
        return cls(weight, score, active, one_hot=True, **settings)

    @classmethod
    def of(cls, wiring: Wiring, dtype: torch.dtype | None = None) -> "Mask":
        """The one-hot mask of a wiring. Its score does not depend on any alpha."""
        chosen = [wiring.space.operations.index(name) for name in wiring.operations]
        score = torch.zeros(len(chosen), len(wiring.space.operations), dtype=dtype)
        return cls.sample(torch.tensor(chosen), score)

    def per_cell(self, cells: int) -> Tensor:
        """Z once for each cell: a leaf that collects its gradient, (cells, edges, operations)."""
        return self.weight.detach().expand(cells, -1, -1).clone().requires_grad_()

    def running(self, space: SearchSpace) -> Rows:
        """The operations of each edge that are evaluated."""
        return space.choices if self.active is None else self.active

    def seen(self, space: SearchSpace) -> Tensor:
        """True for what was drawn on an edge whose source is reached, (edges, operations).

        Behind a node that nothing which runs joins to an input node, a cost of 0 says nothing.
        """
        reached = set(range(space.inputs))
        sources = []
        for (i, j), row in zip(space.edges, self.running(space), strict=True):
            sources.append(i in reached)
            if i in reached and any(space.operations[k] != "none" for k in row):
                reached.add(j)
        # A dense weight may be so small that it is 0 in float32; its score is finite.
        drawn = self.cost_scale > 0 if self.one_hot else self.score.detach() > -torch.inf
        if all(sources):
            return drawn
        return drawn & torch.tensor(sources, device=drawn.device).unsqueeze(1)
