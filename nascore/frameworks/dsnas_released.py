from dataclasses import replace

from nascore.engine.mask import Mask
from nascore.frameworks.base import Context, Formulas, framework
from nascore.frameworks.dsnas import DSNAS


@framework("dsnas-released")
class ReleasedDSNAS(DSNAS):
    """DSNAS with the score of its released code, which takes the edges together.

    The score is E log sum_j P_j, E the number of edges and P_j the probability of what was drawn
    on edge j, in place of sum_j log P_j. Each edge still gets its own cost, so its gradient is the
    usual one times P_i / mean_j P_j: an edge that draws what is rare there learns less from it.
    """

    formulas = Formulas(
        mask="one-hot sample of p",
        score="E log sum_j P_j, P_j that of the sampled one of edge j, E edges",
        gradient="P_i / mean_j P_j C_k (delta_km - p_m) on edge i, k the sampled one",
        source="Xie et al., 2021 (arXiv:2009.01272), released code",
    )

    def draw(self, context: Context) -> Mask:
        """A one-hot sample Z of p = softmax(alpha) and s, each (edges, operations)."""
        mask = super().draw(context)
        drawn = (mask.weight * mask.score.detach().exp()).sum(dim=1, keepdim=True)  # P, (edges, 1)
        return replace(mask, score=drawn / drawn.mean() * mask.score)
