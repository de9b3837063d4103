"""What a framework is: whatever draws a mask, and says of itself what others need to know."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field
from torch import Generator, Tensor

from nascore.engine.mask import Mask
from nascore.engine.space import SearchSpace, Wiring
from nascore.errors import Checked, ConfigError, checked
from nascore.plugins import Registry

Share = Annotated[float, Field(ge=0, lt=1)]
LEARNERS = ("theta", "alpha")  # the weights of the supernet, and what the framework learns


@dataclass(frozen=True)
class Context:
    """All that a framework sees of a search, at one moment."""

    learned: Mapping[str, Tensor]  # what the framework learns, by name
    state: Mapping[str, Tensor] = field(default_factory=dict)  # what it remembers, by name
    generator: Generator | None = None  # of everything random
    learns: Collection[str] = ()  # of "theta" and "alpha", what learns in this step
    epoch: int = 0  # 1 is the first; 0 is before training
    epochs: int = 1  # of the whole search
    step: int = 0  # of the epoch, from 0
    space: SearchSpace | None = None  # says what an edge may take; None: everything
    mask: Mask | None = None  # what was drawn; from here on, None until a batch has been evaluated
    logits: Tensor | None = None  # (B, classes)
    labels: Tensor | None = None  # (B,)
    cost: Tensor | None = None  # the local cost, (cells, edges, operations)

    @property
    def alpha(self) -> Tensor:
        """(edges, operations); -inf, so with probability and gradient 0, for what is forbidden."""
        alpha = self.learned["alpha"]
        if self.space is None:
            return alpha
        return alpha.masked_fill(forbidden_operations(self.space, alpha.device), -torch.inf)

    @property
    def progress(self) -> float:
        """0 before training and in the first epoch, 1 in the last one and after."""
        if self.epoch <= 1 or self.epoch >= self.epochs:
            return float(self.epoch >= self.epochs)
        return (self.epoch - 1) / (self.epochs - 1)

    @property
    def loss(self) -> Tensor:
        """Mean loss of the batch, (), in nats."""
        return F.cross_entropy(self.logits, self.labels)


class Framework(Checked, ABC):
    """Draws masks. Only ``draw`` is required; the rest has the usual defaults.

    Fields of a subclass are its options: typed, with a default, and checked when it is made. A
    framework is a value: what it learns and what it remembers are tensors that the search keeps and
    hands to its methods in a context.

    >>> @framework("lottery")
    ... class Lottery(Framework):
    ...     luck: float = 1.0
    ...     def draw(self, context):
    ...         score = (self.luck * context.alpha).log_softmax(dim=1)
    ...         sampled = score.exp().multinomial(1, generator=context.generator)
    ...         return Mask.sample(sampled[:, 0], score)
    >>> Lottery(luck=2)
    Lottery(luck=2.0)
    """

    _kind = "option"
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dense: ClassVar[bool] = False  # every operation runs in each step, so all masks are alike
    unrolls: ClassVar[bool] = False  # draws from what it learns alone: theta's next step is defined
    separate: ClassVar[bool] = False  # in single level, theta and alpha learn by a mask for each
    normalised: ClassVar[bool] = True  # the probabilities of an edge sum to 1
    settings: ClassVar[Mapping[str, Any]] = {}  # fields of SearchConfig with a default of its own
    # What is recorded besides alpha: dimensions ("epoch" first), type, long name and unit, by name.
    recorded: ClassVar[Mapping[str, tuple]] = {}

    @abstractmethod
    def draw(self, context: Context) -> Mask:
        """A mask: what runs in this step, its weight and its score."""

    def parameters(self, alpha: Tensor, generator: Generator | None) -> dict[str, Tensor]:
        """What is learned, at the start, by name. The usual start is alpha, (edges, operations)."""
        return {"alpha": alpha}

    def optimiser(self, parameters: Sequence[Tensor], config: Any) -> torch.optim.Optimizer:
        """What moves the parameters, with the settings of a SearchConfig."""
        decay = config.arch_weight_decay
        return torch.optim.Adam(parameters, config.arch_lr, (0.5, 0.999), weight_decay=decay)

    def learns(self, epoch: int, epochs: int) -> Collection[str]:
        """What learns in an epoch, of "theta" and "alpha"."""
        return LEARNERS

    def probability(self, context: Context) -> Tensor:
        """Operation probabilities, (edges, operations); their argmax is the wiring."""
        return context.alpha.log_softmax(dim=1).exp()

    def penalty(self, context: Context) -> Tensor | None:
        """A scalar that is added to the loss of what is learned; None for none."""
        return None

    def cost(self, context: Context) -> Tensor:
        """What meets the score, (edges, operations): by default the local cost of all cells."""
        return context.cost.sum(dim=0)

    def state(self, space: SearchSpace) -> dict[str, Tensor]:
        """What is remembered from step to step, at the start, by name. No optimiser touches it."""
        return {}

    def next_state(self, context: Context) -> Mapping[str, Tensor]:
        """What is remembered after a step in which the architecture learned."""
        return context.state

    def choose(self, search: Any, batches: Sequence[tuple[Tensor, Tensor]]) -> Wiring | None:
        """The final wiring, where held-out images and labels decide it, not the probability."""
        return None

    def supernet_settings(self) -> dict[str, Any]:
        """Arguments that it asks the supernet to be made with."""
        return {}


@cache
def forbidden_operations(space: SearchSpace, device: torch.device) -> Tensor:
    """True where an edge may not take an operation, (edges, operations)."""
    rows = [[k not in row for k in range(len(space.operations))] for row in space.choices]
    return torch.tensor(rows, device=device)


def _wrong(plugin: Any) -> str | None:
    if not (isinstance(plugin, type) and issubclass(plugin, Framework)):
        return f"{plugin!r} is not a framework. Make it a class that inherits from Framework."
    if "draw" in plugin.__abstractmethods__:
        return f"{plugin.__qualname__} has no draw(self, context)."
    for name, option in plugin.model_fields.items():
        if option.is_required():
            return f"its option {name} has no default. Give it one."
    return None


FRAMEWORKS = Registry("framework", _wrong)  # by the name that a config gives
framework = FRAMEWORKS.register
"""Decorates a class, so that ``SearchConfig(framework=name)`` finds it."""


@checked
def make_framework(name: str, /, **options: Any) -> Framework:
    """A framework by name. Raises ConfigError for an unknown name or an impossible option."""
    kind = FRAMEWORKS[name]
    try:
        return kind(**options)
    except ConfigError as error:
        raise ConfigError(f"framework {name!r}: {error}") from None
