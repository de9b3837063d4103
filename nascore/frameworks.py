"""The frameworks: how each draws a mask Z from alpha, and with which score.

A framework is no more than this. The gradient on alpha is the same for all of them: the local cost
of each operation, pulled back through the score (see cost.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from nascore.errors import ConfigError, unknown
from nascore.space import SearchSpace


@dataclass
class Mask:
    """One draw of Z, shared by all cells.

    Arguments:
        weight: Z, (edges, operations).
        score: s, (edges, operations), differentiable in alpha.
        active: for each edge, the operations to evaluate, known on the host.
        one_hot: True if the weight of every active operation is exactly 1.
    """

    weight: Tensor
    score: Tensor
    active: Sequence[Sequence[int]]
    one_hot: bool
    per_cell: Tensor | None = field(default=None, init=False)

    def copies(self, cells: int, track: bool = True) -> Tensor:
        """Z once for each cell, (cells, edges, operations); with ``track``, it collects dL/dZ."""
        copies = self.weight.detach().expand(cells, -1, -1).clone()
        self.per_cell = copies.requires_grad_(track)
        return self.per_cell

    def cost(self) -> Tensor:
        """The local cost C = Z * dL/dZ, (cells, edges, operations), after a backward pass.

        It is 0 where no gradient arrives, as in a mask whose edges are all `none`.
        """
        if self.per_cell.grad is None:
            return torch.zeros_like(self.per_cell)
        return self.per_cell.detach() * self.per_cell.grad

    def seen(self, space: SearchSpace) -> Tensor:
        """True for what was drawn on an edge whose source is reached, (edges, operations).

        Behind a node that nothing reaches, no operation runs, and a cost of 0 says nothing.
        """
        reached = set(range(space.inputs))
        sources = []
        for (i, j), row in zip(space.edges, self.active, strict=True):
            sources.append(i in reached)
            if i in reached and any(space.operations[k] != "none" for k in row):
                reached.add(j)
        drawn = self.weight > 0
        if all(sources):
            return drawn
        return drawn & torch.tensor(sources, device=drawn.device).unsqueeze(1)


class Framework(Protocol):
    """Draws masks. ``space`` says which operations an edge may take."""

    def draw(self, alpha: Tensor, generator: Generator | None) -> Mask:
        """A mask from alpha, (edges, operations)."""


@cache
def _forbidden(choices: tuple[tuple[int, ...], ...], operations: int, device) -> Tensor:
    """True where an edge may not take an operation, (edges, operations)."""
    rows = [[k not in row for k in range(operations)] for row in choices]
    return torch.tensor(rows, device=device)


def log_probability(alpha: Tensor, space: SearchSpace) -> Tensor:
    """log softmax(alpha) over the operations that each edge may take, (edges, operations).

    An operation that is not allowed has probability 0, and its alpha a gradient of exactly 0.
    """
    forbidden = _forbidden(space.choices, len(space.operations), alpha.device)
    return F.log_softmax(alpha.masked_fill(forbidden, -torch.inf), dim=1)


def gumbel(like: Tensor, generator: Generator | None) -> Tensor:
    """Independent standard Gumbel noise of the shape of ``like``."""
    return -torch.empty_like(like).exponential_(generator=generator).log()


@dataclass(frozen=True)
class DARTS:
    """Z = softmax(alpha), deterministic and dense; s = log Z.  Source: Liu et al., 2019.

    dL/dalpha_m = sum_k (dL/dZ_k) Z_k (delta_km - Z_m) = C_m - Z_m sum_k C_k.
    """

    space: SearchSpace

    def draw(self, alpha: Tensor, generator: Generator | None = None) -> Mask:
        score = log_probability(alpha, self.space)
        return Mask(score.detach().exp(), score, self.space.choices, one_hot=False)


@dataclass(frozen=True)
class SNAS:
    """Z = softmax((log softmax(alpha) + Gumbel) / temperature), dense; s = log Z, pathwise.

    Source: Xie et al., 2019. dL/dalpha_m = (C_m - Z_m sum_k C_k) / temperature.
    """

    space: SearchSpace
    temperature: float = 1.0

    def draw(self, alpha: Tensor, generator: Generator | None = None) -> Mask:
        noisy = log_probability(alpha, self.space) + gumbel(alpha, generator)
        score = F.log_softmax(noisy / self.temperature, dim=1)
        return Mask(score.detach().exp(), score, self.space.choices, one_hot=False)


@dataclass(frozen=True)
class DSNAS:
    """Z = one-hot sample of softmax(alpha), discrete; s = log softmax(alpha).

    Source: Hu et al., 2020. Only the sampled operation k runs, and
    dL/dalpha_m = C_k (delta_km - p_m).
    """

    space: SearchSpace

    def draw(self, alpha: Tensor, generator: Generator | None = None) -> Mask:
        score = log_probability(alpha, self.space)
        sampled = (score.detach() + gumbel(alpha, generator)).argmax(dim=1)  # (edges,)
        weight = F.one_hot(sampled, alpha.shape[1]).to(alpha.dtype)
        active = [[k] for k in sampled.tolist()]  # the one host synchronisation of a step
        return Mask(weight, score, active, one_hot=True)


FRAMEWORKS = {"darts": DARTS, "snas": SNAS, "dsnas": DSNAS}


def build_framework(name: str, space: SearchSpace, temperature: float = 1.0) -> Framework:
    """A framework by name. ``temperature`` is the one of SNAS; the others have none.

    Raises ConfigError for an unknown name.
    """
    if name not in FRAMEWORKS:
        raise ConfigError(unknown("framework", name, FRAMEWORKS))
    if name == "snas":
        return SNAS(space, temperature)
    return FRAMEWORKS[name](space)
