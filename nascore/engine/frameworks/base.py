"""What a framework is: whatever draws a mask, and says of itself what others need to know."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from torch import Generator, Tensor

from nascore.engine.cost import pull_back
from nascore.engine.mask import Mask
from nascore.engine.space import SearchSpace
from nascore.errors import ConfigError, explain
from nascore.plugins import Registry, failure


class Formulas(NamedTuple):
    """A framework edge by edge, with k and m two operations of the edge and p = softmax(alpha)."""

    mask: str
    score: str
    gradient: str
    source: str


class Framework(BaseModel, ABC):
    """Draws masks. Only ``draw`` is required; the rest has the usual defaults.

    Fields of a subclass are its options: typed, with a default, and checked when it is made. A
    framework is a value. What it learns and what it remembers are tensors that the search keeps and
    hands to its methods by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    _space: SearchSpace | None = PrivateAttr(None)

    dense: ClassVar[bool] = False
    """Every operation runs in each step, so that all masks are alike."""
    unrolls: ClassVar[bool] = False
    """The mask depends on what is learned alone, so that a virtual step of theta is defined."""
    formulas: ClassVar[Formulas | None] = None
    """What it does, for tables."""
    recorded: ClassVar[Mapping[str, tuple]] = {}
    """What it learns besides alpha and is to be recorded: by name, its dimensions (first "epoch"),
    type, long name and unit."""

    @abstractmethod
    def draw(self, alpha: Tensor, generator: Generator | None) -> Mask:
        """A mask.

        Arguments:
            alpha: (edges, operations), -inf where an edge may not take an operation. A framework
                that learns more gets each of its parameters by name.
            generator: of everything random.
        """

    def at(self, progress: float) -> Self:
        """The framework at a moment of the search: 0 in the first epoch, 1 in the last."""
        return self

    def parameters(self, alpha: Tensor) -> dict[str, Tensor]:
        """What is learned, at the start, by name.

        Arguments:
            alpha: the usual start, (edges, operations).
        """
        return {"alpha": alpha}

    def state(self) -> dict[str, Tensor]:
        """What is remembered from step to step, at the start, by name."""
        return {}

    def next_state(self, loss: Tensor, **state: Tensor) -> dict[str, Tensor]:
        """What is remembered after a step in which alpha learned.

        Arguments:
            loss: mean loss of the batch, ().
            state: what was remembered before.
        """
        return state

    def probability(self, alpha: Tensor, **others: Tensor) -> Tensor:
        """What is recorded, and where the wiring is read: (edges, operations) from 0 to 1.

        Arguments as of ``draw``. Default: softmax(alpha).
        """
        return alpha.log_softmax(dim=1).exp()

    def penalty(self, **parameters: Tensor) -> Tensor | None:
        """A scalar that is added to the loss of alpha; None for none. Arguments as of ``draw``."""
        return None

    def cost(self, mask: Mask, cost: Tensor, loss: Tensor, **state: Tensor) -> Tensor:
        """What meets the score, (edges, operations): by default the local cost of all cells.

        Arguments:
            mask: what was drawn.
            cost: the local cost, (cells, edges, operations).
            loss: mean loss of the batch, ().
            state: what is remembered.
        """
        return cost.sum(dim=0)

    def supernet_settings(self) -> dict[str, Any]:
        """Arguments that it asks the supernet to be made with."""
        return {}

    def on(self, space: SearchSpace) -> Self:
        """The framework for one search space."""
        bound = self.model_copy()
        bound._space = space
        return bound

    @property
    def space(self) -> SearchSpace:
        """The search space. Raises ConfigError before ``on`` has said which."""
        if self._space is None:
            raise ConfigError(f"{type(self).__name__} has no space yet: call on(space) first.")
        return self._space

    def mask(self, parameters: Mapping[str, Tensor], generator: Generator | None = None) -> Mask:
        """A mask in which no edge takes what it may not.

        Arguments:
            parameters: what has been learned so far, by name.
        """
        return self.draw(**self.restricted(parameters), generator=generator)

    def restricted(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters as ``draw`` takes them: alpha is -inf where an operation is not allowed.

        So its probability is 0, and its gradient exactly 0.
        """
        parameters = dict(parameters)
        if "alpha" in parameters:
            alpha = parameters["alpha"]
            forbidden = _forbidden(self.space.choices, alpha.shape[1], alpha.device)
            parameters["alpha"] = alpha.masked_fill(forbidden, -torch.inf)
        return parameters


@cache
def _forbidden(choices: tuple[tuple[int, ...], ...], operations: int, device) -> Tensor:
    """True where an edge may not take an operation, (edges, operations)."""
    rows = [[k not in row for k in range(operations)] for row in choices]
    return torch.tensor(rows, device=device)


def _wrong(plugin: Any) -> str | None:
    if not (isinstance(plugin, type) and issubclass(plugin, Framework)):
        return f"{plugin!r} is not a framework. Make it a class that inherits from Framework."
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    if missing:
        return f"{plugin.__qualname__} has no {missing[0]}(self, alpha, generator)."
    required = [name for name, field in plugin.model_fields.items() if field.is_required()]
    if required:
        return f"its option {required[0]} has no default. Give it one."
    return None


FRAMEWORKS = Registry("framework", _wrong)
"""The frameworks by the name that a config gives."""


def framework(name: str, *, replace: bool = False) -> Callable[[type], type]:
    """Decorates a class, so that ``SearchConfig(framework=name)`` finds it.

    Arguments:
        replace: take the name over if it is in use.

    Raises ConfigError if the name is in use, or the class is no framework.

    >>> @framework("lottery")
    ... class Lottery(Framework):
    ...     luck: float = 1.0
    ...     def draw(self, alpha, generator):
    ...         score = (self.luck * alpha).log_softmax(dim=1)
    ...         return Mask.sample(score.exp().multinomial(1, generator=generator)[:, 0], score)
    >>> make_framework("lottery", luck=2)
    Lottery(luck=2.0)
    """
    return FRAMEWORKS.register(name, replace=replace)


def make_framework(name: str, **options: Any) -> Framework:
    """A framework by name. Raises ConfigError for an unknown name or an impossible option.

    >>> make_framework("snas", temperature=0.5)
    SNAS(temperature=0.5, temperature_end=None)
    """
    kind = FRAMEWORKS[name]
    try:
        return kind(**options)
    except ValidationError as error:
        lines = [explain(wrong, "option", kind.model_fields) for wrong in error.errors()]
        raise ConfigError(f"framework {name!r}: " + "\n".join(lines)) from None


def check(framework: Framework, parameters: Mapping[str, Tensor]) -> None:
    """Does on the CPU what a step asks of a framework, so that mistakes show before any work.

    Arguments:
        framework: on its space.
        parameters: what it learns, at the start.

    Raises ConfigError: a method fails, a shape is wrong, or no cost would reach what is learned.
    """
    own = {key: p.detach().cpu().requires_grad_() for key, p in parameters.items()}
    try:
        _check(framework, own)
    except ConfigError as error:
        raise ConfigError(f"framework {type(framework).__name__}: {error}") from None
    except Exception as error:  # a framework of one's own is any code
        what = f"framework {type(framework).__name__} fails, {failure(type(framework), error)}"
        raise ConfigError(what) from error


def _check(framework: Framework, own: Mapping[str, Tensor]) -> None:
    mask = framework.mask(own, Generator().manual_seed(0))
    if not isinstance(mask, Mask):
        raise ConfigError(f"draw returns {type(mask).__name__}, not a Mask.")
    edges, operations = shape = len(framework.space.edges), len(framework.space.operations)
    restricted, state, loss = framework.restricted(own), framework.state(), torch.tensor(1.0)
    cost = torch.zeros(1, edges, operations)
    tensors = {f"{what} of its mask": getattr(mask, what) for what in _OF_MASK}
    tensors["probability"] = framework.probability(**restricted)
    tensors["cost"] = framework.cost(mask, cost, loss, **state)
    for what, tensor in tensors.items():
        if tuple(tensor.shape) != shape:
            raise ConfigError(f"{what} is {tuple(tensor.shape)}, not {shape}: (edges, operations).")
    penalty = framework.penalty(**restricted)
    if penalty is not None and penalty.shape != ():
        raise ConfigError(f"penalty is {tuple(penalty.shape)}, not a scalar.")
    if (then := set(framework.next_state(loss, **state))) != set(state):
        raise ConfigError(f"next_state returns {sorted(then)}, but state has {sorted(state)}.")
    pull_back(mask.score, torch.zeros_like(mask.score), list(own.values()))


_OF_MASK = ("weight", "score", "cost_weight")
