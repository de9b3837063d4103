"""What a framework is: whatever draws a mask, and says of itself what others need to know."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from torch import Generator, Tensor

from nascore.engine.mask import Mask
from nascore.engine.space import SearchSpace
from nascore.errors import ConfigError, checked, explain
from nascore.plugins import Registry


class Formulas(NamedTuple):
    """A framework edge by edge, with k and m two operations of the edge and p = softmax(alpha)."""

    mask: str
    score: str
    gradient: str
    source: str


class Framework(BaseModel, ABC):
    """Draws masks. Only ``draw`` is required; the rest has the usual defaults.

    Fields of a subclass are its options: typed, with a default, and checked when it is made. A
    framework is a value: what it learns and what it remembers are tensors that the search keeps and
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
    """What is recorded besides alpha: by name, its dimensions ("epoch" first), type, long name and
    unit."""

    @abstractmethod
    def draw(self, alpha: Tensor, generator: Generator | None) -> Mask:
        """A mask.

        Arguments:
            alpha: (edges, operations), -inf where an edge may not take an operation. A framework
                that learns more gets each of its parameters by name, here and below.
            generator: of everything random.
        """

    def at(self, progress: float) -> Self:
        """The framework at a moment of the search: 0 in the first epoch, 1 in the last."""
        return self

    def parameters(self, alpha: Tensor) -> dict[str, Tensor]:
        """What is learned, at the start, by name. The usual start is alpha, (edges, operations)."""
        return {"alpha": alpha}

    def probability(self, alpha: Tensor, **others: Tensor) -> Tensor:
        """What is recorded, and where the wiring is read: (edges, operations) from 0 to 1."""
        return alpha.log_softmax(dim=1).exp()

    def penalty(self, **parameters: Tensor) -> Tensor | None:
        """A scalar that is added to the loss of what is learned; None for none."""
        return None

    def cost(self, mask: Mask, cost: Tensor, loss: Tensor, **state: Tensor) -> Tensor:
        """What meets the score, (edges, operations): by default the local cost of all cells.

        Arguments:
            cost: the local cost, (cells, edges, operations).
            loss: mean loss of the batch, ().
            state: what is remembered.
        """
        return cost.sum(dim=0)

    def state(self) -> dict[str, Tensor]:
        """What is remembered from step to step, at the start, by name."""
        return {}

    def next_state(self, loss: Tensor, **state: Tensor) -> dict[str, Tensor]:
        """What is remembered after a step in which the architecture learned; loss is ()."""
        return state

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
        """A mask from what has been learned, in which no edge takes what it may not."""
        return self.draw(**self.restricted(parameters), generator=generator)

    def restricted(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters as ``draw`` takes them: alpha is -inf where an operation is not allowed.

        So its probability is 0, and its gradient exactly 0.
        """
        if "alpha" not in parameters:
            return dict(parameters)
        alpha = parameters["alpha"]
        forbidden = _forbidden(self.space.choices, alpha.shape[1], alpha.device)
        return {**parameters, "alpha": alpha.masked_fill(forbidden, -torch.inf)}


@cache
def _forbidden(choices: tuple[tuple[int, ...], ...], operations: int, device) -> Tensor:
    """True where an edge may not take an operation, (edges, operations)."""
    rows = [[k not in row for k in range(operations)] for row in choices]
    return torch.tensor(rows, device=device)


def _wrong(plugin: Any) -> str | None:
    if not (isinstance(plugin, type) and issubclass(plugin, Framework)):
        return f"{plugin!r} is not a framework. Make it a class that inherits from Framework."
    if "draw" in plugin.__abstractmethods__:
        return f"{plugin.__qualname__} has no draw(self, alpha, generator)."
    for name, option in plugin.model_fields.items():
        if option.is_required():
            return f"its option {name} has no default. Give it one."
    return None


FRAMEWORKS = Registry("framework", _wrong, home="nascore.frameworks")
"""The frameworks by the name that a config gives: each in a file of its own."""


@checked
def framework(name: str, *, replace: bool = False) -> Callable[[type], type]:
    """Decorates a class, so that ``SearchConfig(framework=name)`` finds it.

    Raises ConfigError if the class is no framework, or the name is in use and not to be replaced.

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


@checked
def make_framework(name: str, **options: Any) -> Framework:
    """A framework by name. Raises ConfigError for an unknown name or an impossible option."""
    kind = FRAMEWORKS[name]
    try:
        return kind(**options)
    except ValidationError as error:
        lines = [explain(wrong, "option", kind.model_fields) for wrong in error.errors()]
        raise ConfigError(f"framework {name!r}: " + "\n".join(lines)) from None
