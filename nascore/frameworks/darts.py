from nascore.frameworks.base import Context, Formulas, Framework, Mask, framework


@framework("darts")
class DARTS(Framework):
    """Deterministic and dense: every operation runs, weighted by its probability.

    Bi-level search takes the cost at theta (order 1) or after a virtual step of theta (order 2, see
    unrolled.py).
    """

    dense = True
    unrolls = True
    formulas = Formulas(
        mask=r"$\mathrm{softmax}(\alpha)$",
        score=r"$\log Z$",
        gradient=r"$C_m - Z_m \sum_k C_k$",
        source="Liu et al., 2019 (arXiv:1806.09055)",
    )

    def draw(self, context: Context) -> Mask:
        score = context.alpha.log_softmax(dim=1)
        return Mask(score.detach().exp(), score)
