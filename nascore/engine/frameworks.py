"""The frameworks: how each draws a mask Z from alpha, and with which score s.

A framework is no more than this. The gradient on alpha is the same for all of them: the local cost
C_k of each operation, pulled back through the score (see cost.py). C_k = Z_k dL/dZ_k, unless a
framework says otherwise. Every framework serves both levels: single-level search forms the cost on
the batch that theta learns from, bi-level search on a batch of the search set.

Each class states, edge by edge, its mask, its score and what follows for alpha, with k and m two
operations of the edge, and p = softmax(alpha). ``describe`` reads these lines for the book's table.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.space import SearchSpace
from nascore.errors import ConfigError, unknown


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


FRAMEWORKS: dict[str, type[Framework]] = {}
"""The frameworks by the name that a config gives."""


def register(name: str, replace: bool = False) -> Callable[[type], type]:
    """Makes a class known under a name, so that ``SearchConfig(framework=name)`` finds it.

    Its constructor takes the space; a field called ``temperature`` gets the config's. Searches in
    other processes must import the module that registers it.

    Arguments:
        replace: take the name over if it is in use, as when a notebook's cell runs again.

    Raises ConfigError if the name is in use and not to be replaced.
    """

    def add(framework: type) -> type:
        if name in FRAMEWORKS and not replace:
            raise ConfigError(
                f"framework {name!r} is registered twice: it is {FRAMEWORKS[name].__qualname__} "
                f"already. Choose another name for {framework.__qualname__}, or replace=True."
            )
        FRAMEWORKS[name] = framework
        return framework

    return add


@register("darts")
@dataclass(frozen=True)
class DARTS:
    """Deterministic and dense: every operation runs, weighted by its probability.

    Z = softmax(alpha)
    s = log Z
    dL/dalpha_m = C_m - Z_m sum_k C_k

    Source: Liu et al., 2019 (arXiv:1806.09055). Bi-level search takes the cost at theta (order 1)
    or after a virtual step of theta (order 2, see unrolled.py).
    """

    space: SearchSpace

    def draw(self, alpha: Tensor, generator: Generator | None = None) -> Mask:
        score = log_probability(alpha, self.space)
        return Mask(score.detach().exp(), score, self.space.choices, one_hot=False)


@register("snas")
@dataclass(frozen=True)
class SNAS:
    """Random and dense: a relaxed sample, whose noise stays fixed while alpha is differentiated.

    Z = softmax((log p + Gumbel) / temperature)
    s = log Z, pathwise
    dL/dalpha_m = (C_m - Z_m sum_k C_k) / temperature

    Source: Xie et al., 2019 (arXiv:1812.09926). The temperature may fall over a search: see
    ``temperature_end`` in SearchConfig.
    """

    space: SearchSpace
    temperature: float = 1.0

    def draw(self, alpha: Tensor, generator: Generator | None = None) -> Mask:
        noisy = log_probability(alpha, self.space) + gumbel(alpha, generator)
        score = F.log_softmax(noisy / self.temperature, dim=1)
        return Mask(score.detach().exp(), score, self.space.choices, one_hot=False)


@register("dsnas")
@dataclass(frozen=True)
class DSNAS:
    """Discrete: one sampled operation on each edge runs.

    Z = one-hot sample of p
    s = log p
    dL/dalpha_m = C_k (delta_km - p_m), k the sampled one

    Source: Hu et al., 2020 (arXiv:2002.09128).
    """

    space: SearchSpace

    def draw(self, alpha: Tensor, generator: Generator | None = None) -> Mask:
        score = log_probability(alpha, self.space)
        sampled = (score.detach() + gumbel(alpha, generator)).argmax(dim=1)  # (edges,)
        weight = F.one_hot(sampled, alpha.shape[1]).to(alpha.dtype)
        active = [[k] for k in sampled.tolist()]  # the one host synchronisation of a step
        return Mask(weight, score, active, one_hot=True)


@register("proxylessnas")
@dataclass(frozen=True)
class ProxylessNAS:
    """Discrete: of two sampled operations on each edge one is active, and both are compared.

    Z = g, one-hot sample of q, q = p renormalised over two operations sampled from p
    s = log q
    dL/dalpha_m = C_m - q_m sum_k C_k, with C_k = q_k dL/dg_k for both of the two

    Source: Cai et al., 2019 (arXiv:1812.00332), its gradient for the binary gates g. The two are
    drawn without replacement. Their rescaling of the two alphas after each update, which keeps the
    probability of the others, is left out: it is no part of the gradient. Where nothing else
    reaches the node of a closed gate, the slope behind it is the one at 0: 1 / sqrt(eps) through a
    pool, large, and taken as 0 through what begins with a ReLU.
    """

    space: SearchSpace

    def draw(self, alpha: Tensor, generator: Generator | None = None) -> Mask:
        log_p = log_probability(alpha, self.space)
        noisy = log_p.detach() + gumbel(alpha, generator)
        pair = noisy.topk(min(2, alpha.shape[1]), dim=1).indices  # (edges, 2)
        outside = torch.ones_like(noisy, dtype=torch.bool).scatter(1, pair, False)
        score = F.log_softmax(log_p.masked_fill(outside, -torch.inf), dim=1)  # log q
        gate = (score.detach() + gumbel(alpha, generator)).argmax(dim=1, keepdim=True)  # (edges, 1)
        weight = F.one_hot(gate.squeeze(1), alpha.shape[1]).to(alpha.dtype)
        active, probed = [], []
        rows = torch.cat([gate, pair], dim=1).tolist()  # the one host synchronisation of a step
        for choices, (k, *both) in zip(self.space.choices, rows, strict=True):
            active.append([k])
            probed.append([m for m in both if m != k and m in choices])
        q = score.detach().exp()
        return Mask(weight, score, active, one_hot=True, probed=probed, cost_weight=q)


def build_framework(name: str, space: SearchSpace, temperature: float = 1.0) -> Framework:
    """A framework by name, checked by one draw.

    ``temperature`` is for the frameworks that have one; the others take no notice of it.
    Raises ConfigError for an unknown name, or if the score does not depend on alpha.
    """
    if name not in FRAMEWORKS:
        raise ConfigError(unknown("framework", name, FRAMEWORKS))
    options = {"temperature": temperature} if has_temperature(name) else {}
    framework = FRAMEWORKS[name](space, **options)
    alpha = torch.zeros(len(space.edges), len(space.operations), requires_grad=True)
    score = framework.draw(alpha, Generator().manual_seed(0)).score
    try:
        pull_back(score, torch.zeros_like(score), alpha)
    except ConfigError as error:
        raise ConfigError(f"framework {name!r}: {error}") from None
    return framework


def has_temperature(name: str) -> bool:
    """Whether a framework has a temperature to set."""
    return "temperature" in inspect.signature(FRAMEWORKS[name]).parameters


def is_dense(name: str) -> bool:
    """Whether a framework runs every operation in each step, so that all its masks are alike."""
    space = SearchSpace.minimal()
    alpha = torch.zeros(len(space.edges), len(space.operations))
    return not build_framework(name, space).draw(alpha, Generator().manual_seed(0)).one_hot


def describe(name: str) -> dict[str, str]:
    """What a framework's docstring says: `mask`, `score`, `gradient` and `source`, as text.

    What a docstring does not say is "".
    """
    text = inspect.getdoc(FRAMEWORKS[name]) or ""
    lines = {"mask": "Z", "score": "s", "gradient": "dL/dalpha_m"}
    found = {key: re.search(rf"^{start} = (.*)$", text, re.M) for key, start in lines.items()}
    found["source"] = re.search(r"^Source: (.*?\(.*?\))", text, re.M)
    return {key: match[1] if match else "" for key, match in found.items()}
