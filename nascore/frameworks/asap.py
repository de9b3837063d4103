from collections.abc import Collection

import torch
from pydantic import PositiveFloat
from torch import Tensor

from nascore.engine.space import SearchSpace
from nascore.frameworks.base import LEARNERS, Context, Mask, Share, forbidden_operations, framework
from nascore.frameworks.snas import SNAS


@framework("asap")
class ASAP(SNAS):
    """Annealed and pruned: DARTS at a falling temperature, where the improbable is cut for good.

    Alpha learns once the temperature is below ``grace``. After each of its steps, an operation is
    pruned whose probability was below threshold / N, N the operations that its edge may take. Those
    that are pruned still run, with weight 0. The defaults are the authors', but their temperature
    falls by 5 percent an epoch, whatever the length of the search.

    Source: Noy et al., 2020 (arXiv:1904.04123).
    """

    temperature: PositiveFloat = 1.6  # in the first epoch
    temperature_end: PositiveFloat = 0.1  # in the last, reached geometrically; theirs after 54
    grace: PositiveFloat = 1.0  # the temperature above which only theta learns
    threshold: Share = 0.4  # below 1, so that the most probable operation always stays

    unrolls = True
    recorded = {"alive": (("epoch", "edge", "operation"), "i1", "whether it is not pruned", "1")}

    def learns(self, epoch: int, epochs: int) -> Collection[str]:
        progress = Context({}, epoch=epoch, epochs=epochs).progress
        return LEARNERS if self.temperature_at(progress) < self.grace else ["theta"]

    def draw(self, context: Context) -> Mask:
        alpha = context.alpha.masked_fill(~context.state["alive"], -torch.inf)
        score = (alpha / self.temperature_at(context.progress)).log_softmax(dim=1)
        return Mask(score.detach().exp(), score)

    def probability(self, context: Context) -> Tensor:
        return self.draw(context).weight

    def state(self, space: SearchSpace) -> dict[str, Tensor]:
        return {"alive": ~forbidden_operations(space, torch.device("cpu"))}

    def next_state(self, context: Context) -> dict[str, Tensor]:
        z, alive = context.mask.weight, context.state["alive"]
        allowed = (context.alpha > -torch.inf).sum(dim=1, keepdim=True)
        return {"alive": alive & (z >= self.threshold / allowed)}
