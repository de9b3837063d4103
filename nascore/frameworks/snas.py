from typing import Self

from pydantic import PositiveFloat
from torch import Generator, Tensor

from nascore.engine.mask import Mask
from nascore.engine.random import gumbel
from nascore.frameworks.base import Formulas, Framework, framework


@framework("snas")
class SNAS(Framework):
    """Random and dense: a relaxed sample, whose noise stays fixed while alpha is differentiated.

    Arguments:
        temperature: of the softmax, at the start.
        temperature_end: in the last epoch, reached geometrically. Default: no change.
    """

    temperature: PositiveFloat = 1.0
    temperature_end: PositiveFloat | None = None

    dense = True
    formulas = Formulas(
        mask="softmax((log p + Gumbel) / temperature)",
        score="log Z, pathwise",
        gradient="(C_m - Z_m sum_k C_k) / temperature",
        source="Xie et al., 2019 (arXiv:1812.09926)",
    )

    def at(self, progress: float) -> Self:
        if self.temperature_end is None:
            return self
        now = self.temperature ** (1 - progress) * self.temperature_end**progress
        return self.model_copy(update={"temperature": now})

    def draw(self, alpha: Tensor, generator: Generator | None) -> Mask:
        """A relaxed sample Z of softmax(alpha) and s = log Z, each (edges, operations)."""
        noisy = alpha.log_softmax(dim=1) + gumbel(alpha, generator)
        score = (noisy / self.temperature).log_softmax(dim=1)
        return Mask(score.detach().exp(), score)
