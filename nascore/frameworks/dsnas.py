from dataclasses import replace

from nascore.engine.random import gumbel
from nascore.frameworks.base import Context, Formulas, Framework, Mask, framework


@framework("dsnas")
class DSNAS(Framework):
    """Discrete: one sampled operation on each edge runs."""

    formulas = Formulas(
        mask="one-hot sample of $p$",
        score=r"$\log p$",
        gradient=r"$C_k (\delta_{km} - p_m)$, $k$ the sampled one",
        source="Hu et al., 2020 (arXiv:2002.09128)",
    )

    def draw(self, context: Context) -> Mask:
        score = context.alpha.log_softmax(dim=1)
        return Mask.sample((score.detach() + gumbel(score, context.generator)).argmax(dim=1), score)


@framework("dsnas-released")
class ReleasedDSNAS(DSNAS):
    """DSNAS with the score of its released code, which takes the edges together.

    The score is E log sum_j P_j, E the number of edges and P_j the probability of what was drawn
    on edge j, in place of sum_j log P_j. Each edge still gets its own cost, so its gradient is the
    usual one times P_i / mean_j P_j: an edge that draws what is rare there learns less from it.
    """

    formulas = DSNAS.formulas._replace(
        score=r"$E \log \sum_j P_j$, $P_j$ that of the sampled one of edge $j$, $E$ edges",
        gradient=r"$C_k (\delta_{km} - p_m)\, P_i / \mathrm{mean}_j P_j$ on edge $i$, "
        "$k$ the sampled one",
        source="Xie et al., 2021 (arXiv:2009.01272), released code",
    )

    def draw(self, context: Context) -> Mask:
        mask = super().draw(context)
        drawn = (mask.weight * mask.score.detach().exp()).sum(dim=1, keepdim=True)  # P, (edges, 1)
        return replace(mask, score=drawn / drawn.mean() * mask.score)
