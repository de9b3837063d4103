from dataclasses import replace

from nascore.engine.random import gumbel
from nascore.frameworks.base import Context, Framework, Mask, framework


@framework("dsnas")
class DSNAS(Framework):
    """Discrete: one sampled operation on each edge runs.

    dL/dalpha_m = C_k (delta_km - p_m), with p = softmax(alpha) and k the sampled one.

    Source: Hu et al., 2020 (arXiv:2002.09128).
    """

    def draw(self, context: Context) -> Mask:
        score = context.alpha.log_softmax(dim=1)
        return Mask.sample((score.detach() + gumbel(score, context.generator)).argmax(dim=1), score)


@framework("dsnas-released")
class ReleasedDSNAS(DSNAS):
    """DSNAS with the score of its released code, which takes the edges together.

    The score is E log sum_j P_j, E the number of edges and P_j the probability of what was drawn
    on edge j, in place of sum_j log P_j. Each edge still gets its own cost, so its gradient is the
    usual one times P_i / mean_j P_j: an edge that draws what is rare there learns less from it.

    Source: Xie et al., 2021 (arXiv:2009.01272), released code.
    """

    def draw(self, context: Context) -> Mask:
        mask = super().draw(context)
        drawn = (mask.weight * mask.score.detach().exp()).sum(dim=1, keepdim=True)  # P, (edges, 1)
        return replace(mask, score=drawn / drawn.mean() * mask.score)
