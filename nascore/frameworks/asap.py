from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from nascore.engine.mask import Mask
from nascore.frameworks.base import LEARNERS, Context, Formulas, forbidden_operations, framework
from nascore.frameworks.snas import SNAS


@framework("asap")
class ASAP(SNAS):
    """Annealed and pruned: DARTS at a falling temperature, where the improbable is cut for good.

    Alpha learns once the temperature is below ``grace``. After each of its steps, an operation is
    pruned whose probability is below threshold / N, N the operations that its edge may take. Those
    that are pruned still run, with weight 0.

    The authors' temperature falls by 5 percent an epoch, whatever the length of the search.

    Arguments:
        temperature: in the first epoch, theirs 1.6.
        temperature_end: in the last epoch, reached geometrically; theirs after 54 epochs.
        grace: the temperature above which only theta learns, theirs 1.
        threshold: theirs 0.4. Below 1, the most probable operation always stays.
    """

    temperature: PositiveFloat = 1.6
    temperature_end: PositiveFloat = 0.1
    grace: PositiveFloat = 1.0
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.4

    unrolls = True
    formulas = Formulas(
        mask="softmax(alpha / temperature) over what is not pruned",
        score="log Z",
        gradient="(C_m - Z_m sum_k C_k) / temperature",
        source="Noy et al., 2019 (arXiv:1904.04123)",
    )
    recorded: ClassVar[Mapping[str, tuple]] = {
        "alive": (("epoch", "edge", "operation"), "i1", "whether it is not pruned", "1")
    }

    def learns(self, epoch: int, epochs: int) -> Collection[str]:
        progress = Context({}, epoch=epoch, epochs=epochs).progress
        return LEARNERS if self.temperature_at(progress) < self.grace else ["theta"]

    def draw(self, context: Context) -> Mask:
        """Z, a softmax over what is alive, and s = log Z, each (edges, operations)."""
        alpha = context.alpha.masked_fill(~context.state["alive"], -torch.inf)
        score = (alpha / self.temperature_at(context.progress)).log_softmax(dim=1)
        return Mask(score.detach().exp(), score)

    def probability(self, context: Context) -> Tensor:
        return self.draw(context).weight

    def state(self) -> dict[str, Tensor]:
        return {"alive": ~forbidden_operations(self.space, torch.device("cpu"))}

    def next_state(self, context: Context) -> dict[str, Tensor]:
        z, alive = context.mask.weight, context.state["alive"]
        allowed = (~forbidden_operations(self.space, z.device)).sum(dim=1, keepdim=True)
        return {"alive": alive & (z >= self.threshold / allowed)}
