import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("drnas")
class DrNAS(Framework):
    """Random and dense: Z is a sample of a Dirichlet distribution with concentration c.

    c = elu(alpha) + 1, Z_k = g_k / sum g with g_k of Gamma(c_k), and dg_k/dc_k at fixed quantile.
    The authors' derivative is the mean of this one over sum g, of which Z is independent.

    The distance to the anchor c = 1 is, by the authors' default, the weight decay of alpha: c is 1
    where alpha is 0. Their other one is a penalty, anchor KL(Dirichlet(c) | Dirichlet(1)), summed
    over edges. They start at the anchor: ``alpha_mean=0``. Below -4 or so, gammas are 0 in float32.

    Source: Chen et al., 2021 (arXiv:2006.10355).
    """

    anchor: NonNegativeFloat = 0.0  # weight of the divergence; theirs 1e-3, with no weight decay

    dense = True

    def draw(self, context: Context) -> Mask:
        alpha = context.alpha
        g = torch._standard_gamma(_concentration(alpha), generator=context.generator)
        score = g.log().masked_fill(alpha == -torch.inf, -torch.inf).log_softmax(dim=1)
        return Mask(score.detach().exp(), score)

    def probability(self, context: Context) -> Tensor:
        """The mean of Z."""
        alpha = context.alpha
        c = _concentration(alpha).masked_fill(alpha == -torch.inf, 0)
        return c / c.sum(dim=1, keepdim=True)

    def penalty(self, context: Context) -> Tensor | None:
        if not self.anchor:
            return None
        alpha = context.alpha
        allowed = alpha > -torch.inf
        c = _concentration(alpha).where(allowed, 1)  # 1 adds nothing below
        total = (c * allowed).sum(dim=1, keepdim=True)
        terms = (c - 1) * (c.digamma() - total.digamma()) - c.lgamma()
        count = allowed.sum(dim=1, keepdim=True, dtype=alpha.dtype)
        return self.anchor * (terms.sum() + (total.lgamma() - count.lgamma()).sum())


def _concentration(alpha: Tensor) -> Tensor:
    """elu(alpha) + 1, which rounding would make 0 below -17, and with it its gradient NaN."""
    low = alpha.clamp(-80, 1).exp()  # 1, for clamp has no slope at its bounds
    return torch.where(alpha > 0, alpha + 1, low)
