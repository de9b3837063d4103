from nascore.engine.mask import Mask
from nascore.engine.random import gumbel
from nascore.frameworks.base import Context, Formulas, Framework, framework


@framework("dsnas")
class DSNAS(Framework):
    """Discrete: one sampled operation on each edge runs."""

    formulas = Formulas(
        mask="one-hot sample of p",
        score="log p",
        gradient="C_k (delta_km - p_m), k the sampled one",
        source="Hu et al., 2020 (arXiv:2002.09128)",
    )

    def draw(self, context: Context) -> Mask:
        """A one-hot sample Z of p = softmax(alpha) and s = log p, each (edges, operations)."""
        score = context.alpha.log_softmax(dim=1)
        return Mask.sample((score.detach() + gumbel(score, context.generator)).argmax(dim=1), score)
