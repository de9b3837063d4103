from pydantic import PositiveFloat

from nascore.engine.random import gumbel
from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("snas")
class SNAS(Framework):
    """Random and dense: a relaxed sample, whose noise stays fixed while alpha is differentiated.

    dL/dalpha_m = (C_m - Z_m sum_k C_k) / temperature over the operations k of an edge.

    Source: Xie et al., 2019 (arXiv:1812.09926).
    """

    temperature: PositiveFloat = 1.0  # of the softmax, at the start
    temperature_end: PositiveFloat | None = None  # in the last epoch, reached geometrically

    dense = True

    def temperature_at(self, progress: float) -> float:
        if self.temperature_end is None:
            return self.temperature
        return self.temperature ** (1 - progress) * self.temperature_end**progress

    def draw(self, context: Context) -> Mask:
        alpha = context.alpha
        noisy = alpha.log_softmax(dim=1) + gumbel(alpha, context.generator)
        score = (noisy / self.temperature_at(context.progress)).log_softmax(dim=1)
        return Mask(score.detach().exp(), score)
